//! The rendered files of a worker against those that the real `kubeadm join` writes.
//!
//! Its dry run knows one cluster, built in: the default settings behind 192.168.0.101:6443, and one
//! token. The same cluster and token are given to our renderer; every file has the same mode and the
//! same content, YAML as values (the writers quote differently) and all else to the byte.

#[path = "testbed/mod.rs"]
mod testbed;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use seedbed::controllers::node_pool::resolve::{Inputs, resolve};
use seedbed::crd::{ControlPlane, NodePool};
use seedbed::domain::{self, HostPort};
use seedbed::machine_config::{MachineConfig, worker_config};
use seedbed::manifests::worker_files;
use serde_json::{Value, json};

const TOKEN: &str = "abcdef.abcdef0123456789";

/// Mode and content by path on the node.
type Files = BTreeMap<String, (u32, String)>;

#[test]
fn files_are_those_of_kubeadm_join() {
    let taint = |key: &str, value: Option<&str>, effect: &str| {
        let mut taint = json!({"key": key, "effect": effect});
        if let Some(value) = value {
            taint["value"] = value.into();
        }
        taint
    };
    let taints = [
        json!([]),
        json!([
            taint("dedicated", Some("web"), "NoSchedule"),
            taint("gpu", None, "NoExecute")
        ]),
    ];
    let args = [
        json!([]),
        json!([{"name": "node-ip", "value": "198.18.0.21"}, {"name": "v", "value": "4"}]),
    ];
    let mut compared = 0;
    for (taints, args) in taints.iter().flat_map(|t| args.iter().map(move |a| (t, a))) {
        for socket in [
            "unix:///run/containerd/containerd.sock",
            "unix:///var/run/crio/crio.sock",
        ] {
            let node = json!({
                "name": "w-1", "criSocket": socket, "taints": taints, "kubeletExtraArgs": args,
            });
            let theirs = kubeadm(&node);
            let ours = ours(&node, &theirs);
            for (path, file) in &theirs {
                let (mode, text) = ours.get(path).unwrap_or_else(|| panic!("no {path}"));
                assert_eq!(mode, &file.0, "{path}");
                if path.ends_with(".yaml") || path.ends_with(".conf") {
                    let value = |text: &str| serde_saphyr::from_str::<Value>(text).unwrap();
                    assert_eq!(value(text), value(&file.1), "{path}");
                } else {
                    assert_eq!(text, &file.1, "{path}");
                }
                compared += 1;
            }
            // kubeadm expects the drop-in from the kubelet's package.
            let drop_in = "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf";
            let more: Vec<&String> = ours
                .keys()
                .filter(|path| !theirs.contains_key(*path))
                .collect();
            assert_eq!(more, [drop_in]);
        }
    }
    println!("{compared} files compared");
    assert_eq!(compared, 8 * 5);
}

/// What a dry run writes.
fn kubeadm(node: &Value) -> Files {
    let program = testbed::build::program(testbed::Component::Kubernetes, "kubeadm").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "JoinConfiguration",
        "discovery": {"bootstrapToken": {
            "apiServerEndpoint": "192.0.2.1:6443",
            "token": TOKEN,
            "unsafeSkipCAVerification": true,
        }},
        "nodeRegistration": node,
    });
    let file = folder.path().join("join.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let written = folder.path().join("dry-run");
    std::fs::create_dir(&written).unwrap();
    let output = Command::new(program)
        .env_clear()
        .env("KUBEADM_JOIN_DRYRUN_DIR", &written)
        .args(["join", "--dry-run", "--skip-phases=preflight", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let entries = std::fs::read_dir(&written).unwrap();
    entries.map(|entry| read(&entry.unwrap().path())).collect()
}

fn read(path: &Path) -> (String, (u32, String)) {
    let name = path.file_name().unwrap().to_str().unwrap();
    let on_node = match name {
        "ca.crt" => format!("/etc/kubernetes/pki/{name}"),
        "bootstrap-kubelet.conf" => format!("/etc/kubernetes/{name}"),
        _ => format!("/var/lib/kubelet/{name}"),
    };
    let mode = std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    (on_node, (mode, std::fs::read_to_string(path).unwrap()))
}

/// A token is no part of what a machine should be, and one that has joined is given none.
#[test]
fn the_revision_does_not_know_the_token() {
    let pool = pool(json!({"name": "w-1"}));
    let worker = pool.worker("w-1").expect("the machine");
    let server = HostPort {
        host: "192.168.0.101".to_owned(),
        port: 6443,
    };
    let config = |token: Option<&str>| {
        let token = token.map(|token| token.parse().unwrap());
        worker_config(&pool, worker, &server, "ca", token.as_ref()).unwrap()
    };
    let (one, other, none) = (
        config(Some(TOKEN)),
        config(Some("fedcba.abcdef0123456789")),
        config(None),
    );
    assert_eq!(one.revision, other.revision);
    assert_eq!(one.revision, none.revision);
    let text = |config: &MachineConfig| String::from_utf8(config.user_data.to_vec()).unwrap();
    assert!(text(&one).contains(TOKEN) && !text(&other).contains(TOKEN));
    assert!(!text(&none).contains("token:"));
    assert!(
        !none
            .files
            .contains_key("/etc/kubernetes/bootstrap-kubelet.conf")
    );
    // All of them wait until the kubelet has its certificate.
    assert!(text(&none).contains("kubelet-client-current.pem"));
}

/// The same from our renderer, with kubeadm's CA.
fn ours(node: &Value, theirs: &Files) -> Files {
    let mut machine = node.clone();
    // Another name than the Node's, as on the machine that runs this test.
    machine["hostname"] = json!("another");
    // What kubeadm finds on this machine, we are told.
    let (_, config) = &theirs["/var/lib/kubelet/config.yaml"];
    let resolv_conf = config
        .lines()
        .find_map(|line| line.strip_prefix("resolvConf: "));
    if let Some(path) = resolv_conf {
        machine["resolvConf"] = json!(path);
    }
    let pool = pool(machine);
    let server = HostPort {
        host: "192.168.0.101".to_owned(),
        port: 6443,
    };
    let (_, ca) = &theirs["/etc/kubernetes/pki/ca.crt"];
    let token = TOKEN.parse().unwrap();
    let worker = pool.worker("w-1").expect("the machine");
    let files = worker_files(&pool, worker, &server, ca, Some(&token)).expect("files");
    let named = files.into_iter().map(|file| {
        let text = String::from_utf8(file.content.to_vec()).expect("text");
        (file.path, (file.mode, text))
    });
    named.collect()
}

/// A pool of this machine, of a control plane with default settings.
fn pool(machine: Value) -> domain::NodePool {
    let control_plane: ControlPlane = serde_json::from_value(json!({
        "apiVersion": "seedbed.dev/v1alpha1",
        "kind": "ControlPlane",
        "metadata": {"name": "prod", "namespace": "clusters"},
        "spec": {
            "version": "v1.37.1",
            "replicas": 1,
            "machines": [{"name": "cp-1", "address": "198.18.0.11"}],
        },
    }))
    .unwrap();
    let pool: NodePool = serde_json::from_value(json!({
        "apiVersion": "seedbed.dev/v1alpha1",
        "kind": "NodePool",
        "metadata": {"name": "workers", "namespace": "clusters"},
        "spec": {"controlPlaneRef": {"name": "prod"}, "machines": [machine]},
    }))
    .unwrap();
    let inputs = Inputs {
        control_plane: Some(&control_plane),
        ..Inputs::default()
    };
    resolve(&pool, &inputs).expect("a right spec")
}
