//! What was found in order, and under which versions of the objects: while none of them changes,
//! their data is not read, parsed and rendered again. Only looking at the machines goes on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use sha2::{Digest as _, Sha256};

use super::contents::digest;
use super::context::{Context, Pool};
use super::error::Error;
use super::fields::Contents;
use super::seen::{Seen, Version, version};
use crate::crd::EtcdCluster;

/// After this time everything is read again all the same: certificates grow old.
const PERIOD: Duration = Duration::from_secs(600);

/// An object that had nothing left to write, and what was found then.
pub struct Settled<T> {
    pub found: T,
    versions: Versions,
    /// When it was found so, on the monotonic clock.
    since: Duration,
}

impl<T> Pool<Settled<T>> {
    /// How this object was found last, unless that is too long ago to go by.
    pub fn recent(&self, uid: &str, now: Duration) -> Option<Arc<Settled<T>>> {
        let settled = self.get(uid, now);
        settled.filter(|settled| now.saturating_sub(settled.since) < PERIOD)
    }
}

impl<T> Settled<T> {
    /// Found in order at `now`, on the monotonic clock.
    pub fn new(found: T, versions: Versions, now: Duration) -> Self {
        Self {
            found,
            versions,
            since: now,
        }
    }

    /// Whether `object`, the EtcdCluster that holds its founding, the contents that it refers to
    /// and its Secrets have the versions that they had then. Those that carry its label are as
    /// the watch has `seen` them; only if that differs they are listed, because our own writes may
    /// not have come round yet.
    pub async fn holds(
        &self,
        object: &impl ResourceExt,
        etcd: Option<&EtcdCluster>,
        contents: &Contents,
        seen: &Seen,
        context: &Context,
    ) -> Result<bool, Error> {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let is_same = |secrets| all(object, etcd, &secrets, contents) == self.versions.all;
        if let Some(versions) = seen.versions(&namespace, &name)
            && is_same(self.with_others(versions, object, context).await?)
        {
            return Ok(true);
        }
        let ours = ListParams::default().labels(&format!("{}={name}", seen.label));
        let listed = context.api::<Secret>(object).list_metadata(&ours).await;
        let listed = listed.map_err(Error::api("listing the Secrets"))?.items;
        let listed = listed.iter();
        let listed = listed
            .map(|secret| (secret.name_any(), version(secret)))
            .collect();
        Ok(is_same(self.with_others(listed, object, context).await?))
    }

    /// Adds the versions of those Secrets that carry no label of ours.
    async fn with_others(
        &self,
        mut secrets: BTreeMap<String, Version>,
        object: &impl ResourceExt,
        context: &Context,
    ) -> Result<BTreeMap<String, Version>, Error> {
        let api: Api<Secret> = context.api(object);
        let others = self.versions.others.iter();
        let found = try_join_all(others.map(|name| api.get_metadata_opt(name))).await;
        let found = found.map_err(Error::api("reading a Secret that a user brought"))?;
        let found = found.into_iter().flatten();
        secrets.extend(found.map(|secret| (secret.name_any(), version(&secret))));
        Ok(secrets)
    }
}

/// Changes with everything that planning and rendering stand on, the clock and this program apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Versions {
    /// SHA-256 of all of it: there may be a thousand of these.
    all: [u8; 32],
    /// Names of the Secrets that carry no label of ours.
    others: Vec<String>,
}

impl Versions {
    /// The versions of what was read, or written, in this reconcile; our Secrets carry `label`.
    pub fn of(
        object: &impl ResourceExt,
        etcd: Option<&EtcdCluster>,
        secrets: &BTreeMap<String, Secret>,
        contents: &Contents,
        label: &str,
    ) -> Self {
        let others = secrets.iter();
        let others = others.filter(|(_, secret)| !secret.labels().contains_key(label));
        let others = others.map(|(name, _)| name.clone()).collect();
        let secrets = secrets.iter();
        let secrets = secrets.map(|(name, secret)| (name.clone(), version(secret)));
        Self {
            all: all(object, etcd, &secrets.collect(), contents),
            others,
        }
    }
}

fn all(
    object: &impl ResourceExt,
    etcd: Option<&EtcdCluster>,
    secrets: &BTreeMap<String, Version>,
    contents: &Contents,
) -> [u8; 32] {
    let (generation, annotations) = (object.meta().generation, object.annotations());
    let (etcd, contents) = (etcd.map(version), digest(contents));
    let all = format!("{:?}", (generation, annotations, etcd, secrets, contents));
    Sha256::digest(all).into()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use zeroize::Zeroizing;

    use super::*;
    use crate::controllers::fields::{ContentKind, ContentRef};
    use crate::crd::ControlPlane;

    fn versions(world: &Value) -> Versions {
        let object: Result<ControlPlane, _> = serde_json::from_value(json!({
            "apiVersion": "seedbed.dev/v1alpha1", "kind": "ControlPlane",
            "metadata": {"name": "prod", "generation": world["generation"],
                         "annotations": world["annotations"]},
            "spec": {"version": "v1.37.1", "replicas": 1, "machines": []},
        }));
        let etcd: Result<EtcdCluster, _> = serde_json::from_value(json!({
            "apiVersion": "seedbed.dev/v1alpha1", "kind": "EtcdCluster",
            "metadata": {"name": "prod", "uid": "e", "resourceVersion": world["etcd"]},
            "spec": {"version": "3.7.0", "size": 1, "machines": []},
        }));
        let secret = |(name, of): (&String, &Value)| {
            let metadata = json!({"name": name, "uid": of[0], "resourceVersion": of[1]});
            let secret = serde_json::from_value(json!({"metadata": metadata}));
            (name.clone(), secret.expect("a Secret"))
        };
        let secrets = world["secrets"].as_object().expect("Secrets");
        let reference = ContentRef {
            kind: ContentKind::Secret,
            name: "files".to_owned(),
            key: "motd".to_owned(),
        };
        let content = world["content"].as_str().expect("text");
        let content = Zeroizing::new(content.as_bytes().to_vec());
        Versions::of(
            &object.expect("a ControlPlane"),
            Some(&etcd.expect("an EtcdCluster")),
            &secrets.iter().map(secret).collect(),
            &Contents::from([(reference, content)]),
            "seedbed.dev/control-plane",
        )
    }

    #[test]
    fn whatever_planning_stands_on_changes_the_versions() {
        let world = json!({
            "generation": 1, "annotations": {"a": "1"}, "etcd": "5", "content": "hello",
            "secrets": {"prod-ca": ["u", "7"], "prod-cp-1": ["v", "8"]},
        });
        assert_eq!(versions(&world), versions(&world));
        for (pointer, value) in [
            ("/generation", json!(2)),
            ("/annotations/a", json!("2")),
            ("/etcd", json!("6")),
            ("/content", json!("hellO")),
            ("/secrets/prod-ca/1", json!("9")),
            // Deleted and made again.
            ("/secrets/prod-ca/0", json!("w")),
            ("/secrets", json!({"prod-ca": ["u", "7"]})),
        ] {
            let mut changed = world.clone();
            *changed.pointer_mut(pointer).expect("a place") = value;
            assert_ne!(versions(&changed), versions(&world), "{pointer}");
        }
    }
}
