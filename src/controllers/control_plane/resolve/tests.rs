use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::*;

mod arbitrary;
mod external;
mod wrong;

/// Three machines, all else left to the defaults.
fn sample() -> Value {
    json!({
        "apiVersion": "seedbed.dev/v1alpha1",
        "kind": "ControlPlane",
        "metadata": {"name": "prod", "namespace": "clusters"},
        "spec": {
            "version": "v1.37.1",
            "endpoint": {"host": "api.prod.example.net"},
            "replicas": 3,
            "machines": [
                {"name": "cp-1", "address": "198.18.0.11"},
                {"name": "cp-2", "address": "198.18.0.12"},
                {"name": "cp-3", "address": "198.18.0.13"},
            ],
        },
    })
}

/// The sample with values put at JSON pointers; the parents are made where they are missing.
fn with(changes: &[(&str, Value)]) -> crd::ControlPlane {
    let mut object = sample();
    for (pointer, value) in changes {
        let mut place = &mut object;
        for part in pointer.trim_start_matches('/').split('/') {
            place = match part.parse::<usize>() {
                Ok(index) => &mut place[index],
                Err(_) => &mut place[part],
            };
        }
        *place = value.clone();
    }
    serde_json::from_value(object).expect("the change fits the types")
}

fn resolved(changes: &[(&str, Value)]) -> Resolved {
    resolve(&with(changes), &Inputs::default()).expect("resolves")
}

fn problems(changes: &[(&str, Value)]) -> Vec<Problem> {
    resolve(&with(changes), &Inputs::default()).expect_err("has problems")
}

#[test]
fn defaults_are_those_of_the_api_and_are_listed() {
    let Resolved {
        control_plane: cp,
        defaults,
    } = resolved(&[]);
    assert_eq!(cp.cluster_name, "prod");
    assert_eq!(
        cp.endpoint.map(|e| e.to_string()).as_deref(),
        Some("api.prod.example.net:6443")
    );
    assert_eq!(cp.service_cidrs[0].to_string(), "10.96.0.0/12");
    assert!(cp.pod_cidrs.is_empty());
    let members = cp.etcd.stacked().expect("it is stacked");
    assert_eq!(members.image, "registry.k8s.io/etcd:3.7.0-0");
    assert_eq!(cp.certificates_dir, "/etc/kubernetes/pki");
    assert_eq!(cp.ca_keys_on_nodes, CaKeyPlacement::ClusterCa);
    assert_eq!(cp.leaf_validity, Duration::from_secs(8760 * 3600));
    assert_eq!(cp.size_budget_bytes, 786_432);
    assert_eq!(
        cp.machines[0].taints[0].key,
        "node-role.kubernetes.io/control-plane"
    );
    let listed: Vec<String> = defaults.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(
        listed,
        [
            "certificates.caKeysOnNodes=ClusterCA",
            "certificates.caValidity=87600h",
            "certificates.directory=/etc/kubernetes/pki",
            "certificates.keyAlgorithm=ECDSA-P256",
            "certificates.leafValidity=8760h",
            "clusterName=prod",
            "coreDNS.disabled=false",
            "endpoint.port=6443",
            "etcd.dataDir=/var/lib/etcd",
            "etcd.imageRepository=registry.k8s.io",
            "etcd.imageTag=3.7.0-0",
            "imageRepository=registry.k8s.io",
            "kubeProxy.disabled=false",
            "machineConfig.format=CloudConfig",
            "machineConfig.osPreparation=false",
            "machineConfig.sizeBudgetBytes=786432",
            "machines[].bindPort=6443",
            "machines[].criSocket=unix:///run/containerd/containerd.sock",
            "network.dnsDomain=cluster.local",
            "network.serviceCIDRs=10.96.0.0/12",
            "profile=Standard",
            "taints=node-role.kubernetes.io/control-plane:NoSchedule",
        ]
    );
}

#[test]
fn profile_kubeadm_puts_every_ca_key_on_the_nodes() {
    let resolved = resolved(&[("/spec/profile", json!("Kubeadm"))]);
    assert_eq!(resolved.control_plane.ca_keys_on_nodes, CaKeyPlacement::All);
    assert_eq!(resolved.defaults["certificates.caKeysOnNodes"], "All");
}

#[test]
fn a_single_machine_needs_no_endpoint() {
    let cp = resolved(&[
        (
            "/spec/machines",
            json!([{"name": "cp-1", "address": "198.18.0.11"}]),
        ),
        ("/spec/replicas", json!(1)),
        ("/spec/endpoint", Value::Null),
    ]);
    assert!(cp.control_plane.endpoint.is_none());
}

