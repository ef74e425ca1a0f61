//! What is there in the seed: Secrets, the EtcdCluster, and the contents that the spec refers to.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::InOrder;
use super::resolve::{Contents, references};
use crate::controllers::contents::contents;
use crate::controllers::context::Context;
use crate::controllers::error::Error;
use crate::controllers::names;
use crate::controllers::settled::Settled;
use crate::crd::{ControlPlane, EtcdCluster};
use crate::pki::{Ca, secret_names};

/// Everything in the seed that the plan stands on, read live in this reconcile.
pub struct Observed {
    pub object: Arc<ControlPlane>,
    /// The Secrets of this control plane by name, CAs that the user brought, and the CA of the
    /// EtcdCluster that is referred to.
    pub secrets: BTreeMap<String, Secret>,
    pub etcd: Option<EtcdCluster>,
    pub contents: Contents,
    /// When each certificate expires; filled in from the Secrets once nothing is left to write.
    pub expiries: BTreeMap<String, Timestamp>,
}

/// Reads all of it.
pub async fn observe(object: Arc<ControlPlane>, context: &Context) -> Result<Observed, Error> {
    let name = object.name_any();
    let (etcd, contents) = futures::try_join!(
        etcd_cluster(&object, context),
        contents(&*object, references(&object.spec), context),
    )?;
    let mut secrets = if etcd.is_none() && has_nothing(&object, context) {
        BTreeMap::new()
    } else {
        labelled(&object, context).await?
    };
    if let Some(reference) = reference(&object) {
        let ca = secret_names::ca(reference, Ca::Etcd);
        let api: Api<Secret> = context.api(&*object);
        let found = api.get_opt(&ca).await;
        let found = found.map_err(Error::api("reading the CA of the EtcdCluster"))?;
        secrets.extend(found.map(|found| (ca, found)));
    }
    // What the user brought carries none of our labels. On the very first visit the CAs are simply
    // created: that finds the user's own as a conflict, with fewer questions asked.
    if object.status.is_some() {
        let stacked = object.spec.has_stacked_etcd();
        let cas = Ca::ALL.into_iter().filter(|ca| *ca != Ca::Etcd || stacked);
        let cas = cas.map(|ca| secret_names::ca(&name, ca));
        let shared = cas.chain([secret_names::service_account(&name)]);
        let absent: Vec<String> = shared.filter(|ca| !secrets.contains_key(ca)).collect();
        let api: Api<Secret> = context.api(&*object);
        let found = try_join_all(absent.into_iter().map(|ca| {
            let api = api.clone();
            async move {
                api.get_opt(&ca)
                    .await
                    .map_err(Error::api("reading a CA Secret"))
            }
        }));
        secrets.extend(
            found
                .await?
                .into_iter()
                .flatten()
                .map(|ca| (ca.name_any(), ca)),
        );
    }
    Ok(Observed {
        object,
        secrets,
        etcd,
        contents,
        expiries: BTreeMap::new(),
    })
}

/// What was found in order, if nothing of it has changed; with what was read to tell.
pub async fn unchanged(
    object: &Arc<ControlPlane>,
    context: &Context,
) -> Result<Option<(Observed, Arc<Settled<InOrder>>)>, Error> {
    let uid = object.uid().unwrap_or_default();
    let now = context.clock.monotonic();
    let Some(settled) = context.control_planes.recent(&uid, now) else {
        return Ok(None);
    };
    let (etcd, contents) = futures::try_join!(
        etcd_cluster(object, context),
        contents(&**object, references(&object.spec), context),
    )?;
    let seen = &context.watches.control_planes;
    let holds = settled.holds(&**object, etcd.as_ref(), &contents, seen, context);
    if !holds.await? {
        return Ok(None);
    }
    let observed = Observed {
        object: Arc::clone(object),
        secrets: BTreeMap::new(),
        etcd,
        contents,
        expiries: settled.found.expiries.clone(),
    };
    Ok(Some((observed, settled)))
}

/// Whether this is the very first visit, and the watch has seen no Secret: none is asked for then.
/// Each is created, never overwritten, so that one which came meanwhile is a conflict.
fn has_nothing(object: &ControlPlane, context: &Context) -> bool {
    let namespace = object.namespace().unwrap_or_default();
    let seen = &context.watches.control_planes;
    let seen = seen.of(&namespace, &object.name_any());
    object.status.is_none() && seen.is_some_and(|seen| seen.is_empty())
}

/// The Secrets that carry the label of this control plane.
async fn labelled(
    object: &ControlPlane,
    context: &Context,
) -> Result<BTreeMap<String, Secret>, Error> {
    let api: Api<Secret> = context.api(object);
    let label = format!("{}={}", names::LABEL_CONTROL_PLANE, object.name_any());
    let list = api
        .list(&ListParams::default().labels(&label))
        .await
        .map_err(Error::api("listing the Secrets"))?;
    Ok(list
        .items
        .into_iter()
        .map(|secret| (secret.name_any(), secret))
        .collect())
}

/// The name of the EtcdCluster that is referred to.
fn reference(object: &ControlPlane) -> Option<&str> {
    let reference = object.spec.etcd.as_ref()?.cluster_ref.as_ref()?;
    Some(&reference.name)
}

/// The EtcdCluster that holds the state: the one of the same name, or the one referred to.
pub async fn etcd_cluster(
    object: &ControlPlane,
    context: &Context,
) -> Result<Option<EtcdCluster>, Error> {
    let own = object.name_any();
    let Some(name) = object.spec.etcd_cluster(&own) else {
        return Ok(None);
    };
    let api: Api<EtcdCluster> = context.api(object);
    api.get_opt(name)
        .await
        .map_err(Error::api("reading the EtcdCluster"))
}
