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
use crate::controllers::targets::Cluster;
use crate::crd::{ControlPlane, NodePool};
use crate::kube_ext::owner;
use crate::pki::problem::PkiProblem;
use crate::pki::state::ca as read_ca;
use crate::pki::{Ca, KeyPair, secret_names};
use crate::tokens::SHARED;

/// More Secrets of one pool than this are listed.
const MOST_BY_NAME: usize = 8;

/// Everything in the seed that the plan stands on, read live in this reconcile.
pub struct Observed {
    pub object: Arc<NodePool>,
    /// The control plane and its CA; a moment old, as its pools share them.
    pub control_plane: Option<ControlPlane>,
    /// Certificate of the cluster CA, or what is wrong with its Secret.
    pub ca_pem: Option<Result<String, PkiProblem>>,
    /// The Secrets of this pool by name.
    pub secrets: BTreeMap<String, Secret>,
    pub contents: Contents,
    /// SHA-256 of the contents.
    pub contents_digest: [u8; 32],
}

/// Reads all of it.
pub async fn observe(object: Arc<NodePool>, context: &Context) -> Result<Observed, Error> {
    let ((control_plane, ca_pem), own, contents) = futures::try_join!(
        cluster(&object, context),
        own_secrets(&object, context),
        contents(&*object, references(&object.spec), context)
    )?;
    Ok(Observed {
        control_plane,
        ca_pem,
        secrets: own,
        contents_digest: digest(&contents),
        contents,
        object,
    })
}

/// The control plane, and the certificate of its CA. What is not there, or not in order, is asked
/// for again by every pool.
async fn cluster(
    object: &NodePool,
    context: &Context,
) -> Result<(Option<ControlPlane>, Option<Result<String, PkiProblem>>), Error> {
    let name = &object.spec.control_plane_ref.name;
    let namespace = object.namespace().unwrap_or_default();
    let now = context.clock.monotonic();
    if let Some(kept) = context.targets.cluster(&namespace, name, now) {
        let control_plane = kept.control_plane.clone();
        return Ok((Some(control_plane), Some(Ok(kept.ca_pem.clone()))));
    }
    let control_planes: Api<ControlPlane> = context.api(object);
    let control_plane = async {
        let found = control_planes.get_opt(name).await;
        found.map_err(Error::api("reading the ControlPlane"))
    };
    let (control_plane, ca) = futures::try_join!(control_plane, cluster_ca(object, context))?;
    let ca_pem = ca.map(|ca| ca.map(|ca| ca.certificate_pem.clone()));
    if let (Some(control_plane), Some(Ok(ca_pem))) = (&control_plane, &ca_pem) {
        let kept = Cluster {
            control_plane: control_plane.clone(),
            ca_pem: ca_pem.clone(),
        };
        context
            .targets
            .keep_cluster(&namespace, Arc::new(kept), now);
    }
    Ok((control_plane, ca_pem))
}

/// The CA of the pool's cluster; the inner error is for people.
pub async fn cluster_ca(
    object: &NodePool,
    context: &Context,
) -> Result<Option<Result<KeyPair, PkiProblem>>, Error> {
    let name = secret_names::ca(&object.spec.control_plane_ref.name, Ca::Cluster);
    let secrets: Api<Secret> = context.api(object);
    let found = secrets.get_opt(&name).await;
    let found = found.map_err(Error::api("reading the cluster CA"))?;
    let data = found.and_then(|secret| secret.data);
    Ok(data.map(|data| read_ca(&name, &data)))
}

/// The Secrets of the pool: by name when they are few and known, else by its label, for which the
/// API server goes through all Secrets of the namespace.
async fn own_secrets(
    object: &NodePool,
    context: &Context,
) -> Result<BTreeMap<String, Secret>, Error> {
    let secrets: Api<Secret> = context.api(object);
    let namespace = object.namespace().unwrap_or_default();
    let seen = context
        .watches
        .node_pools
        .of(&namespace, &object.name_any());
    let seen = seen.map(|seen| seen.keys().map(ToString::to_string).collect());
    let wanted = few_names(object, seen);
    if let Some(names) = wanted {
        let found = try_join_all(names.iter().map(|name| secrets.get_opt(name))).await;
        let found = found.map_err(Error::api("reading the Secrets of a pool"))?;
        let found = found.into_iter().flatten();
        let own = found.filter(|secret| is_of(secret, object));
        let own = own.map(|secret| (secret.name_any(), secret)).collect();
        if !has_others(object, &own, &names) {
            return Ok(own);
        }
    }
    listed(object, &secrets).await
}

