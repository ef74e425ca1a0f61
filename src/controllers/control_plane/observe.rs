//! What is there in the seed: Secrets, the EtcdCluster, and the contents that the spec refers to.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use zeroize::Zeroizing;

use super::resolve::{ContentKind, ContentRef, Contents, references};
use crate::controllers::context::Context;
use crate::controllers::error::Error;
use crate::controllers::names;
use crate::crd::{ControlPlane, EtcdCluster};
use crate::pki::{Ca, secret_names};

/// Everything in the seed that the plan stands on, read live in this reconcile.
pub struct Observed {
    pub object: Arc<ControlPlane>,
    /// The Secrets of this control plane by name, and CAs that the user brought.
    pub secrets: BTreeMap<String, Secret>,
    pub etcd: Option<EtcdCluster>,
    pub contents: Contents,
    /// When each certificate expires; filled in from the Secrets once nothing is left to write.
    pub expiries: BTreeMap<String, Timestamp>,
}

/// Reads all of it.
pub async fn observe(object: Arc<ControlPlane>, context: &Context) -> Result<Observed, Error> {
    let name = object.name_any();
    let (mut secrets, etcd, contents) = futures::try_join!(
        labelled(&object, context),
        etcd_cluster(&object, context),
        contents(&object, context),
    )?;
    // What the user brought carries none of our labels. On the very first visit the CAs are simply
    // created: that finds the user's own as a conflict, with fewer questions asked.
    if object.status.is_some() {
        let cas = Ca::ALL.into_iter().map(|ca| secret_names::ca(&name, ca));
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

async fn labelled(
    object: &ControlPlane,
    context: &Context,
) -> Result<BTreeMap<String, Secret>, Error> {
    let api: Api<Secret> = context.api(object);
    let of_this = format!("{}={}", names::LABEL_CONTROL_PLANE, object.name_any());
    let list = api
        .list(&ListParams::default().labels(&of_this))
        .await
        .map_err(Error::api("listing the Secrets"))?;
    Ok(list
        .items
        .into_iter()
        .map(|secret| (secret.name_any(), secret))
        .collect())
}

/// The EtcdCluster of the same name.
pub async fn etcd_cluster(
    object: &ControlPlane,
    context: &Context,
) -> Result<Option<EtcdCluster>, Error> {
    let api: Api<EtcdCluster> = context.api(object);
    api.get_opt(&object.name_any())
        .await
        .map_err(Error::api("reading the EtcdCluster"))
}

/// The contents that `machineConfig.files` refers to; what does not exist is left out, and
/// resolving names it.
async fn contents(object: &ControlPlane, context: &Context) -> Result<Contents, Error> {
    let mut contents = Contents::default();
    for reference in references(&object.spec) {
        if let Some(content) = content(object, &reference, context).await? {
            contents.insert(reference, content);
        }
    }
    Ok(contents)
}

async fn content(
    object: &ControlPlane,
    reference: &ContentRef,
    context: &Context,
) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    match reference.kind {
        ContentKind::Secret => {
            let api: Api<Secret> = context.api(object);
            let secret = api.get_opt(&reference.name).await;
            let secret = secret.map_err(Error::api("reading a Secret of machineConfig.files"))?;
            let mut data = secret.and_then(|secret| secret.data).unwrap_or_default();
            Ok(data
                .remove(&reference.key)
                .map(|value| Zeroizing::new(value.0)))
        }
        ContentKind::ConfigMap => {
            let api: Api<ConfigMap> = context.api(object);
            let found = api.get_opt(&reference.name).await;
            let found = found.map_err(Error::api("reading a ConfigMap of machineConfig.files"))?;
            let Some(config_map) = found else {
                return Ok(None);
            };
            let mut text = config_map.data.unwrap_or_default();
            let mut binary = config_map.binary_data.unwrap_or_default();
            let key = &reference.key;
            let text = text.remove(key).map(String::into_bytes);
            Ok(text
                .or_else(|| binary.remove(key).map(|value| value.0))
                .map(Zeroizing::new))
        }
    }
}
