use serde_json::{Value, json};

use super::*;
use crate::controllers::fields::ProblemReason;

fn sample() -> Value {
    let machine = |n: u8, domain: &str| {
        json!({"name": format!("etcd-{n}"), "address": format!("198.18.0.4{n}"),
               "failureDomain": domain})
    };
    json!({
        "apiVersion": "seedbed.dev/v1alpha1",
        "kind": "EtcdCluster",
        "metadata": {"name": "state", "namespace": "clusters"},
        "spec": {
            "version": "3.7.0",
            "size": 3,
            "machines": [machine(1, "a"), machine(2, "a"), machine(3, "b"), machine(4, "c")],
        },
    })
}

fn with(pointer: &str, value: Value) -> crd::EtcdCluster {
    let mut object = sample();
    let mut place = &mut object;
    for part in pointer.trim_start_matches('/').split('/') {
        place = match part.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => &mut place[part],
        };
    }
    *place = value;
    serde_json::from_value(object).expect("the change fits the types")
}

fn names(machines: &[Machine]) -> Vec<&str> {
    machines
        .iter()
        .map(|machine| machine.name.as_str())
        .collect()
}

#[test]
fn defaults_are_those_of_the_api() {
    let object = serde_json::from_value(sample()).unwrap();
    let cluster = resolve(&object, &Contents::default()).unwrap();
    assert_eq!(cluster.members.image, "registry.k8s.io/etcd:3.7.0-0");
    assert_eq!(cluster.members.data_dir, "/var/lib/etcd");
    assert_eq!(cluster.certificates_dir, "/etc/kubernetes/pki");
    assert!(cluster.pause_image.starts_with("registry.k8s.io/pause:"));
    // Before the founding, failure domains are kept even.
    assert_eq!(names(&cluster.machines), ["etcd-1", "etcd-3", "etcd-4"]);
    assert_eq!(names(&cluster.spares), ["etcd-2"]);
}

#[test]
fn after_the_founding_machines_with_a_member_are_used() {
    let slot = |machine: &str| json!({"machine": machine, "generation": 0, "started": true});
    let status = json!({"ledger": {
        "founding": {"token": "t", "members": []},
        "slots": [slot("etcd-4"), slot("etcd-2"), slot("gone")],
    }});
    let cluster = resolve(&with("/status", status), &Contents::default()).unwrap();
    assert_eq!(names(&cluster.machines), ["etcd-2", "etcd-4"]);
    assert_eq!(names(&cluster.spares), ["etcd-1", "etcd-3"]);
}

#[test]
fn every_wrong_value_is_named() {
    let patch = json!([{"target": "etcd", "patch": "{}"}]);
    let (wrong, later) = (ProblemReason::InvalidSpec, ProblemReason::NotYetSupported);
    for (pointer, value, path, reason) in [
        ("/spec/version", json!("3.7"), "spec.version", wrong),
        ("/spec/version", json!("v3.7.0"), "spec.version", wrong),
        ("/spec/version", json!("3.+7.0"), "spec.version", wrong),
        ("/spec/version", json!("3.5.21"), "spec.version", later),
        ("/spec/version", json!("4.0.0"), "spec.version", later),
        ("/spec/size", json!(2), "spec.size", wrong),
        ("/spec/size", json!(5), "spec.size", wrong),
        ("/spec/dataDir", json!("data"), "spec.dataDir", wrong),
        ("/spec/imageTag", json!("a b"), "spec.imageTag", wrong),
        (
            "/spec/nodeLoss",
            json!({"timeout": "1s"}),
            "spec.nodeLoss.timeout",
            wrong,
        ),
        (
            "/spec/extraArgs",
            json!([{"name": "initial-cluster", "value": "x"}]),
            "spec.extraArgs[0]",
            wrong,
        ),
        (
            "/spec/machines/0/bindPort",
            json!(6443),
            "spec.machines[etcd-1].bindPort",
            wrong,
        ),
        (
            "/spec/machines/0/taints",
            json!([]),
            "spec.machines[etcd-1].taints",
            wrong,
        ),
        (
            "/spec/machines/0/labels",
            json!({}),
            "spec.machines[etcd-1].labels",
            wrong,
        ),
        (
            "/spec/machines/0/caDirectories",
            json!(["/etc/ca"]),
            "spec.machines[etcd-1].caDirectories",
            wrong,
        ),
        (
            "/spec/machines/0/address",
            json!("127.0.0.1"),
            "spec.machines[etcd-1].address",
            wrong,
        ),
        (
            "/spec/certificates",
            json!({"caKeysOnNodes": "All"}),
            "spec.certificates.caKeysOnNodes",
            wrong,
        ),
        (
            "/spec/patches",
            patch.clone(),
            "spec.patches[0].target",
            later,
        ),
        (
            "/spec/machines/0/patches",
            patch,
            "spec.machines[etcd-1].patches[0].target",
            later,
        ),
        (
            "/spec/machineConfig",
            json!({"files": [{"path": "/a", "contentFrom":
                {"secretKeyRef": {"name": "s", "key": "k"}}}]}),
            "spec.machineConfig.files[0].contentFrom",
            ProblemReason::MissingInput,
        ),
    ] {
        let found = resolve(&with(pointer, value), &Contents::default()).unwrap_err();
        let found: Vec<_> = found.iter().map(|p| (p.path.as_str(), p.reason)).collect();
        assert_eq!(found, [(path, reason)], "{pointer}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let mut object = with("/spec/version", json!("3.5.0"));
    object.spec.size = 4;
    object.spec.machines[1].address = "198.18.0.41".to_owned();
    let found = resolve(&object, &Contents::default()).unwrap_err();
    let paths: Vec<&str> = found.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(
        paths,
        ["spec.version", "spec.machines[etcd-2].address", "spec.size"]
    );
}
