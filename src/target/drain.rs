//! Taking a Node out of the target: cordon, drain, delete. One pass at a time; the Node itself
//! remembers when it began.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::FIELD_MANAGER;
use super::client::CALL_DEADLINE;
use super::draining::{DRAIN_STARTED, Phase, drain_started, has_to_leave, phase};
use crate::kube_ext::apply::{CallError, within};
use crate::kube_ext::delete::delete;
use crate::tokens::format::spelt;

/// What a pass has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drained {
    /// The Node is deleted.
    Gone,
    /// Pods are left; the text says which, for people.
    Waiting(String),
}

/// One pass of taking `node` out.
pub async fn drain(
    client: &Client,
    node: &Node,
    timeout: Duration,
    now: Timestamp,
) -> Result<Drained, CallError> {
    let started = match drain_started(node) {
        Some(started) if is_cordoned(node) => started,
        earlier => {
            let started = earlier.unwrap_or(now);
            cordon(client, node, Some(started)).await?;
            started
        }
    };
    let phase = phase(started, timeout, now);
    let name = node.name_any();
    let on_it = ListParams::default().fields(&format!("spec.nodeName={name}"));
    let pods: Api<Pod> = Api::all(client.clone());
    let pods = within(CALL_DEADLINE, pods.list(&on_it)).await?;
    let mut left = Vec::new();
    for pod in pods.items.iter().filter(|pod| has_to_leave(pod)) {
        if phase != Phase::Over {
            left.push(send_away(client, pod, phase).await?);
        }
    }
    if left.is_empty() {
        let nodes: Api<Node> = Api::all(client.clone());
        delete(&nodes, node, CALL_DEADLINE).await?;
        return Ok(Drained::Gone);
    }
    left.sort();
    let by = spelt(started.checked_add(timeout).unwrap_or(Timestamp::MAX));
    let text = format!("{} (evictions may be refused until {by})", left.join(", "));
    Ok(Drained::Waiting(text))
}

/// Takes back that a Node is being drained.
pub async fn undo_drain(client: &Client, node: &Node) -> Result<(), CallError> {
    cordon(client, node, None).await
}

fn is_cordoned(node: &Node) -> bool {
    node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true)
}

async fn cordon(client: &Client, node: &Node, started: Option<Timestamp>) -> Result<(), CallError> {
    let patch = json!({
        "metadata": {
            "uid": node.uid(),
            "annotations": {DRAIN_STARTED: started.map(spelt)},
        },
        "spec": {"unschedulable": started.map(|_| true)},
    });
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let api: Api<Node> = Api::all(client.clone());
    let patch = Patch::Merge(patch);
    let name = node.name_any();
    let patched = api.patch(&name, &params, &patch);
    within(CALL_DEADLINE, patched).await.map(drop)
}

/// Evicts a pod, or deletes it once the deadline has passed; says for people how it stands.
async fn send_away(client: &Client, pod: &Pod, phase: Phase) -> Result<String, CallError> {
    let namespace = pod.namespace().unwrap_or_default();
    let name = pod.name_any();
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let shown = format!("{namespace}/{name}");
    if pod.metadata.deletion_timestamp.is_some() {
        return Ok(format!("{shown} is ending"));
    }
    let sent = if phase == Phase::Evicting {
        let params = EvictParams::default();
        within(CALL_DEADLINE, api.evict(&name, &params))
            .await
            .map(drop)
    } else {
        let params = DeleteParams::default();
        within(CALL_DEADLINE, api.delete(&name, &params))
            .await
            .map(drop)
    };
    match sent {
        Ok(()) => Ok(format!("{shown} is ending")),
        Err(CallError::Api(error)) => match *error {
            // A PodDisruptionBudget allows no eviction now.
            kube::Error::Api(status) if status.code == 429 => {
                Ok(format!("{shown} may not be evicted: {}", status.message))
            }
            kube::Error::Api(status) if status.is_not_found() => {
                Ok(format!("{shown} has just ended"))
            }
            other => Err(CallError::Api(Box::new(other))),
        },
        Err(late) => Err(late),
    }
}
