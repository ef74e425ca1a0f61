//! The rendered files of a worker against those that the real `kubeadm join` writes.
//!
//! Its dry run knows one cluster, built in: the default settings behind 192.168.0.101:6443, and one
//! token. The same cluster and token are given to our renderer; every file has the same mode and the
//! same content, YAML as values (the writers quote differently) and all else to the byte. The same
//! with kubeadm of the oldest minor that a pool may run, and with patches.

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
use testbed::Component;

const TOKEN: &str = "abcdef.abcdef0123456789";

/// Mode and content by path on the node.
type Files = BTreeMap<String, (u32, String)>;

#[test]
fn files_are_those_of_kubeadm_join() {
    same_files(Component::Kubernetes);
}

/// Minors in between differ from one of the two in nothing (`versions/releases.rs`).
#[test]
fn files_of_older_kubelets_are_those_of_their_kubeadm() {
    same_files(Component::Kubeadm134);
}

fn same_files(component: Component) {
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
            let theirs = kubeadm(component, &node, &[]).expect("files");
            let ours = ours(component, &node, &[], &theirs).expect("files");
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

/// Type and text of patches that both shall take.
const PATCHES: &[&[(&str, &str)]] = &[
    &[(
        "Strategic",
        "maxPods: 77\nfailSwapOn: no\nevictionHard: {memory.available: \"1%\"}\n",
    )],
    &[(
        "Strategic",
        "authentication: {webhook: null, anonymous: {enabled: true}}\nabsent: null\n",
    )],
    &[
        ("Strategic", "clusterDNS: [198.18.0.2]\n"),
        ("Strategic", "clusterDNS: [198.18.0.3]\n"),
    ],
    &[(
        "Strategic",
        "logging: {$patch: replace, verbosity: 3}\nauthorization: {$patch: delete}\n",
    )],
    &[("Strategic", "---\nmaxPods: 1\n---\n---\nmaxPods: 0144\n")],
    &[(
        "Strategic",
        "{\"containerRuntimeEndpoint\": \"unix:///other\", \"maxPods\": 5}",
    )],
    &[(
        "Merge",
        "maxPods: 78\nauthentication: {x509: null}\nlogging: {options: {text: {a: 1}}}\n",
    )],
    &[
        ("Merge", "clusterDNS: []\nevictionHard: {a: {b: null}}\n"),
        ("Strategic", "maxPods: 3\n"),
    ],
    &[(
        "JSON",
        r#"[{"op": "add", "path": "/maxPods", "value": 79},
            {"op": "replace", "path": "/cgroupDriver", "value": "cgroupfs"},
            {"op": "remove", "path": "/authentication/webhook"},
            {"op": "add", "path": "/clusterDNS/-", "value": "198.18.0.4"},
            {"op": "test", "path": "/clusterDomain", "value": "cluster.local"},
            {"op": "copy", "from": "/clusterDomain", "path": "/copied"},
            {"op": "move", "from": "/staticPodPath", "path": "/moved~1here"}]"#,
    )],
    &[(
        "JSON",
        "- op: add\n  path: /tlsMinVersion\n  value: VersionTLS13\n",
    )],
];

