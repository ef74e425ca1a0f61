//! Writing a status and telling what of it is news: the last step of every reconcile.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::FIELD_MANAGER;
use super::conditions::{Conditions, READY, RECONCILING, Reason, STALLED};
use super::context::Context;
use super::error::Error;
use crate::kube_ext::events::EventSpec;

/// A write that must stand on the copy that was read, or on whatever is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// Fails with a conflict when the object has changed since it was read.
    ResourceVersion,
    None,
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
        let name = object.name_any();
        let mut metadata = json!({ "name": name });
        // What is known of an object that is gone is never written on its successor of that name.
        if let Some(uid) = object.uid() {
            metadata["uid"] = json!(uid);
        }
        // Never null: for the API server that is a version, which no object has.
        if let (Fence::ResourceVersion, Some(version)) = (fence, object.resource_version()) {
            metadata["resourceVersion"] = json!(version);
        }
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": metadata,
            "status": status,
        });
        let api: Api<K> = context.api(object);
        let patched = api
            .patch_status(
                &name,
                &PatchParams::apply(FIELD_MANAGER).force(),
                &Patch::Apply(body),
            )
            .await;
        written = Some(patched.map_err(Error::api("writing a status"))?);
    }
    for event in news {
        context.events.publish(object, event).await;
    }
    Ok(written)
}

/// Conditions of an object that this release does not act on.
pub fn not_yet_supported(types: &[&'static str], why: &str) -> Conditions {
    let mut conditions = Conditions::unknown(types);
    conditions.set(STALLED, true, Reason::NotYetSupported, why);
    conditions.set(RECONCILING, false, Reason::Blocked, why);
    conditions.set_ready(&[]);
    debug_assert!(types.contains(&READY));
    conditions
}
