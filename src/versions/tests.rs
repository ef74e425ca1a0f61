use super::*;
use crate::domain::KubeVersion;

fn version(text: &str) -> KubeVersion {
    text.parse().unwrap()
}

#[test]
fn every_patch_of_a_supported_minor_has_tags() {
    for patch in ["v1.37.0", "v1.37.1", "v1.37.42"] {
        let release = release(version(patch)).unwrap();
        assert_eq!(release.etcd_tag, "3.7.0-0");
        assert_eq!(release.etcd_version(), "3.7.0");
        assert_eq!(release.core_dns_tag, "v1.14.6");
    }
}

#[test]
fn unknown_minors_are_refused_with_those_that_are_known() {
    for other in ["v1.36.3", "v1.38.0", "v2.37.0"] {
        let error = release(version(other)).unwrap_err().to_string();
        assert!(error.contains(other), "{error}");
        assert!(error.contains("v1.37.x"), "{error}");
    }
    assert_eq!(supported_minors(), [37]);
}

#[test]
fn core_dns_has_a_folder_on_the_default_registry_only() {
    let release = release(version("v1.37.1")).unwrap();
    let image = |repository, own, tag| core_dns_image(repository, own, tag, release);
    assert_eq!(
        image(DEFAULT_REPOSITORY, None, None),
        "registry.k8s.io/coredns/coredns:v1.14.6"
    );
    assert_eq!(
        image("example.net/k8s", None, None),
        "example.net/k8s/coredns:v1.14.6"
    );
    assert_eq!(
        image("example.net/k8s", Some(DEFAULT_REPOSITORY), Some("v1.2.3")),
        "registry.k8s.io/coredns/coredns:v1.2.3"
    );
    assert_eq!(
        image(DEFAULT_REPOSITORY, Some("example.net/dns"), None),
        "example.net/dns/coredns:v1.14.6"
    );
    assert_eq!(
        image("example.net/k8s", Some(""), None),
        "example.net/k8s/coredns:v1.14.6"
    );
}

#[test]
fn other_images_follow_the_repository() {
    let release = release(version("v1.37.1")).unwrap();
    assert_eq!(
        kubernetes_image("example.net/k8s", "kube-proxy", version("v1.37.1")),
        "example.net/k8s/kube-proxy:v1.37.1"
    );
    assert_eq!(
        etcd_image("example.net/k8s", None, release),
        "example.net/k8s/etcd:3.7.0-0"
    );
    assert_eq!(
        etcd_image("example.net/k8s", Some("3.7.3-0"), release),
        "example.net/k8s/etcd:3.7.3-0"
    );
    assert_eq!(
        pause_image(
            DEFAULT_REPOSITORY,
            kubelet_release(version("v1.37.1")).unwrap()
        ),
        "registry.k8s.io/pause:3.10.2"
    );
}

/// kubeadm `PauseVersion` and `GetKubeletFlags` (`phases/kubelet/flags.go`) of each minor.
#[test]
fn kubelets_may_be_three_minors_older() {
    for (text, pause_tag, pause_flag) in [
        ("v1.34.0", "3.10.1", true),
        ("v1.34.4", "3.10.1", true),
        ("v1.35.4", "3.10.1", false),
        ("v1.36.1", "3.10.2", false),
        ("v1.37.1", "3.10.2", false),
    ] {
        let kubelet = kubelet_release(version(text)).unwrap();
        assert_eq!(
            (kubelet.pause_tag, kubelet.pause_flag),
            (pause_tag, pause_flag),
            "{text}"
        );
    }
    assert_eq!(kubelet_minors(), [34, 35, 36, 37]);
    let newest = supported_minors().into_iter().max();
    assert_eq!(kubelet_minors().into_iter().max(), newest);
    let error = kubelet_release(version("v1.33.9")).unwrap_err().to_string();
    assert!(
        error.contains("v1.34.x, v1.35.x, v1.36.x, v1.37.x"),
        "{error}"
    );
}
