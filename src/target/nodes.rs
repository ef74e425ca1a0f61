//! Nodes of the target, seen and marked.

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::FIELD_MANAGER;
use super::apply::{Applied, CALLS_AT_ONCE, Problem};
use super::client::CALL_DEADLINE;
use super::node_marks::{NodeChange, NodeMarks};
use super::node_view::NodeView;
use crate::domain::NodeName;
use crate::kube_ext::apply::{CallError, within};
use crate::kube_ext::delete::delete;

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

/// Takes the Node of a machine that is let go: nothing new is scheduled there, then it is deleted,
/// and its pods with it. None of that name is as good.
pub async fn remove_node(client: &Client, name: &NodeName) -> Result<(), CallError> {
    let api: Api<Node> = Api::all(client.clone());
    let Some(node) = within(CALL_DEADLINE, api.get_opt(name.as_str())).await? else {
        return Ok(());
    };
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    if !cordoned {
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = json!({"spec": {"unschedulable": true}});
        within(
            CALL_DEADLINE,
            api.patch(name.as_str(), &params, &Patch::Merge(patch)),
        )
        .await?;
    }
    delete(&api, &node, CALL_DEADLINE).await.map(drop)
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
