//! Comparison with live objects and marks of nodes. The objects themselves are compared with
//! kubeadm's in `tests/kubeadm_objects_oracle.rs`.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, Taint};
use serde_json::{Value, json};

use super::{NodeChange, NodeMarks, NodeView, difference};

const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

fn path(desired: Value, live: Value) -> Option<String> {
    difference(&desired, &live)
}

#[test]
fn what_only_the_live_object_has_is_no_difference() {
    let desired = json!({
        "metadata": {"name": "a", "labels": {"x": "y"}},
        "subjects": [{"kind": "Group", "name": "g"}],
        "spec": {"resources": {}, "list": [], "nothing": null},
    });
    let live = json!({
        "metadata": {"name": "a", "uid": "1", "labels": {"x": "y", "z": ""}},
        "subjects": [{"kind": "Group", "name": "g", "apiGroup": "rbac.authorization.k8s.io"}],
        "spec": {"replicas": 1},
    });
    assert_eq!(path(desired, live), None);
}

#[test]
fn a_difference_is_named_by_its_path() {
    let cases = [
        (json!({"a": {"b": 1}}), json!({"a": {"b": 2}}), ".a.b"),
        (json!({"a": {"b": 1}}), json!({"a": {}}), ".a.b"),
        (json!({"a": {"b": 1}}), json!({"a": []}), ".a"),
        (json!({"a": "1"}), json!({"a": 1}), ".a"),
        (json!({"a": ""}), json!({}), ".a"),
        (json!({"a": false}), json!({}), ".a"),
        (json!({"args": ["x"]}), json!({"args": ["x", "y"]}), ".args"),
        (
            json!({"args": ["x", "y"]}),
            json!({"args": ["y", "x"]}),
            ".args[0]",
        ),
    ];
    for (desired, live, expected) in cases {
        assert_eq!(path(desired, live).as_deref(), Some(expected));
    }
}

#[test]
fn lists_merged_by_key_may_hold_more_and_in_another_order() {
    let desired = json!({"containers": [{
        "name": "a",
        "ports": [{"containerPort": 53, "protocol": "UDP", "name": "dns"}],
    }]});
    let live = |name: &str| {
        json!({"containers": [
            {"name": "sidecar"},
            {"name": "a", "ports": [
                {"containerPort": 53, "protocol": "TCP", "name": "dns-tcp"},
                {"containerPort": 53, "protocol": "UDP", "name": name},
            ]},
        ]})
    };
    assert_eq!(path(desired.clone(), live("dns")), None);
    assert_eq!(
        path(desired.clone(), live("x")).as_deref(),
        Some(".containers[\"a\"].ports[53,\"UDP\"].name")
    );
    assert_eq!(
        path(desired, json!({"containers": [{"name": "sidecar"}]})).as_deref(),
        Some(".containers[\"a\"]")
    );
}

#[test]
fn service_ports_are_told_apart_by_port_and_protocol() {
    let port = |protocol: &str, target: u16| json!({"port": 53, "protocol": protocol, "targetPort": target});
    let desired = json!({"ports": [port("UDP", 53), port("TCP", 53)]});
    let swapped = json!({"ports": [port("TCP", 53), port("UDP", 53)]});
    assert_eq!(path(desired.clone(), swapped), None);
    let other = json!({"ports": [port("TCP", 54), port("UDP", 53)]});
    assert_eq!(
        path(desired, other).as_deref(),
        Some(".ports[53,\"TCP\"].targetPort")
    );
}

fn taint(key: &str, value: Option<&str>, effect: &str) -> Taint {
    Taint {
        key: key.to_owned(),
        value: value.map(str::to_owned),
        effect: effect.to_owned(),
        time_added: None,
    }
}

fn control_plane_taint() -> Taint {
    taint(CONTROL_PLANE, None, "NoSchedule")
}

