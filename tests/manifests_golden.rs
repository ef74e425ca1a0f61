//! Whole rendered machines as reviewers read them. `UPDATE=1` writes them anew.
//!
//! Certificates and keys are placeholders: the files show where each one goes. `files.txt` lists
//! every file with its mode and owner.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use seedbed::controllers::control_plane::resolve::{Inputs, resolve};
use seedbed::controllers::etcd_cluster::resolve as etcd_cluster;
use seedbed::controllers::fields::Contents;
use seedbed::domain::{ControlPlane, Founding, InitialClusterState, Machine, Member};
use seedbed::manifests::{etcd_machine_files, machine_files};
use seedbed::pki::{ClusterPki, KeyPair, Leaf, MachinePki, ServiceAccountKeys};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// Path below `tests/golden/machine`, and what the file holds.
type Golden = BTreeMap<PathBuf, String>;

#[test]
fn manifests_golden() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/machine");
    let mut rendered = Golden::new();
    let new = InitialClusterState::New;
    let kubeadm = resolved(three_machines(json!({"profile": "Kubeadm"})));
    add(&mut rendered, "kubeadm", &kubeadm, 0, new);
    add(&mut rendered, "kubeadm", &kubeadm, 1, new);
    let standard = resolved(three_machines(json!({})));
    add(&mut rendered, "standard", &standard, 0, new);
    let existing = InitialClusterState::Existing;
    add(
        &mut rendered,
        "every-option",
        &resolved(every_option()),
        2,
        existing,
    );
    add_etcd_machine(&mut rendered);
    let external = json!({"etcd": {"external": {
        "endpoints": ["https://198.18.0.41:2379", "https://198.18.0.42:2379"],
        "caFile": "/srv/etcd/ca.crt",
        "certFile": "/srv/etcd/client.crt",
        "keyFile": "/srv/etcd/client.key",
    }}});
    let external = resolved(three_machines(external));
    add(&mut rendered, "external-etcd", &external, 0, existing);
    if std::env::var_os("UPDATE").is_some() {
        if folder.exists() {
            fs::remove_dir_all(&folder).expect("remove the old files");
        }
        for (path, text) in &rendered {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("make a folder");
            fs::write(path, text).expect("write");
        }
    }
    let stored = read(&folder);
    for (path, text) in &rendered {
        let shown = path.display();
        let stored = stored
            .get(path)
            .unwrap_or_else(|| panic!("{shown} is new; UPDATE=1 cargo test manifests_golden"));
        assert_eq!(
            text, stored,
            "{shown} differs; UPDATE=1 cargo test manifests_golden"
        );
    }
    for path in stored.keys() {
        assert!(
            rendered.contains_key(path),
            "{} is no longer rendered",
            path.display()
        );
    }
}

fn add(
    golden: &mut Golden,
    name: &str,
    control_plane: &ControlPlane,
    number: usize,
    state: InitialClusterState,
) {
    let machine = &control_plane.machines[number];
    let folder = Path::new(name).join(machine.name.as_str());
    note(golden, &folder, render(control_plane, machine, state));
}

fn note(
    golden: &mut Golden,
    folder: &Path,
    files: impl IntoIterator<Item = (String, u32, String, String)>,
) {
    let mut list = String::new();
    for (path, mode, owner, text) in files {
        // A file that is one placeholder is told in the list.
        let placeholder = text.trim_end();
        if placeholder.starts_with('<') && !placeholder.contains('\n') {
            list.push_str(&format!("{mode:04o} {owner} {path} {placeholder}\n"));
            continue;
        }
        list.push_str(&format!("{mode:04o} {owner} {path}\n"));
        let below = path.strip_prefix('/').expect("an absolute path");
        golden.insert(folder.join(below), text);
    }
    golden.insert(folder.join("files.txt"), list);
}

/// A machine that runs nothing but etcd, with everything that an EtcdCluster can say of it.
fn add_etcd_machine(golden: &mut Golden) {
    let machine = |number: u8| {
        json!({"name": format!("etcd-{number}"), "address": format!("198.18.0.4{number}"),
               "hostname": format!("host-{number}"), "kubeletExtraArgs": [{"name": "v", "value": "4"}]})
    };
    let object = json!({
        "apiVersion": "seedbed.dev/v1alpha1",
        "kind": "EtcdCluster",
        "metadata": {"name": "state", "namespace": "clusters"},
        "spec": {
            "version": "3.7.0",
            "size": 3,
            "machines": [machine(1), machine(2), machine(3)],
            "imageRepository": "images.example.net/k8s",
            "extraArgs": [{"name": "quota-backend-bytes", "value": "8589934592"}],
            "kubelet": {"config": {"maxPods": 8}, "extraArgs": [{"name": "v", "value": "2"}]},
            "machineConfig": {"osPreparation": true},
        },
    });
    let object = serde_json::from_value(object).expect("an EtcdCluster");
    let cluster = etcd_cluster::resolve(&object, &Contents::default())
        .unwrap_or_else(|problems| panic!("{problems:#?}"));
    let founding = Founding {
        token: "state-3f1b2c".to_owned(),
        members: cluster.machines.iter().map(Member::founder).collect(),
        state: InitialClusterState::New,
    };
    let machine = &cluster.machines[1];
    let ca = "<certificate etcd/ca>\n";
    let files = etcd_machine_files(&cluster, machine, &founding, ca, &leaves()).expect("files");
    let files = files.into_iter().map(|file| {
        let text = String::from_utf8(file.content.to_vec()).expect("text");
        (file.path, file.mode, file.owner, text)
    });
    note(
        golden,
        &Path::new("etcd").join(machine.name.as_str()),
        files,
    );
}

