use super::*;
use crate::domain::CaKeyPlacement;

fn kubeadm(machines: u8) -> ControlPlane {
    let mut control_plane = control_plane(machines);
    control_plane.profile = Profile::Kubeadm;
    control_plane.ca_keys_on_nodes = CaKeyPlacement::All;
    control_plane.os_preparation = false;
    control_plane
}

fn paths(files: &[NodeFile]) -> Vec<&str> {
    files.iter().map(|file| file.path.as_str()).collect()
}

const STANDARD: [&str; 25] = [
    "/etc/kubernetes/controller-manager.conf",
    "/etc/kubernetes/kubelet.conf",
    "/etc/kubernetes/manifests/etcd.yaml",
    "/etc/kubernetes/manifests/kube-apiserver.yaml",
    "/etc/kubernetes/manifests/kube-controller-manager.yaml",
    "/etc/kubernetes/manifests/kube-scheduler.yaml",
    "/etc/kubernetes/pki/apiserver-etcd-client.crt",
    "/etc/kubernetes/pki/apiserver-etcd-client.key",
    "/etc/kubernetes/pki/apiserver-kubelet-client.crt",
    "/etc/kubernetes/pki/apiserver-kubelet-client.key",
    "/etc/kubernetes/pki/apiserver.crt",
    "/etc/kubernetes/pki/apiserver.key",
    "/etc/kubernetes/pki/ca.crt",
    "/etc/kubernetes/pki/ca.key",
    "/etc/kubernetes/pki/etcd/ca.crt",
    "/etc/kubernetes/pki/etcd/peer.crt",
    "/etc/kubernetes/pki/etcd/peer.key",
    "/etc/kubernetes/pki/etcd/server.crt",
    "/etc/kubernetes/pki/etcd/server.key",
    "/etc/kubernetes/pki/front-proxy-ca.crt",
    "/etc/kubernetes/pki/front-proxy-client.crt",
    "/etc/kubernetes/pki/front-proxy-client.key",
    "/etc/kubernetes/pki/sa.key",
    "/etc/kubernetes/pki/sa.pub",
    "/etc/kubernetes/scheduler.conf",
];

const KUBEADM_ONLY: [&str; 6] = [
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/pki/etcd/ca.key",
    "/etc/kubernetes/pki/etcd/healthcheck-client.crt",
    "/etc/kubernetes/pki/etcd/healthcheck-client.key",
    "/etc/kubernetes/pki/front-proxy-ca.key",
    "/etc/kubernetes/super-admin.conf",
];

const KUBELET: [&str; 4] = [
    "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf",
    "/var/lib/kubelet/config.yaml",
    "/var/lib/kubelet/instance-config.yaml",
    "/var/lib/kubelet/kubeadm-flags.env",
];

#[test]
fn profile_standard_has_least_privilege_files() {
    let mut control_plane = control_plane(3);
    control_plane.os_preparation = false;
    let expected: Vec<&str> = STANDARD.into_iter().chain(KUBELET).collect();
    for machine in &control_plane.machines {
        assert_eq!(paths(&render(&control_plane, machine)), expected);
    }
    control_plane.ca_keys_on_nodes = CaKeyPlacement::All;
    let files = render(&control_plane, &control_plane.machines[0]);
    let all = paths(&files);
    assert!(all.contains(&"/etc/kubernetes/pki/etcd/ca.key"));
    assert!(all.contains(&"/etc/kubernetes/pki/front-proxy-ca.key"));
}

#[test]
fn profile_kubeadm_has_22_pki_files_and_five_kubeconfigs() {
    let control_plane = kubeadm(3);
    let mut expected: Vec<&str> = STANDARD
        .into_iter()
        .chain(KUBEADM_ONLY)
        .chain(KUBELET)
        .collect();
    expected.sort_unstable();
    let files = render(&control_plane, &control_plane.machines[0]);
    assert_eq!(paths(&files), expected);
    let count = |f: &dyn Fn(&str) -> bool| paths(&files).into_iter().filter(|p| f(p)).count();
    assert_eq!(count(&|path| path.starts_with("/etc/kubernetes/pki/")), 22);
    let kubeconfig = |path: &str| path.starts_with("/etc/kubernetes/") && path.ends_with(".conf");
    assert_eq!(count(&kubeconfig), 5);
    // Only `kubeadm init` writes super-admin.conf.
    expected.retain(|path| *path != "/etc/kubernetes/super-admin.conf");
    for machine in &control_plane.machines[1..] {
        assert_eq!(paths(&render(&control_plane, machine)), expected);
    }
}

#[test]
fn modes_are_those_of_kubeadm() {
    let control_plane = kubeadm(1);
    for file in render(&control_plane, &control_plane.machines[0]) {
        let path = file.path.as_str();
        let open = path.ends_with(".crt")
            || path.starts_with("/var/lib/kubelet/")
            || path.starts_with("/etc/systemd/");
        assert_eq!(file.mode, if open { 0o644 } else { 0o600 }, "{path}");
        assert_eq!(file.owner, "root:root");
    }
}