#[test]
fn taints_are_inherited_replaced_or_emptied() {
    let own = json!([{"key": "example.net/own", "effect": "NoExecute"}]);
    let cp = resolved(&[
        ("/spec/taints", json!([])),
        ("/spec/machines/0/taints", own),
        ("/spec/machines/1/taints", json!([])),
    ])
    .control_plane;
    let counts: Vec<usize> = cp.machines.iter().map(|m| m.taints.len()).collect();
    assert_eq!(counts, [1, 0, 0]);
}

#[test]
fn serving_machines_keep_failure_domains_even() {
    let machine = |name: &str, address: u8, domain: Option<&str>| json!({"name": name, "address": format!("198.18.0.{address}"), "failureDomain": domain});
    let names = |list: &[domain::Machine]| -> Vec<String> {
        list.iter().map(|m| m.name.to_string()).collect()
    };
    let inventory = json!([
        machine("a-1", 1, Some("a")),
        machine("a-2", 2, Some("a")),
        machine("a-3", 3, Some("a")),
        machine("b-1", 4, Some("b")),
        machine("none", 5, None),
        machine("b-2", 6, Some("b")),
    ]);
    let cp = resolved(&[("/spec/machines", inventory.clone())]).control_plane;
    assert_eq!(names(&cp.machines), ["a-1", "b-1", "none"]);
    assert_eq!(names(&cp.spares), ["a-2", "a-3", "b-2"]);
    let five = resolved(&[("/spec/machines", inventory), ("/spec/replicas", json!(5))]);
    assert_eq!(
        names(&five.control_plane.machines),
        ["a-1", "a-2", "b-1", "none", "b-2"]
    );
}

#[test]
fn every_problem_is_reported_at_once() {
    let found = problems(&[
        ("/metadata/name", json!("a".repeat(64))),
        ("/spec/version", json!("1.37")),
        ("/spec/replicas", json!(2)),
        ("/spec/machines/1/address", json!("127.0.0.1")),
        ("/spec/etcd/dataDir", json!("relative")),
    ]);
    let paths: Vec<&str> = found.iter().map(|p| p.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "metadata.name",
            "spec.version",
            "spec.machines[cp-2].address",
            "spec.etcd.dataDir",
            "spec.replicas",
        ]
    );
}

#[test]
fn wrong_values_name_field_value_and_fix() {
    for (pointer, value, path, words) in wrong::WRONG {
        let found = problems(&[(pointer, serde_json::from_str(value).expect("JSON"))]);
        let hit = found
            .iter()
            .find(|p| p.path.contains(path) && p.message.contains(words));
        assert_eq!(
            hit.map(|problem| problem.reason),
            Some(ProblemReason::InvalidSpec),
            "{pointer} = {value} gives {found:?}, without {path}: ...{words}..."
        );
    }
}

#[test]
fn capabilities_that_come_later_are_refused_in_words() {
    let patch = json!([{"target": "etcd", "patch": "{}"}]);
    for (pointer, value, path) in [
        ("/spec/patches", patch.clone(), "spec.patches[0].target"),
        (
            "/spec/machines/0/patches",
            patch,
            "spec.machines[cp-1].patches[0].target",
        ),
        (
            "/spec/featureGates",
            json!([{"name": "A", "enabled": true}]),
            "spec.featureGates",
        ),
        (
            "/spec/machines/0/address",
            json!("2001:db8::1"),
            "spec.machines[cp-1].address",
        ),
        (
            "/spec/endpoint/host",
            json!("2001:db8::1"),
            "spec.endpoint.host",
        ),
        (
            "/spec/network/podCIDRs",
            json!(["fd00::/56"]),
            "spec.network.podCIDRs",
        ),
        (
            "/spec/network/serviceCIDRs",
            json!(["10.96.0.0/16", "fd00::/112"]),
            "spec.network.serviceCIDRs",
        ),
        (
            "/spec/certificates/caKeysOnNodes",
            json!("None"),
            "spec.certificates.caKeysOnNodes",
        ),
        ("/spec/profile", json!("Hardened"), "spec.profile"),
    ] {
        let found = problems(&[(pointer, value)]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].path, path);
        assert_eq!(found[0].reason, ProblemReason::NotYetSupported, "{found:?}");
    }
}