/// Patches that both refuse.
const WRONG: &[(&str, &str)] = &[
    ("JSON", r#"[{"op": "remove", "path": "/absent"}]"#),
    (
        "JSON",
        r#"[{"op": "test", "path": "/maxPods", "value": 1}]"#,
    ),
    (
        "JSON",
        r#"[{"op": "add", "path": "/no/such/parent", "value": 1}]"#,
    ),
    ("JSON", "maxPods: 1\n"),
    ("Strategic", "- op: add\n"),
    ("Strategic", "logging: {$patch: nonsense}\n"),
    ("Strategic", "a: [\n"),
];

#[test]
fn patches_are_applied_as_kubeadm_does() {
    let node = json!({"name": "w-1", "criSocket": "unix:///run/containerd/containerd.sock"});
    let path = "/var/lib/kubelet/config.yaml";
    for component in [Component::Kubernetes, Component::Kubeadm134] {
        let plain = kubeadm(component, &node, &[]).expect("files");
        for patches in PATCHES {
            let theirs = kubeadm(component, &node, patches).expect("patched");
            assert_ne!(theirs[path], plain[path], "{patches:?} changes something");
            // The machine's own come after the pool's, wherever the list is cut.
            for own in 0..=patches.len() {
                let (pool, own) = patches.split_at(patches.len() - own);
                let mut node = node.clone();
                node["patches"] = listed(own);
                let ours = ours(component, &node, pool, &theirs).expect("patched");
                let value = |files: &Files| -> Value {
                    serde_saphyr::from_str(&files[path].1).expect("YAML")
                };
                assert_eq!(value(&ours), value(&theirs), "{patches:?}");
            }
        }
        for patch in WRONG {
            let patches = [*patch];
            let refused = kubeadm(component, &node, &patches).expect_err("refused");
            assert!(refused.contains("patch"), "{refused}");
            let refused = ours(component, &node, &patches, &plain).expect_err("refused");
            assert!(refused.starts_with("spec.patches[0]"), "{refused}");
        }
    }
}

/// Patches as a spec lists them.
fn listed(patches: &[(&str, &str)]) -> Value {
    let one = |(kind, text): &(&str, &str)| json!({"target": "kubeletconfiguration", "type": kind, "patch": text});
    patches.iter().map(one).collect()
}

/// What a dry run writes, or says against it.
fn kubeadm(component: Component, node: &Value, patches: &[(&str, &str)]) -> Result<Files, String> {
    let program = testbed::build::program(component, "kubeadm").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let patch_folder = folder.path().join("patches");
    std::fs::create_dir(&patch_folder).unwrap();
    for (number, (kind, text)) in patches.iter().enumerate() {
        let kind = kind.to_lowercase();
        let name = format!("kubeletconfiguration{number}+{kind}.yaml");
        std::fs::write(patch_folder.join(name), text).unwrap();
    }
    let config = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "JoinConfiguration",
        "discovery": {"bootstrapToken": {
            "apiServerEndpoint": "192.0.2.1:6443",
            "token": TOKEN,
            "unsafeSkipCAVerification": true,
        }},
        "nodeRegistration": node,
        "patches": {"directory": patch_folder},
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
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let entries = std::fs::read_dir(&written).unwrap();
    Ok(entries.map(|entry| read(&entry.unwrap().path())).collect())
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
    let pool = pool(Component::Kubernetes, json!({"name": "w-1"}), &[]).expect("a right spec");
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
fn ours(
    component: Component,
    node: &Value,
    patches: &[(&str, &str)],
    theirs: &Files,
) -> Result<Files, String> {
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
    let pool = pool(component, machine, patches)?;
    let server = HostPort {
        host: "192.168.0.101".to_owned(),
        port: 6443,
    };
    let (_, ca) = &theirs["/etc/kubernetes/pki/ca.crt"];
    let token = TOKEN.parse().unwrap();
    let worker = pool.worker("w-1").expect("the machine");
    let files = worker_files(&pool, worker, &server, ca, Some(&token));
    let files = files.map_err(|error| error.to_string())?;
    let named = files.into_iter().map(|file| {
        let text = String::from_utf8(file.content.to_vec()).expect("text");
        (file.path, (file.mode, text))
    });
    Ok(named.collect())
}

/// A pool of this machine, of a control plane with default settings.
fn pool(
    component: Component,
    machine: Value,
    patches: &[(&str, &str)],
) -> Result<domain::NodePool, String> {
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
        "spec": {
            "controlPlaneRef": {"name": "prod"},
            "version": format!("v{}", component.version().expect("version")),
            "machines": [machine],
            "patches": listed(patches),
        },
    }))
    .unwrap();
    let inputs = Inputs {
        control_plane: Some(&control_plane),
        ..Inputs::default()
    };
    resolve(&pool, &inputs).map_err(|problems| problems[0].to_string())
}
