//! Writing a status and telling what of it is news: the last step of every reconcile.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::FIELD_MANAGER;
use super::context::Context;
use super::error::{Error, ErrorClass};
use crate::kube_ext::events::EventSpec;

/// What a write must stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// The copy that was read: a conflict when the object has changed since.
    ResourceVersion,
    /// The same object, whatever has changed in it: a conflict when it is gone or another has its
    /// name.
    Uid,
}

/// Writes the status if it differs from the stored one, and publishes what is news. Answers with
/// the object as it is stored then; `None` when nothing was written.
pub async fn report<K, S>(
    object: &K,
    stored: Option<&S>,
    (status, news): &(S, Vec<EventSpec>),
    fence: Fence,
    context: &Context,
) -> Result<Option<K>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
    S: Serialize + PartialEq,
{
    let mut written = None;
    if stored != Some(status) {
        let version = object.resource_version();
        let first = write(object, version, status, context).await;
        written = Some(match first {
            Err(error) if fence == Fence::Uid && error.class() == ErrorClass::Conflict => {
                let version = version_of_the_same(object, error, context).await?;
                write(object, version, status, context).await?
            }
            done => done?,
        });
    }
    for event in news {
        context.events.publish(object, event).await;
    }
    Ok(written)
}

/// The API server compares the version of a status that is written, and not the UID: without a
/// version, what is known of an object that is gone could be written on its successor.
async fn write<K, S>(
    object: &K,
    version: Option<String>,
    status: &S,
    context: &Context,
) -> Result<K, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
    S: Serialize,
{
    let name = object.name_any();
    let mut metadata = json!({ "name": name });
    // Never null: for the API server that is a version, which no object has.
    if let Some(version) = version {
        metadata["resourceVersion"] = json!(version);
    }
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": metadata,
        "status": status,
    });
    let api: Api<K> = context.api(object);
    api.patch_status(
        &name,
        &PatchParams::apply(FIELD_MANAGER).force(),
        &Patch::Apply(body),
    )
    .await
    .map_err(Error::api("writing a status"))
}

/// The version that is stored now, if it is one of this object; else the conflict.
async fn version_of_the_same<K>(
    object: &K,
    conflict: Error,
    context: &Context,
) -> Result<Option<String>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let api: Api<K> = context.api(object);
    let found = api.get_metadata_opt(&object.name_any()).await;
    match found.map_err(Error::api("reading the version of an object"))? {
        Some(found) if found.uid() == object.uid() => Ok(found.resource_version()),
        _ => Err(conflict),
    }
}
