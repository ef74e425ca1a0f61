//! What is there in the seed: the control plane, its CA, the Secrets of the pool, and the contents
//! that the spec refers to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::resolve::references;
use crate::controllers::contents::{contents, digest};
use crate::controllers::context::Context;
use crate::controllers::error::Error;
use crate::controllers::fields::Contents;
use crate::controllers::names;
use crate::crd::{ControlPlane, NodePool};
use crate::kube_ext::owner;
use crate::pki::state::SecretData;
use crate::pki::{Ca, secret_names};

/// Everything in the seed that the plan stands on, read live in this reconcile.
pub struct Observed {
    pub object: Arc<NodePool>,
    pub control_plane: Option<ControlPlane>,
    /// Data of the cluster CA's Secret.
    pub ca: Option<SecretData>,
    /// The Secrets of this pool by name.
    pub secrets: BTreeMap<String, Secret>,
    pub contents: Contents,
    /// SHA-256 of the contents.
    pub contents_digest: [u8; 32],
}

/// Reads all of it.
pub async fn observe(object: Arc<NodePool>, context: &Context) -> Result<Observed, Error> {
    let name = object.spec.control_plane_ref.name.clone();
    let control_planes: Api<ControlPlane> = context.api(&*object);
    let secrets: Api<Secret> = context.api(&*object);
    let ca = secret_names::ca(&name, Ca::Cluster);
    let control_plane = async {
        let found = control_planes.get_opt(&name).await;
        found.map_err(Error::api("reading the ControlPlane"))
    };
    let ca = async {
        let found = secrets.get_opt(&ca).await;
        found.map_err(Error::api("reading the cluster CA"))
    };
    let (control_plane, ca, own, contents) = futures::try_join!(
        control_plane,
        ca,
        own_secrets(&object, &secrets),
        contents(&*object, references(&object.spec), context)
    )?;
    Ok(Observed {
        control_plane,
        ca: ca.and_then(|secret| secret.data),
        secrets: own,
        contents_digest: digest(&contents),
        contents,
        object,
    })
}

async fn own_secrets(
    object: &NodePool,
    secrets: &Api<Secret>,
) -> Result<BTreeMap<String, Secret>, Error> {
    let of_this = format!("{}={}", names::LABEL_NODE_POOL, object.name_any());
    let list = secrets
        .list(&ListParams::default().labels(&of_this))
        .await
        .map_err(Error::api("listing the Secrets of a pool"))?;
    let named = list.items.into_iter();
    Ok(named.map(|secret| (secret.name_any(), secret)).collect())
}

/// Which of these Secrets exist and belong to somebody else, with whom.
pub async fn occupied(
    object: &NodePool,
    wanted: Vec<String>,
    context: &Context,
) -> Result<BTreeMap<String, String>, Error> {
    let api: Api<Secret> = context.api(object);
    let found = try_join_all(wanted.into_iter().map(|name| {
        let api = api.clone();
        async move {
            let found = api.get_metadata_opt(&name).await;
            found.map_err(Error::api("looking whether a Secret's name is free"))
        }
    }));
    let others = found.await?.into_iter().flatten();
    let others = others.filter(|secret| !owner::is_controlled_by(&secret.metadata, object));
    Ok(others
        .map(|secret| {
            let owner = owner::controller_of(&secret.metadata);
            let owner = owner.map(|owner| format!("{} {}", owner.kind, owner.name));
            (
                secret.name_any(),
                owner.unwrap_or_else(|| "nobody".to_owned()),
            )
        })
        .collect())
}

/// Ids of the tokens of every pool in the namespace.
pub async fn all_token_ids(
    object: &NodePool,
    context: &Context,
) -> Result<BTreeSet<String>, Error> {
    let api: Api<Secret> = context.api(object);
    let label = format!("{}={}", names::LABEL_CONTENT, names::CONTENT_TOKENS);
    let list = api.list(&ListParams::default().labels(&label)).await;
    let list = list.map_err(Error::api("listing the tokens of all pools"))?;
    let stores = list.items.iter().filter_map(super::secrets::read_stored);
    Ok(stores
        .flat_map(|stored| {
            let ids = stored.ids().into_iter().map(str::to_owned);
            ids.collect::<Vec<_>>()
        })
        .collect())
}
