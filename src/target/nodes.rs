//! Nodes of the target, seen and marked.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Node, Taint};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use super::apply::{Applied, CALLS_AT_ONCE, FIELD_MANAGER, Problem};
use super::client::CALL_DEADLINE;
use super::node_marks::{NodeChange, NodeMarks};
use crate::domain::NodeName;
use crate::kube_ext::apply::{CallError, within};

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
        let status = node.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_ref());
        Self {
            name: node.name_any(),
            uid: node.uid().unwrap_or_default(),
            resource_version: node.resource_version().unwrap_or_default(),
            ready: conditions
                .into_iter()
                .flatten()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
            kubelet_version: status
                .and_then(|status| status.node_info.as_ref())
                .map(|info| info.kubelet_version.clone())
                .unwrap_or_default(),
            our_labels: our_labels(&node),
            labels: node.metadata.labels.unwrap_or_default(),
            taints: node.spec.and_then(|spec| spec.taints).unwrap_or_default(),
        }
    }
}

/// Keys below `f:metadata.f:labels` of our entry in `managedFields`.
fn our_labels(node: &Node) -> BTreeSet<String> {
    node.managed_fields()
        .iter()
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

/// The named nodes that are registered, in the order of their names. One request a node: a target
/// may have thousands of other nodes.
pub async fn nodes(client: &Client, names: &[NodeName]) -> Result<Vec<NodeView>, CallError> {
    let api: Api<Node> = Api::all(client.clone());
    let calls: Vec<_> = names
        .iter()
        .map(|name| within(CALL_DEADLINE, api.get_opt(name.as_str())))
        .collect();
    let mut found = stream::iter(calls).buffer_unordered(CALLS_AT_ONCE);
    let mut views = Vec::with_capacity(names.len());
    while let Some(node) = found.next().await {
        views.extend(node?.map(NodeView::from));
    }
    views.sort_by(|a: &NodeView, b| a.name.cmp(&b.name));
    Ok(views)
}

/// Marks the nodes in `seen`, as [`nodes`] read them, where a mark is missing. Nodes that are not
/// registered are left out: `in_place` is false then, without a problem.
pub async fn mark_nodes(client: &Client, marks: &[NodeMarks], seen: &[NodeView]) -> Applied {
    let mut applied = Applied::settled();
    for marks in marks {
        let Some(node) = seen.iter().find(|node| node.name == marks.node.as_str()) else {
            applied.in_place = false;
            continue;
        };
        match mark(client, node, marks.change(node)).await {
            Ok(written) => applied.written += written,
            Err(error) => {
                let unreachable = error.is_unreachable();
                applied.fail(Problem::new(format!("Node {}", node.name), &error));
                if unreachable {
                    break;
                }
            }
        }
    }
    applied
}

async fn mark(client: &Client, node: &NodeView, change: NodeChange) -> Result<usize, CallError> {
    let api: Api<Node> = Api::all(client.clone());
    let mut written = 0;
    if let Some(taints) = change.taints {
        // The list is replaced as a whole: only if nobody changed the node since it was read.
        let patch = json!({
            "metadata": {"resourceVersion": node.resource_version},
            "spec": {"taints": taints},
        });
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        within(
            CALL_DEADLINE,
            api.patch(&node.name, &params, &Patch::Merge(patch)),
        )
        .await?;
        written += 1;
    }
    if let Some(labels) = change.labels {
        // With the UID an apply cannot create a Node that is gone.
        let patch = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": node.name, "uid": node.uid, "labels": labels},
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        within(
            CALL_DEADLINE,
            api.patch(&node.name, &params, &Patch::Apply(patch)),
        )
        .await?;
        written += 1;
    }
    Ok(written)
}