/// Whether a Secret has the label of the pool.
fn is_of(secret: &Secret, object: &NodePool) -> bool {
    secret.labels().get(names::LABEL_NODE_POOL) == Some(&object.name_any())
}

/// Names of the Secrets that are there by all that is known, and of those that the spec asks for;
/// `None` when they are many, or when it is not known what is there.
fn few_names(object: &NodePool, known: Option<BTreeSet<String>>) -> Option<BTreeSet<String>> {
    let mut wanted = known?;
    let cluster = &object.spec.control_plane_ref.name;
    let pool = object.name_any();
    wanted.insert(names::pool_tokens(cluster, &pool));
    match object.spec.machines.as_deref() {
        None | Some([]) => {
            wanted.insert(names::worker_config(cluster, &pool));
        }
        Some(machines) => {
            let machines = machines.iter();
            wanted.extend(machines.map(|one| names::worker_config(cluster, &one.name)));
        }
    }
    (wanted.len() <= MOST_BY_NAME).then_some(wanted)
}

/// Whether there may be user data with one of the pool's tokens that was not asked for.
fn has_others(object: &NodePool, own: &BTreeMap<String, Secret>, asked: &BTreeSet<String>) -> bool {
    let cluster = &object.spec.control_plane_ref.name;
    let pool = object.name_any();
    let Some(tokens) = own.get(&names::pool_tokens(cluster, &pool)) else {
        return false;
    };
    let Some(stored) = super::secrets::read_stored(tokens) else {
        return true;
    };
    let slots = stored.0.keys();
    let mut machines = slots.map(|slot| if slot == SHARED { &pool } else { slot });
    machines.any(|machine| !asked.contains(&names::worker_config(cluster, machine)))
}

async fn listed(
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pool(machines: Value) -> NodePool {
        serde_json::from_value(json!({
            "apiVersion": "seedbed.dev/v1alpha1", "kind": "NodePool",
            "metadata": {"name": "p", "namespace": "clusters"},
            "spec": {"controlPlaneRef": {"name": "prod"}, "machines": machines},
        }))
        .unwrap()
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn few_secrets_are_read_by_name_and_many_are_listed() {
        let open = pool(Value::Null);
        assert_eq!(few_names(&open, None), None, "nobody knows what is there");
        let both = set(&["prod-p", "prod-p-tokens"]);
        assert_eq!(few_names(&open, Some(set(&[]))), Some(both.clone()));
        // What is left of a list that it had before.
        let left = few_names(&open, Some(set(&["prod-w-9"]))).unwrap();
        assert_eq!(left, set(&["prod-p", "prod-p-tokens", "prod-w-9"]));
        let listed = |count: usize| {
            let machines = (1..=count).map(|number| json!({"name": format!("w-{number}")}));
            few_names(&pool(machines.collect()), Some(set(&[])))
        };
        assert_eq!(listed(1), Some(set(&["prod-p-tokens", "prod-w-1"])));
        assert_eq!(listed(MOST_BY_NAME), None);
    }

    #[test]
    fn user_data_with_a_stored_token_is_never_overlooked() {
        let open = pool(Value::Null);
        let asked = set(&["prod-p", "prod-p-tokens"]);
        let own = |slots: &Value| {
            let secret: Secret = serde_json::from_value(json!({
                "metadata": {"name": "prod-p-tokens"},
                "data": {names::TOKENS_KEY: k8s_openapi::ByteString(slots.to_string().into())},
            }))
            .unwrap();
            BTreeMap::from([("prod-p-tokens".to_owned(), secret)])
        };
        let slot = json!({"token": "abcdef.0123456789abcdef"});
        assert!(!has_others(&open, &BTreeMap::new(), &asked));
        assert!(!has_others(&open, &own(&json!({SHARED: slot})), &asked));
        let more = own(&json!({SHARED: slot, "w-9": slot}));
        assert!(has_others(&open, &more, &asked));
        assert!(has_others(&open, &own(&json!("lost")), &asked));
    }
}
