//! Deleting exactly the object that was looked at.

use std::fmt::Debug;
use std::time::Duration;

use kube::api::{Api, DeleteParams, Preconditions};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::apply::{CallError, within};

/// What became of an object that should go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// The API server accepted; finalizers may keep the object for a while.
    Requested,
    /// It was gone already.
    AlreadyGone,
    /// Another object has taken its name since, and was left alone.
    Replaced,
}

/// Deletes `object`, but never one of the same name that somebody made since it was read.
pub async fn delete<K>(api: &Api<K>, object: &K, deadline: Duration) -> Result<Deleted, CallError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: object.uid(),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    match within(deadline, api.delete(&object.name_any(), &params)).await {
        Ok(_) => Ok(Deleted::Requested),
        Err(CallError::Api(error)) => match *error {
            kube::Error::Api(status) if status.is_not_found() => Ok(Deleted::AlreadyGone),
            kube::Error::Api(status) if status.is_conflict() => Ok(Deleted::Replaced),
            other => Err(CallError::Api(Box::new(other))),
        },
        Err(late) => Err(late),
    }
}
