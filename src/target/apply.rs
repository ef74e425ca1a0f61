//! Brings the target to the desired objects.

use futures::{StreamExt as _, stream};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::Client;
use kube::core::ApiResource;
use serde_json::Value;

use super::FIELD_MANAGER;
use super::client::CALL_DEADLINE;
use super::desired::{Desired, Stage};
use super::difference::difference;
use crate::kube_ext::apply::{CallError, get, server_side_apply};

/// Requests in flight to one target.
pub(super) const CALLS_AT_ONCE: usize = 8;

/// What a pass over the target did and found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Writes that were made; 0 once everything is in place.
    pub written: usize,
    /// Everything is in the target as desired.
    pub in_place: bool,
    /// Objects that could not be brought in place.
    pub problems: Vec<Problem>,
}

/// An object that could not be brought in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `ConfigMap kube-system/kubeadm-config`.
    pub object: String,
    pub message: String,
}

impl Problem {
    pub(super) fn new(object: String, message: &impl ToString) -> Self {
        Self {
            object,
            message: message.to_string(),
        }
    }
}

impl Applied {
    pub(super) fn settled() -> Self {
        Self {
            written: 0,
            in_place: true,
            problems: Vec::new(),
        }
    }

    pub(super) fn fail(&mut self, problem: Problem) {
        self.in_place = false;
        self.problems.push(problem);
    }
}

/// Why one object is not in place.
#[derive(Debug, thiserror::Error)]
enum ObjectError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("is written, but the server keeps another value at {0}")]
    KeptOtherwise(String),
    #[error("objects of kind {0} are not applied by this room")]
    UnknownKind(String),
}

/// Reads every object and writes those that differ, stage by stage. An object that fails does not
/// stop the others; a target that does not answer ends the pass.
pub async fn apply(client: &Client, desired: &[Desired]) -> Applied {
    let mut applied = Applied::settled();
    for stage in Stage::ALL {
        // Gathered first: a lazy closure over references keeps callers from being `Send`.
        let calls: Vec<_> = desired
            .iter()
            .filter(|object| object.stage == stage)
            .map(|object| async move { (object, bring_in_place(client, object).await) })
            .collect();
        let mut outcomes = stream::iter(calls).buffered(CALLS_AT_ONCE);
        while let Some((object, outcome)) = outcomes.next().await {
            match outcome {
                Ok(written) => applied.written += usize::from(written),
                Err(error) => {
                    let unreachable =
                        matches!(&error, ObjectError::Call(error) if error.is_unreachable());
                    applied.fail(Problem::new(object.to_string(), &error));
                    if unreachable {
                        return applied;
                    }
                }
            }
        }
    }
    applied
}

/// Whether a write was needed.
async fn bring_in_place(client: &Client, desired: &Desired) -> Result<bool, ObjectError> {
    let resource = resource(desired)?;
    let (namespace, name) = (desired.namespace(), desired.name());
    let live = get(client, &resource, namespace, name, CALL_DEADLINE).await?;
    let object = with_live_values(desired, live.as_ref());
    if live.is_some_and(|live| difference(&object, &live).is_none()) {
        return Ok(false);
    }
    let stored =
        server_side_apply(client, &resource, &object, FIELD_MANAGER, CALL_DEADLINE).await?;
    match difference(&object, &stored) {
        None => Ok(true),
        Some(path) => Err(ObjectError::KeptOtherwise(path)),
    }
}

/// The desired object with the fields that are the target's own taken over. They must stay in the
/// body: leaving out a field that was applied before would remove it.
fn with_live_values(desired: &Desired, live: Option<&Value>) -> Value {
    let mut object = desired.object.clone();
    for pointer in desired.live_wins {
        let live = live.and_then(|live| live.pointer(pointer));
        if let (Some(field), Some(live)) = (object.pointer_mut(pointer), live) {
            field.clone_from(live);
        }
    }
    object
}

fn resource(desired: &Desired) -> Result<ApiResource, ObjectError> {
    Ok(match desired.kind() {
        "ClusterRole" => ApiResource::erase::<ClusterRole>(&()),
        "ClusterRoleBinding" => ApiResource::erase::<ClusterRoleBinding>(&()),
        "ConfigMap" => ApiResource::erase::<ConfigMap>(&()),
        "DaemonSet" => ApiResource::erase::<DaemonSet>(&()),
        "Deployment" => ApiResource::erase::<Deployment>(&()),
        "Role" => ApiResource::erase::<Role>(&()),
        "RoleBinding" => ApiResource::erase::<RoleBinding>(&()),
        "Service" => ApiResource::erase::<Service>(&()),
        "ServiceAccount" => ApiResource::erase::<ServiceAccount>(&()),
        other => return Err(ObjectError::UnknownKind(other.to_owned())),
    })
}
