//! Reading and server-side applying one object, each under a deadline.

use std::error::Error as _;
use std::time::Duration;

use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use kube::{Api, Client};
use serde_json::Value;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("no answer within {} s", .0.as_secs())]
    Deadline(Duration),
    #[error("{}", with_causes(.0))]
    Api(Box<kube::Error>),
}

/// The error and its causes in one line: the client's connection errors do not say why by
/// themselves, while others repeat their cause.
fn with_causes(error: &kube::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text.push_str(": ");
            text.push_str(&next_text);
        }
        cause = next.source();
    }
    text
}

impl CallError {
    /// Whether the API server itself could not be reached, so that further calls are useless.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Deadline(_) => true,
            Self::Api(error) => {
                !matches!(**error, kube::Error::Api(_) | kube::Error::SerdeError(_))
            }
        }
    }
}

/// Bounds a call. The client has no read timeout of its own.
pub async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(answer) => answer.map_err(|error| CallError::Api(Box::new(error))),
        Err(_) => Err(CallError::Deadline(deadline)),
    }
}

/// The live object as JSON, or `None`.
pub async fn get(
    client: &Client,
    resource: &ApiResource,
    namespace: Option<&str>,
    name: &str,
    deadline: Duration,
) -> Result<Option<Value>, CallError> {
    let object = within(deadline, api(client, resource, namespace).get_opt(name)).await?;
    object.as_ref().map(to_value).transpose()
}

/// Applies `object` (apiVersion, kind, metadata and the fields we own) and takes over fields that
/// others own; returns what is stored then.
pub async fn server_side_apply(
    client: &Client,
    resource: &ApiResource,
    object: &Value,
    field_manager: &str,
    deadline: Duration,
) -> Result<Value, CallError> {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
    let api = api(client, resource, text("/metadata/namespace"));
    let params = PatchParams::apply(field_manager).force();
    let name = text("/metadata/name").unwrap_or_default();
    let stored = within(deadline, api.patch(name, &params, &Patch::Apply(object))).await?;
    to_value(&stored)
}

fn api(client: &Client, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    }
}

fn to_value(object: &DynamicObject) -> Result<Value, CallError> {
    serde_json::to_value(object)
        .map_err(|error| CallError::Api(Box::new(kube::Error::SerdeError(error))))
}