/// Path, mode, owner and text of every file, with the placeholders in kubeconfigs made readable.
fn render(
    control_plane: &ControlPlane,
    machine: &Machine,
    state: InitialClusterState,
) -> Vec<(String, u32, String, String)> {
    let founding = Founding {
        token: "prod-3f1b2c".to_owned(),
        members: control_plane.machines.iter().map(Member::founder).collect(),
        state,
    };
    let (cluster, leaves) = (cluster(), leaves());
    let mut encoded: Vec<(String, String)> = Vec::new();
    for pair in leaves.values().chain([&cluster.ca]) {
        for text in [&pair.certificate_pem, &*pair.key_pem] {
            encoded.push((STANDARD.encode(text), format!("base64 of {}", text.trim())));
        }
    }
    machine_files(control_plane, machine, &founding, &cluster, &leaves)
        .expect("files")
        .into_iter()
        .map(|file| {
            let text = String::from_utf8(file.content.to_vec()).expect("text");
            let text = encoded
                .iter()
                .fold(text, |text, (code, name)| text.replace(code, name));
            (file.path, file.mode, file.owner, text)
        })
        .collect()
}

fn pair(name: &str) -> KeyPair {
    KeyPair {
        certificate_pem: format!("<certificate {name}>\n"),
        key_pem: Zeroizing::new(format!("<key {name}>\n")),
    }
}

fn cluster() -> ClusterPki {
    ClusterPki {
        ca: pair("ca"),
        etcd_ca: Some(pair("etcd/ca")),
        front_proxy_ca: pair("front-proxy-ca"),
        service_account: ServiceAccountKeys {
            public_pem: "<public key sa>\n".to_owned(),
            private_pem: Zeroizing::new("<key sa>\n".to_owned()),
        },
    }
}

fn leaves() -> MachinePki {
    Leaf::ALL
        .into_iter()
        .map(|leaf| (leaf, pair(&format!("{leaf:?}"))))
        .collect()
}

fn three_machines(more: Value) -> Value {
    let mut spec = json!({
        "version": "v1.37.1",
        "endpoint": {"host": "api.prod.example.net"},
        "replicas": 3,
        "machines": [
            {"name": "cp-1", "address": "198.18.0.11"},
            {"name": "cp-2", "address": "198.18.0.12"},
            {"name": "cp-3", "address": "198.18.0.13"},
        ],
    });
    if let (Value::Object(spec), Value::Object(more)) = (&mut spec, more) {
        spec.extend(more);
    }
    spec
}

fn every_option() -> Value {
    let component = json!({
        "extraArgs": [{"name": "v", "value": "2"}, {"name": "profiling", "value": "false"}],
        "extraEnvs": [{"name": "TZ", "value": "on"}, {"name": "GOGC", "value": "050"}],
        "extraVolumes": [
            {"name": "audit", "hostPath": "/var/log/audit", "mountPath": "/var/log/audit",
             "pathType": "DirectoryOrCreate"},
        ],
    });
    let mut spec = three_machines(json!({
        "clusterName": "on",
        "endpoint": {"host": "api.prod.example.net", "port": 8443},
        "network": {
            "podCIDRs": ["198.18.64.0/18"],
            "serviceCIDRs": ["198.19.0.0/16"],
            "dnsDomain": "prod.example",
        },
        "apiServer": component,
        "controllerManager": component,
        "scheduler": component,
        "etcd": {
            "dataDir": "/srv/etcd",
            "imageTag": "3.7.3-0",
            "extraArgs": [
                {"name": "listen-metrics-urls", "value": "http://0.0.0.0:2381"},
                {"name": "quota-backend-bytes", "value": "8589934592"},
            ],
            "extraEnvs": [{"name": "GOGC", "value": "50"}],
        },
        "kubelet": {
            "config": {"maxPods": 64, "authentication": {"anonymous": {"enabled": true}}},
            "extraArgs": [{"name": "v", "value": "2"}],
        },
        "certificates": {"directory": "/srv/pki", "caKeysOnNodes": "All"},
        "imageRepository": "images.example.net/k8s",
        "machineConfig": {"osPreparation": true},
    }));
    for (number, machine) in spec["machines"]
        .as_array_mut()
        .expect("machines")
        .iter_mut()
        .enumerate()
    {
        machine["bindPort"] = 7443.into();
        machine["hostname"] = format!("host-{number}").into();
        machine["caDirectories"] = json!(["/usr/share/ca-certificates"]);
        machine["resolvConf"] = "/run/systemd/resolve/resolv.conf".into();
        machine["kubeletExtraArgs"] = json!([{"name": "node-ip", "value": machine["address"]}]);
    }
    spec
}

fn resolved(spec: Value) -> ControlPlane {
    let object = serde_json::from_value(json!({
        "apiVersion": "seedbed.dev/v1alpha1",
        "kind": "ControlPlane",
        "metadata": {"name": "prod", "namespace": "clusters"},
        "spec": spec,
    }))
    .expect("a ControlPlane");
    resolve(&object, &Inputs::default())
        .unwrap_or_else(|problems| panic!("{problems:#?}"))
        .control_plane
}

fn read(folder: &Path) -> Golden {
    let mut golden = Golden::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        let entries =
            fs::read_dir(&current).unwrap_or_else(|error| panic!("{}: {error}", current.display()));
        for entry in entries {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let below = path.strip_prefix(folder).expect("below the folder");
                let text = fs::read_to_string(&path).expect("text");
                golden.insert(below.to_owned(), text);
            }
        }
    }
    golden
}
