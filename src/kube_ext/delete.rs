//! Deleting exactly the object that was looked at.

use kube::api::{Api, DeleteParams, Preconditions};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

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
pub async fn delete<K>(api: &Api<K>, object: &K) -> kube::Result<Deleted>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: object.uid(),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    match api.delete(&object.name_any(), &params).await {
        Ok(_) => Ok(Deleted::Requested),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Deleted::AlreadyGone),
        Err(kube::Error::Api(status)) if status.is_conflict() => Ok(Deleted::Replaced),
        Err(error) => Err(error),
    }
}