fn map(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
    labels
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn marks(labels: &[(&str, &str)], taints: Vec<Taint>) -> NodeMarks {
    NodeMarks {
        node: "cp-1".parse().unwrap(),
        labels: map(labels),
        taints,
    }
}

fn node(labels: &[(&str, &str)], ours: &[&str], taints: Vec<Taint>) -> NodeView {
    NodeView {
        name: "cp-1".to_owned(),
        uid: "1".to_owned(),
        resource_version: "2".to_owned(),
        ready: true,
        kubelet_version: "v1.37.1".to_owned(),
        labels: map(labels),
        our_labels: ours.iter().map(|name| (*name).to_owned()).collect(),
        taints,
    }
}

const BOTH: &[(&str, &str)] = &[(CONTROL_PLANE, ""), (EXCLUDE, "")];

#[test]
fn a_fresh_node_gets_labels_and_taints_and_keeps_those_of_others() {
    let not_ready = taint("node.kubernetes.io/not-ready", None, "NoSchedule");
    let fresh = node(
        &[("kubernetes.io/hostname", "cp-1")],
        &[],
        vec![not_ready.clone()],
    );
    let change = marks(BOTH, vec![control_plane_taint()]).change(&fresh);
    assert_eq!(change.labels, Some(map(BOTH)));
    assert_eq!(change.taints, Some(vec![control_plane_taint(), not_ready]));
}

#[test]
fn a_marked_node_is_left_alone() {
    let mut added = control_plane_taint();
    added.value = Some(String::new());
    let marked = node(
        &[(CONTROL_PLANE, ""), (EXCLUDE, ""), ("zone", "a")],
        &[CONTROL_PLANE, EXCLUDE],
        vec![taint("other", None, "NoExecute"), added],
    );
    let change = marks(BOTH, vec![control_plane_taint()]).change(&marked);
    assert_eq!(change, NodeChange::default());
}

#[test]
fn a_node_marked_by_someone_else_is_left_alone() {
    let marked = node(BOTH, &[], vec![control_plane_taint()]);
    let change = marks(BOTH, vec![control_plane_taint()]).change(&marked);
    assert_eq!(change, NodeChange::default());
}

#[test]
fn a_label_that_is_no_longer_desired_goes_if_it_is_ours() {
    let live = &[
        (CONTROL_PLANE, ""),
        (EXCLUDE, ""),
        ("rack", "a"),
        ("team", "x"),
    ];
    let marked = node(live, &[CONTROL_PLANE, EXCLUDE, "rack"], vec![]);
    let change = marks(BOTH, vec![]).change(&marked);
    assert_eq!(change.labels, Some(map(BOTH)));
}

#[test]
fn the_load_balancer_label_taken_off_by_hand_stays_off() {
    let marked = node(&[(CONTROL_PLANE, "")], &[CONTROL_PLANE], vec![]);
    assert_eq!(marks(BOTH, vec![]).change(&marked), NodeChange::default());
    let unlabelled = node(&[], &["rack"], vec![]);
    let change = marks(BOTH, vec![]).change(&unlabelled);
    assert_eq!(change.labels, Some(map(&[(CONTROL_PLANE, "")])));
}

#[test]
fn taints_are_only_added_except_that_of_the_control_plane() {
    let other = taint("other", None, "NoExecute");
    let tainted = node(BOTH, &[], vec![control_plane_taint(), other.clone()]);
    let change = marks(BOTH, vec![]).change(&tainted);
    assert_eq!(change.taints, Some(vec![other.clone()]));
    let change = marks(BOTH, vec![]).change(&node(BOTH, &[], vec![other]));
    assert_eq!(change.taints, None);
}

#[test]
fn a_taint_of_another_value_is_replaced() {
    let old = taint("role", Some("old"), "NoSchedule");
    let new = taint("role", Some("new"), "NoSchedule");
    let change = marks(BOTH, vec![new.clone()]).change(&node(BOTH, &[], vec![old]));
    assert_eq!(change.taints, Some(vec![new]));
}

#[test]
fn a_view_of_a_node_knows_which_labels_are_ours() {
    let fields = |labels: &[&str]| -> Value {
        let labels: BTreeMap<String, Value> = labels
            .iter()
            .map(|name| (format!("f:{name}"), json!({})))
            .collect();
        json!({"f:metadata": {"f:labels": labels}})
    };
    let entry = |manager: &str, operation: &str, labels: &[&str]| {
        json!({
            "manager": manager, "operation": operation, "apiVersion": "v1",
            "fieldsType": "FieldsV1", "fieldsV1": fields(labels),
        })
    };
    let node: Node = serde_json::from_value(json!({
        "metadata": {
            "name": "cp-1",
            "managedFields": [
                entry("kubelet", "Update", &["kubernetes.io/hostname"]),
                entry("seedbed/target", "Apply", &[CONTROL_PLANE, "rack"]),
            ],
        },
        "status": {
            "conditions": [
                {"type": "Ready", "status": "True"},
                {"type": "MemoryPressure", "status": "False"},
            ],
        },
    }))
    .unwrap();
    let view = NodeView::from(node);
    let ours: BTreeSet<String> = [CONTROL_PLANE.to_owned(), "rack".to_owned()].into();
    assert_eq!(view.our_labels, ours);
    assert!(view.ready);
}
