use serde_json::json;

use super::*;
use crate::crd::PatchType;
use crate::domain::{KubeletPatch, PatchChange};

fn flags(control_plane: &ControlPlane) -> String {
    texts(control_plane)["/var/lib/kubelet/kubeadm-flags.env"].clone()
}

fn config(control_plane: &ControlPlane) -> Value {
    serde_saphyr::from_str(&texts(control_plane)["/var/lib/kubelet/config.yaml"]).unwrap()
}

#[test]
fn flags_are_empty_without_a_reason() {
    let mut control_plane = control_plane(1);
    assert_eq!(flags(&control_plane), "KUBELET_KUBEADM_ARGS=\"\"\n");
    control_plane.machines[0].hostname = Some("cp-1".to_owned());
    assert_eq!(flags(&control_plane), "KUBELET_KUBEADM_ARGS=\"\"\n");
    control_plane.machines[0].hostname = Some("host-17".to_owned());
    assert_eq!(
        flags(&control_plane),
        "KUBELET_KUBEADM_ARGS=\"--hostname-override=cp-1\"\n"
    );
}

#[test]
fn a_machines_own_flags_replace_the_clusters() {
    let mut control_plane = control_plane(1);
    control_plane.kubelet.extra_args = vec![arg("v", "2"), arg("max-pods", "9"), arg("v", "3")];
    control_plane.machines[0].kubelet_extra_args =
        vec![arg("node-ip", "198.18.0.11"), arg("v", "5")];
    assert_eq!(
        flags(&control_plane),
        "KUBELET_KUBEADM_ARGS=\"--max-pods=9 --node-ip=198.18.0.11 --v=5\"\n"
    );
}

#[test]
fn flags_are_quoted_as_go_does() {
    let mut control_plane = control_plane(1);
    control_plane.kubelet.extra_args = vec![arg("a", "b\"c\\d\n\t\x01\x7f\u{85}é")];
    assert_eq!(
        flags(&control_plane),
        "KUBELET_KUBEADM_ARGS=\"--a=b\\\"c\\\\d\\n\\t\\x01\\x7f\\u0085é\"\n"
    );
}

#[test]
fn what_belongs_to_one_machine_is_not_shared() {
    let mut control_plane = control_plane(1);
    control_plane.machines[0].resolv_conf = Some("/run/systemd/resolve/resolv.conf".to_owned());
    let shared = kubelet_configuration(&control_plane).unwrap();
    assert_eq!(shared["containerRuntimeEndpoint"], "");
    assert_eq!(shared.get("resolvConf"), None);
    let own = config(&control_plane);
    assert_eq!(
        own["containerRuntimeEndpoint"],
        "unix:///run/containerd/containerd.sock"
    );
    assert_eq!(own["resolvConf"], "/run/systemd/resolve/resolv.conf");
    assert_eq!(
        texts(&control_plane)["/var/lib/kubelet/instance-config.yaml"],
        "containerRuntimeEndpoint: \"unix:///run/containerd/containerd.sock\"\n"
    );
}

#[test]
fn user_fields_go_over_the_defaults_field_by_field() {
    let mut control_plane = control_plane(1);
    let user = json!({
        "apiVersion": "other/v1",
        "authentication": {"anonymous": {"enabled": true}, "x509": null},
        "authorization": {"mode": ""},
        "clusterDNS": ["198.18.0.53"],
        "evictionHard": {"memory.available": "5%"},
        "kind": "Other",
        "rotateCertificates": false,
        "staticPodPath": "",
        "unknown": [1, null],
    });
    control_plane.kubelet.config = serde_json::from_value(user).unwrap();
    let config = kubelet_configuration(&control_plane).unwrap();
    assert_eq!(config["apiVersion"], "kubelet.config.k8s.io/v1beta1");
    assert_eq!(config["kind"], "KubeletConfiguration");
    assert_eq!(config["authentication"]["anonymous"]["enabled"], true);
    assert_eq!(config["authentication"]["webhook"]["enabled"], true);
    assert_eq!(
        config["authentication"]["x509"]["clientCAFile"],
        "/etc/kubernetes/pki/ca.crt"
    );
    assert_eq!(config["authorization"]["mode"], "Webhook");
    assert_eq!(config["clusterDNS"], json!(["198.18.0.53"]));
    assert_eq!(config["evictionHard"], json!({"memory.available": "5%"}));
    assert_eq!(config["rotateCertificates"], true);
    assert_eq!(config["staticPodPath"], "/etc/kubernetes/manifests");
    assert_eq!(config["unknown"], json!([1, null]));
}

#[test]
fn dns_is_the_tenth_service_address() {
    let mut control_plane = control_plane(1);
    let dns = |cp: &ControlPlane| kubelet_configuration(cp).map(|c| c["clusterDNS"].clone());
    assert_eq!(dns(&control_plane).unwrap(), json!(["10.96.0.10"]));
    control_plane.service_cidrs = vec!["10.96.0.0/29".parse().unwrap()];
    let error = dns(&control_plane).unwrap_err().to_string();
    assert!(
        error.contains("serviceCIDRs") && error.contains("10.96.0.0/29"),
        "{error}"
    );
}

fn patched(kind: PatchType, text: &str) -> Result<Value, String> {
    let mut control_plane = control_plane(1);
    let changes = PatchChange::parse(kind, text).unwrap().into_iter();
    let path = "spec.patches[0]".to_owned();
    let with_path = |change| KubeletPatch {
        path: path.clone(),
        change,
    };
    control_plane.machines[0].kubelet_patches = changes.map(with_path).collect();
    let host = (&control_plane.machines[0]).into();
    let file = crate::manifests::kubelet::config_file(&control_plane, host)
        .map_err(|error| error.to_string())?;
    Ok(serde_saphyr::from_str(&file).unwrap())
}

#[test]
fn patches_are_applied_before_the_instance_configuration() {
    let text = "{maxPods: 7, containerRuntimeEndpoint: x, resolvConf: /etc/own}";
    let found = patched(PatchType::Strategic, text).unwrap();
    assert_eq!(found["maxPods"], 7);
    assert_eq!(found["resolvConf"], "/etc/own");
    assert_eq!(
        found["containerRuntimeEndpoint"],
        "unix:///run/containerd/containerd.sock"
    );
}

#[test]
fn a_patch_that_does_not_fit_is_named() {
    for (kind, text, wanted) in [
        (PatchType::Json, "[{op: remove, path: /absent}]", "/absent"),
        (
            PatchType::Json,
            "[{op: replace, path: '', value: 1}]",
            "the result is no KubeletConfiguration",
        ),
        (
            PatchType::Merge,
            "{kind: Pod}",
            "the result is no KubeletConfiguration",
        ),
        (
            PatchType::Strategic,
            "{$patch: delete}",
            "the result is no KubeletConfiguration",
        ),
    ] {
        let error = patched(kind, text).unwrap_err();
        let start = "spec.patches[0]: cannot be applied to the kubelet's configuration: ";
        assert!(
            error.starts_with(start) && error.contains(wanted),
            "{error}"
        );
        assert!(error.ends_with("; correct or remove it"), "{error}");
    }
}
