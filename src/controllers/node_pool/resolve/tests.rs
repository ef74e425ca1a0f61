use serde_json::{Value, json};

use super::*;
use crate::controllers::fields::ProblemReason;
use crate::domain::Workers;

fn control_plane() -> crd::ControlPlane {
    serde_json::from_value(json!({
        "apiVersion": "seedbed.dev/v1alpha1",
        "kind": "ControlPlane",
        "metadata": {"name": "prod", "namespace": "clusters", "uid": "1"},
        "spec": {
            "version": "v1.37.1",
            "replicas": 1,
            "machines": [{"name": "cp-1", "address": "198.18.0.11"}],
            "network": {"podCIDRs": ["10.244.0.0/16"]},
            "kubelet": {
                "config": {"maxPods": 200, "evictionHard": {"memory.available": "5%"}},
                "extraArgs": [{"name": "v", "value": "2"}, {"name": "a", "value": "1"}],
            },
            "machineConfig": {"files": [{
                "path": "/etc/secret",
                "contentFrom": {"secretKeyRef": {"name": "not-read", "key": "x"}},
            }]},
        },
    }))
    .unwrap()
}

fn pool(spec: Value) -> crd::NodePool {
    let mut all = json!({"controlPlaneRef": {"name": "prod"}});
    for (key, value) in spec.as_object().unwrap() {
        all[key] = value.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": "seedbed.dev/v1alpha1",
        "kind": "NodePool",
        "metadata": {"name": "workers", "namespace": "clusters", "uid": "2"},
        "spec": all,
    }))
    .unwrap()
}

fn resolved(spec: Value) -> Result<domain::NodePool, Vec<Problem>> {
    let control_plane = control_plane();
    let inputs = Inputs {
        control_plane: Some(&control_plane),
        ..Inputs::default()
    };
    resolve(&pool(spec), &inputs)
}

fn first_problem(spec: Value) -> String {
    resolved(spec).unwrap_err()[0].to_string()
}

#[test]
fn defaults_and_the_control_planes_settings_are_taken() {
    let found = resolved(json!({
        "machines": [
            {"name": "w-1", "failureDomain": "rack-a", "labels": {"disk": "ssd"}},
            {"name": "w-2", "taints": []},
            {"name": "w-3"},
        ],
        "replicas": 2,
        "labels": {"tier": "web", "disk": "hdd"},
        "taints": [{"key": "dedicated", "effect": "NoSchedule"}],
        "kubelet": {
            "config": {"maxPods": 50, "evictionHard": {"nodefs.available": "1%"}},
            "extraArgs": [{"name": "v", "value": "4"}],
        },
        "serverTLSBootstrap": true,
    }))
    .unwrap();
    assert_eq!(found.token_ttl, Duration::from_secs(900));
    assert_eq!(found.drain_timeout, Duration::from_secs(600));
    assert_eq!(found.cluster.version.to_string(), "v1.37.1");
    let config = &found.cluster.kubelet.config;
    assert_eq!(config["maxPods"], 50);
    assert_eq!(config["serverTLSBootstrap"], true);
    let eviction = json!({"memory.available": "5%", "nodefs.available": "1%"});
    assert_eq!(config["evictionHard"], eviction);
    let args = found.cluster.kubelet.extra_args.iter();
    let args: Vec<(&str, &str)> = args.map(|a| (a.name.as_str(), a.value.as_str())).collect();
    assert_eq!(args, [("a", "1"), ("v", "4")]);
    assert!(found.cluster.files.is_empty());
    let Workers::Listed(workers) = &found.workers else {
        panic!("{found:?}")
    };
    assert_eq!(workers.len(), 2, "as many as replicas says");
    assert_eq!(workers[0].labels["disk"], "ssd");
    assert_eq!(workers[0].labels["topology.kubernetes.io/zone"], "rack-a");
    assert_eq!(workers[0].taints.len(), 1);
    assert!(workers[1].taints.is_empty());
}

#[test]
fn what_is_wrong_is_said_with_the_field_and_the_fix() {
    let one = json!([{"name": "w-1"}]);
    for (spec, expected) in [
        (
            json!({"machines": one, "token": {"ttl": "30s"}}),
            "spec.token.ttl: 30s is out of range; give a duration of 1m to 24h",
        ),
        (
            json!({"machines": one, "token": {"ttl": "25h"}}),
            "spec.token.ttl: 25h is out of range; give a duration of 1m to 24h",
        ),
        (
            json!({"machines": one, "version": "v1.37.2"}),
            "spec.version: v1.37.2 is newer than the API servers of the control plane, which run \
             v1.37.1; kubelets may not be: choose v1.37.1 or older, or upgrade the control plane first",
        ),
        (
            json!({"machines": one, "version": "v1.33.0"}),
            "spec.version: v1.33.0 is more than 3 minor releases older than the API servers, which \
             run v1.37.1; choose v1.34.0 or later",
        ),
        (
            json!({"machines": [{"name": "cp-1"}]}),
            "spec.machines[cp-1].name: \"cp-1\" is a machine of ControlPlane \"prod\"; a worker needs \
             a name of its own",
        ),
        (
            json!({"machines": [{"name": "w-1"}, {"name": "w-1"}]}),
            "spec.machines: \"w-1\" is the name of two machines; rename one",
        ),
        (
            json!({"machines": one, "replicas": 2}),
            "spec.replicas: 2 is not 0 to 1, the number of spec.machines; add machines or lower \
             replicas",
        ),
        (
            json!({"machines": one, "labels": {"seedbed.dev/node-pool": "x"}}),
            "spec.labels[seedbed.dev/node-pool]: \"seedbed.dev/node-pool\" is set by Seedbed alone; \
             remove it",
        ),
        (
            json!({"machines": [{"name": "sa"}]}),
            "spec.machines[sa].name: \"sa\" would give the machine-config Secret a name that Seedbed \
             uses for something else; choose a name other than ca, etcd, proxy, sa, kubeconfig and \
             not ending with -certs, -tokens, -etcd-ledger",
        ),
        (
            json!({}),
            "spec.machines: list the machines (spec.machines), or say how many Nodes may join by \
             themselves (spec.maxNodes); give one of the two",
        ),
    ] {
        assert_eq!(first_problem(spec), expected);
    }
}

