//! What is looked at in a Node. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, Taint};
use serde_json::Value;

use super::FIELD_MANAGER;

/// What the operator needs to know of a Node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeView {
    pub name: String,
    pub uid: String,
    pub resource_version: String,
    /// Condition `Ready` is true.
    pub ready: bool,
    /// As the kubelet reports it: `v1.37.1`.
    pub kubelet_version: String,
    pub labels: BTreeMap<String, String>,
    /// Labels that this field manager applied.
    pub our_labels: BTreeSet<String>,
    pub taints: Vec<Taint>,
}

impl From<Node> for NodeView {
    fn from(node: Node) -> Self {
        let our_labels = our_labels(&node);
        let metadata = node.metadata;
        let status = node.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_ref());
        Self {
            name: metadata.name.unwrap_or_default(),
            uid: metadata.uid.unwrap_or_default(),
            resource_version: metadata.resource_version.unwrap_or_default(),
            ready: conditions
                .into_iter()
                .flatten()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
            kubelet_version: status
                .and_then(|status| status.node_info.as_ref())
                .map(|info| info.kubelet_version.clone())
                .unwrap_or_default(),
            our_labels,
            labels: metadata.labels.unwrap_or_default(),
            taints: node.spec.and_then(|spec| spec.taints).unwrap_or_default(),
        }
    }
}

/// Keys below `f:metadata.f:labels` of our entry in `managedFields`.
fn our_labels(node: &Node) -> BTreeSet<String> {
    let entries = node.metadata.managed_fields.iter().flatten();
    entries
        .filter(|entry| {
            entry.manager.as_deref() == Some(FIELD_MANAGER)
                && entry.operation.as_deref() == Some("Apply")
        })
        .filter_map(|entry| entry.fields_v1.as_ref()?.0.pointer("/f:metadata/f:labels"))
        .filter_map(Value::as_object)
        .flat_map(|labels| labels.keys())
        .filter_map(|key| key.strip_prefix("f:"))
        .map(str::to_owned)
        .collect()
}