#[test]
fn arguments_that_break_membership_or_identity_are_refused() {
    let args = |name: &str, value: &str| json!([{"name": name, "value": value}]);
    let cases = [
        (
            "/spec/etcd/extraArgs",
            "spec.etcd.extraArgs[0]",
            args("force-new-cluster", "true"),
        ),
        (
            "/spec/etcd/extraEnvs",
            "spec.etcd.extraEnvs[0]",
            args("ETCD_INITIAL_CLUSTER", "x"),
        ),
        (
            "/spec/kubelet/extraArgs",
            "spec.kubelet.extraArgs[0]",
            args("hostname-override", "x"),
        ),
        (
            "/spec/machines/0/kubeletExtraArgs",
            "spec.machines[cp-1].kubeletExtraArgs[0]",
            args("hostname-override", "x"),
        ),
    ];
    for (pointer, path, value) in cases {
        let found = problems(&[(pointer, value)]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].path, path);
    }
    resolved(&[(
        "/spec/etcd/extraArgs",
        args("strict-reconfig-check", "true"),
    )]);
}

#[test]
fn two_kinds_of_etcd_are_refused() {
    let etcd = json!({"dataDir": "/srv/etcd", "clusterRef": {"name": "e"}});
    let found = problems(&[("/spec/etcd", etcd)]);
    assert!(
        found
            .iter()
            .any(|p| p.path == "spec.etcd" && p.message.contains("keep"))
    );
}

#[test]
fn node_ranges_follow_the_controller_managers_mask() {
    let args = json!([{"name": "node-cidr-mask-size", "value": "26"}]);
    resolved(&[
        ("/spec/network/podCIDRs", json!(["10.1.0.0/25"])),
        ("/spec/controllerManager/extraArgs", args),
    ]);
}

#[test]
fn contents_come_from_references_and_a_missing_one_is_named() {
    let object = with(&[(
        "/spec/machineConfig/files",
        json!([
            {"path": "/a", "permissions": "0600", "contentFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"path": "/b", "contentFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}},
        ]),
    )]);
    let wanted: Vec<ContentRef> = references(&object.spec).into_iter().collect();
    assert_eq!(wanted.len(), 2);
    let secret = wanted
        .iter()
        .find(|r| r.kind == ContentKind::Secret)
        .expect("listed");
    let mut inputs = Inputs::default();
    inputs
        .contents
        .insert(secret.clone(), Zeroizing::new(b"hunter2".to_vec()));
    let found = resolve(&object, &inputs).expect_err("the ConfigMap is missing");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].reason, ProblemReason::MissingInput);
    assert_eq!(found[0].path, "spec.machineConfig.files[1].contentFrom");
    assert!(found[0].message.contains("ConfigMap \"c\""), "{}", found[0]);
    for reference in wanted {
        inputs
            .contents
            .insert(reference, Zeroizing::new(b"hunter2".to_vec()));
    }
    let resolved = resolve(&object, &inputs).expect("resolves");
    assert_eq!(resolved.control_plane.files[0].mode, 0o600);
    assert_eq!(
        resolved.control_plane.files[0].content.as_slice(),
        b"hunter2"
    );
    assert!(!format!("{resolved:?}").contains("hunter2"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever the spec says: no panic, the same answer twice, and never a refusal without a reason.
    #[test]
    fn resolving_is_total_and_deterministic(object in arbitrary::object()) {
        let first = resolve(&object, &Inputs::default());
        let second = resolve(&object, &Inputs::default());
        prop_assert_eq!(format!("{first:?}"), format!("{second:?}"));
        match first {
            Err(problems) => {
                prop_assert!(!problems.is_empty());
                for problem in problems {
                    prop_assert!(!problem.message.contains("report this object"), "{}", problem);
                }
            }
            Ok(resolved) => {
                let cp = resolved.control_plane;
                prop_assert!(matches!(cp.machines.len(), 1 | 3 | 5 | 7));
                prop_assert_eq!(cp.machines.len() + cp.spares.len(), object.spec.machines.len());
                prop_assert!(cp.endpoint.is_some() || object.spec.machines.len() == 1);
                prop_assert!(!cp.service_cidrs.is_empty());
            }
        }
    }
}

/// The property above would be hollow if no arbitrary spec ever resolved.
#[test]
fn some_arbitrary_specs_resolve() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut resolve_one = || {
        let tree = arbitrary::object().new_tree(&mut runner).expect("a value");
        resolve(&tree.current(), &Inputs::default()).is_ok()
    };
    let count = (0..512).filter(|_| resolve_one()).count();
    assert!(count >= 10, "only {count} of 512 resolve");
}