#[test]
fn keys_are_only_in_files_that_nobody_else_reads() {
    let control_plane = kubeadm(1);
    for file in render(&control_plane, &control_plane.machines[0]) {
        let text = String::from_utf8(file.content.to_vec()).unwrap();
        assert!(
            !text.contains("key of") || file.mode == 0o600,
            "{}",
            file.path
        );
        assert!(!format!("{file:?}").contains("key of"));
    }
}

#[test]
fn operating_system_files_come_on_request() {
    let mut with = control_plane(1);
    with.os_preparation = true;
    let mut without = with.clone();
    without.os_preparation = false;
    let (with_files, without_files) = (texts(&with), texts(&without));
    let added: Vec<&str> = with_files
        .keys()
        .filter(|path| !without_files.contains_key(*path))
        .map(String::as_str)
        .collect();
    assert_eq!(
        added,
        [
            "/etc/containerd/config.toml",
            "/etc/modules-load.d/kubernetes.conf",
            "/etc/sysctl.d/99-kubernetes.conf",
            "/etc/systemd/system/kubelet.service",
        ]
    );
    let containerd = &with_files["/etc/containerd/config.toml"];
    assert!(containerd.contains("sandbox = 'registry.k8s.io/pause:3.10.2'"));
    assert!(containerd.contains("SystemdCgroup = true"));
    with.kubelet
        .config
        .insert("cgroupDriver".into(), "cgroupfs".into());
    assert!(texts(&with)["/etc/containerd/config.toml"].contains("SystemdCgroup = false"));
    with.machines[0].cri_socket = "unix:///var/run/crio/crio.sock".into();
    assert!(!texts(&with).contains_key("/etc/containerd/config.toml"));
}

#[test]
fn kubeconfigs_go_to_the_right_server() {
    let mut control_plane = kubeadm(1);
    let server = |control_plane: &ControlPlane, name: &str| {
        let text = &texts(control_plane)[&format!("/etc/kubernetes/{name}.conf")];
        let value: Value = serde_saphyr::from_str(text).unwrap();
        value["clusters"][0]["cluster"]["server"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    for name in ["kubelet", "controller-manager", "scheduler"] {
        assert_eq!(server(&control_plane, name), "https://198.18.0.11:6443");
    }
    for name in ["admin", "super-admin"] {
        assert_eq!(
            server(&control_plane, name),
            "https://api.prod.example.net:6443"
        );
    }
    control_plane.endpoint = None;
    assert_eq!(server(&control_plane, "admin"), "https://198.18.0.11:6443");
    control_plane.machines[0].address = "fd00::11".parse().unwrap();
    control_plane.machines[0].bind_port = 7443;
    assert_eq!(server(&control_plane, "kubelet"), "https://[fd00::11]:7443");
}

#[test]
fn kubeconfig_names_that_yaml_could_misread_stay_text() {
    let client = pair("client");
    let text = kubeconfig(&Kubeconfig {
        cluster: "on",
        server: "https://198.18.0.11:6443",
        ca_pem: "ca\n",
        user: "12",
        client: &client,
    })
    .unwrap();
    let value: Value = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(value["clusters"][0]["name"], "on");
    assert_eq!(value["current-context"], "12@on");
    assert_eq!(
        value["users"][0]["user"]["client-key-data"],
        "a2V5IG9mIGNsaWVudAo="
    );
}

#[test]
fn cluster_info_names_nobody() {
    assert_eq!(
        cluster_info("https://api:6443", "ca").unwrap(),
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: Y2E=\n    \
         server: https://api:6443\n  name: \"\"\ncontexts: null\ncurrent-context: \"\"\n\
         kind: Config\nusers: null\n"
    );
}

#[test]
fn a_missing_certificate_is_an_error_that_names_it() {
    let control_plane = control_plane(1);
    let machine = &control_plane.machines[0];
    for leaf in Leaf::ALL {
        let mut leaves = leaves();
        leaves.remove(&leaf);
        let founding = founding(&control_plane);
        let result = machine_files(&control_plane, machine, &founding, &cluster(), &leaves);
        let unused = matches!(
            leaf,
            Leaf::AdminKubeconfig | Leaf::SuperAdminKubeconfig | Leaf::EtcdHealthcheckClient
        );
        match result {
            Ok(_) => assert!(unused, "{leaf:?}"),
            Err(error) => {
                assert!(!unused, "{leaf:?}");
                assert!(error.to_string().contains("cp-1"), "{error}");
                assert!(error.to_string().contains(&format!("{leaf:?}")), "{error}");
            }
        }
    }
}

#[test]
fn certificates_directory_moves_files_and_flags_together() {
    let mut control_plane = control_plane(1);
    control_plane.certificates_dir = "/srv/pki".to_owned();
    let files = texts(&control_plane);
    assert!(files.contains_key("/srv/pki/etcd/peer.key"));
    for (path, text) in files {
        assert!(!path.starts_with("/etc/kubernetes/pki"), "{path}");
        assert!(!text.contains("/etc/kubernetes/pki"), "{path}");
    }
}