#[test]
fn a_control_plane_that_is_not_there_is_named() {
    let problems = resolve(&pool(json!({"maxNodes": 3})), &Inputs::default()).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].reason, ProblemReason::MissingInput);
    assert_eq!(
        problems[0].to_string(),
        "spec.controlPlaneRef.name: there is no ControlPlane \"prod\" in namespace \"clusters\"; \
         create it, or make a pool for another one"
    );
}

#[test]
fn kubelets_follow_a_control_plane_only_when_all_of_it_runs_the_version() {
    let mut control_plane = control_plane();
    control_plane.spec.version = "v1.37.3".to_owned();
    control_plane.status = Some(crd::ControlPlaneStatus {
        version: Some("v1.37.1".to_owned()),
        ..crd::ControlPlaneStatus::default()
    });
    let inputs = || Inputs {
        control_plane: Some(&control_plane),
        ..Inputs::default()
    };
    let found = resolve(&pool(json!({"maxNodes": 3})), &inputs()).unwrap();
    assert_eq!(found.cluster.version.to_string(), "v1.37.1");
    let early = json!({"maxNodes": 3, "version": "v1.37.3"});
    assert!(resolve(&pool(early), &inputs()).is_err());
}

#[test]
fn kubelets_may_be_three_minors_older_and_no_more() {
    for version in ["v1.34.4", "v1.35.0", "v1.36.9", "v1.37.0"] {
        let found = resolved(json!({"maxNodes": 3, "version": version})).unwrap();
        assert_eq!(found.cluster.version.to_string(), version);
    }
}

#[test]
fn a_pools_patches_precede_a_machines_own() {
    let patch = |text: &str| json!({"target": "kubeletconfiguration", "patch": text});
    let found = resolved(json!({
        "machines": [{"name": "w-1", "patches": [patch("a: 3")]}, {"name": "w-2"}],
        "patches": [patch("a: 1\n---\na: 2\n")],
    }))
    .unwrap();
    let Workers::Listed(workers) = &found.workers else {
        panic!("listed");
    };
    let paths = |worker: &domain::Worker| -> Vec<String> {
        let patches = worker.kubelet_patches.iter();
        patches.map(|patch| patch.path.clone()).collect()
    };
    let own = "spec.machines[w-1].patches[0]";
    assert_eq!(
        paths(&workers[0]),
        ["spec.patches[0]", "spec.patches[0]", own]
    );
    assert_eq!(paths(&workers[1]), ["spec.patches[0]", "spec.patches[0]"]);
}

#[test]
fn wrong_patches_are_named_with_the_fix() {
    for (kind, text, wanted) in [
        (
            "Strategic",
            "[1]",
            "is not a mapping, but a patch of type Strategic names",
        ),
        (
            "Merge",
            "text",
            "is not a mapping, but a patch of type Merge names",
        ),
        ("Merge", "a: [", "is neither YAML nor JSON: "),
        (
            "Strategic",
            "# nothing\n---\n",
            "has no document; write a patch or remove the entry",
        ),
        ("JSON", "a: 1", "is not a list of operations (RFC 6902): "),
        (
            "JSON",
            "[{op: destroy, path: /a}]",
            "is not a list of operations (RFC 6902): ",
        ),
        (
            "JSON",
            "[{op: add, path: a, value: 1}]",
            "is not a list of operations (RFC 6902): ",
        ),
        (
            "Strategic",
            "a: {$retainKeys: [b]}",
            "uses the directive \"$retainKeys\", and KubeletConfiguration has only use for",
        ),
        (
            "Strategic",
            "{$patch: merge}",
            "uses the directive \"$patch: merge\"",
        ),
    ] {
        let patch = json!({"target": "kubeletconfiguration", "type": kind, "patch": text});
        let spec = json!({"machines": [{"name": "w-1", "patches": [patch]}]});
        let found = first_problem(spec);
        let wanted = format!("spec.machines[w-1].patches[0].patch: {wanted}");
        assert!(found.starts_with(&wanted), "{found}");
    }
    let other = json!({"maxNodes": 1, "patches": [{"target": "etcd", "patch": "a: 1"}]});
    assert_eq!(
        first_problem(other),
        "spec.patches[0].target: is not supported by this release of Seedbed yet; remove the patch \
         of \"etcd\", only kubeletconfiguration can be patched"
    );
}
