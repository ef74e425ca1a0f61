//! Labels and taints of control-plane nodes (kubeadm's `mark-control-plane` phase). Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Taint;

use super::node_view::NodeView;
use crate::domain::{ControlPlane, Machine, NodeName};

const CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
const EXCLUDE_FROM_LOAD_BALANCERS: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// The marks of one node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeMarks {
    pub node: NodeName,
    /// kubeadm's two labels and the machine's own.
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
}

/// What has to change on a node; `None`: nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeChange {
    /// All labels that are ours from now on, for a server-side apply.
    pub labels: Option<BTreeMap<String, String>>,
    /// The whole new list of taints.
    pub taints: Option<Vec<Taint>>,
}

/// Marks of every machine that serves.
pub fn node_marks(control_plane: &ControlPlane) -> Vec<NodeMarks> {
    let marks = |machine: &Machine| {
        let mut labels = machine.labels.clone();
        for label in [CONTROL_PLANE, EXCLUDE_FROM_LOAD_BALANCERS] {
            labels.entry(label.to_owned()).or_default();
        }
        NodeMarks {
            node: machine.name.clone(),
            labels,
            taints: machine.taints.clone(),
        }
    };
    control_plane.machines.iter().map(marks).collect()
}

impl NodeMarks {
    /// What is missing on `node`.
    ///
    /// Labels that are no longer desired go if they are ours; others' stay. Taints are only added,
    /// as kubeadm does, except the control-plane taint, which also goes when it is not desired.
    /// `exclude-from-external-load-balancers` is put on once: whoever takes it off a marked node
    /// wants load balancers to use it (the usual step on small clusters), and no field of the spec
    /// says so.
    pub fn change(&self, node: &NodeView) -> NodeChange {
        let mut labels = self.labels.clone();
        let marked = !node.our_labels.is_empty();
        if marked && !node.labels.contains_key(EXCLUDE_FROM_LOAD_BALANCERS) {
            labels.remove(EXCLUDE_FROM_LOAD_BALANCERS);
        }
        let in_place = labels
            .iter()
            .all(|(name, value)| node.labels.get(name) == Some(value))
            && node.our_labels.iter().all(|name| labels.contains_key(name));
        NodeChange {
            labels: (!in_place).then_some(labels),
            taints: self.taints(&node.taints),
        }
    }

    /// The new list, where it differs. Taints of one key and effect are one taint
    /// (`MatchTaint` of the API machinery).
    fn taints(&self, live: &[Taint]) -> Option<Vec<Taint>> {
        let same = |a: &Taint, b: &Taint| a.key == b.key && a.effect == b.effect;
        let missing = |wanted: &&Taint| {
            !live
                .iter()
                .any(|taint| same(taint, wanted) && value(taint) == value(wanted))
        };
        let wanted_here = |taint: &Taint| self.taints.iter().any(|wanted| same(wanted, taint));
        let surplus = |taint: &Taint| {
            taint.key == CONTROL_PLANE && taint.effect == "NoSchedule" && !wanted_here(taint)
        };
        if !self.taints.iter().any(|taint| missing(&taint)) && !live.iter().any(surplus) {
            return None;
        }
        let others = live
            .iter()
            .filter(|taint| !wanted_here(taint) && !surplus(taint));
        Some(self.taints.iter().chain(others).cloned().collect())
    }
}

fn value(taint: &Taint) -> &str {
    taint.value.as_deref().unwrap_or_default()
}
