//! What was found in order, and under which versions of the objects: while none of them changes,
//! their data is not read, parsed and rendered again. Only looking at the machines goes on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};

use super::live::Trust;
use super::observe::{self, Observed};
use super::resolve::{Contents, references};
use crate::controllers::contents::{contents, digest};
use crate::controllers::context::Context;
use crate::controllers::error::Error;
use crate::crd::{ControlPlane, EtcdCluster};
use crate::domain::NodeName;

/// After this time everything is read again all the same: certificates grow old.
const PERIOD: Duration = Duration::from_secs(600);

/// A control plane that had nothing left to write.
pub struct Settled {
    /// Revision of each machine's config.
    pub revisions: BTreeMap<String, String>,
    /// Machines that are asked to go but serve.
    pub held: Vec<NodeName>,
    pub expiries: BTreeMap<String, Timestamp>,
    pub trust: Trust,
    pub versions: Versions,
    /// When it was found so, on the monotonic clock.
    pub since: Duration,
}

/// Changes with everything that planning and rendering stand on, the clock and this program apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Versions {
    generation: Option<i64>,
    annotations: BTreeMap<String, String>,
    etcd: Option<Version>,
    /// By name.
    secrets: BTreeMap<String, Version>,
    /// SHA-256 of what the spec refers to.
    contents: [u8; 32],
}

/// UID and resource version.
type Version = (Option<String>, Option<String>);

impl Versions {
    /// The versions of what was read, or written, in this reconcile.
    pub fn of(observed: &Observed, contents: &Contents) -> Self {
        let secrets = observed.secrets.iter();
        Self::new(
            &observed.object,
            observed.etcd.as_ref(),
            secrets.map(|(name, secret)| (name.clone(), version(secret))),
            contents,
        )
    }

    fn new(
        object: &ControlPlane,
        etcd: Option<&EtcdCluster>,
        secrets: impl Iterator<Item = (String, Version)>,
        contents: &Contents,
    ) -> Self {
        Self {
            generation: object.metadata.generation,
            annotations: object.annotations().clone(),
            etcd: etcd.map(version),
            secrets: secrets.collect(),
            contents: digest(contents),
        }
    }
}

fn version(object: &impl ResourceExt) -> Version {
    (object.uid(), object.resource_version())
}

/// What was found in order, if nothing of it has changed; with what was read to tell.
pub async fn unchanged(
    object: &Arc<ControlPlane>,
    context: &Context,
) -> Result<Option<(Observed, Arc<Settled>)>, Error> {
    let uid = object.uid().unwrap_or_default();
    let Some(settled) = context.settled(&uid) else {
        return Ok(None);
    };
    if context.clock.monotonic().saturating_sub(settled.since) >= PERIOD {
        return Ok(None);
    }
    let (secrets, etcd, contents) = futures::try_join!(
        secrets(object, &settled, context),
        observe::etcd_cluster(object, context),
        contents(&**object, references(&object.spec), context),
    )?;
    let versions = Versions::new(object, etcd.as_ref(), secrets.into_iter(), &contents);
    let observed = Observed {
        object: Arc::clone(object),
        secrets: BTreeMap::new(),
        etcd,
        contents,
        expiries: settled.expiries.clone(),
    };
    Ok((versions == settled.versions).then_some((observed, settled)))
}

/// The versions of the control plane's Secrets, and of those that carry none of its labels.
async fn secrets(
    object: &ControlPlane,
    settled: &Settled,
    context: &Context,
) -> Result<BTreeMap<String, Version>, Error> {
    let api: Api<Secret> = context.api(object);
    let listed = api.list_metadata(&observe::of_this(object)).await;
    let listed = listed.map_err(Error::api("listing the Secrets"))?;
    let mut secrets: BTreeMap<String, Version> = listed
        .items
        .iter()
        .map(|secret| (secret.name_any(), version(secret)))
        .collect();
    let known = settled.versions.secrets.keys();
    let others = known.filter(|name| !secrets.contains_key(*name));
    let found = try_join_all(others.map(|name| api.get_metadata_opt(name))).await;
    let found = found.map_err(Error::api("reading a Secret that a user brought"))?;
    let found = found.into_iter().flatten();
    secrets.extend(found.map(|secret| (secret.name_any(), version(&secret))));
    Ok(secrets)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use zeroize::Zeroizing;

    use super::*;
    use crate::controllers::fields::{ContentKind, ContentRef};

    fn observed(world: &Value) -> (Observed, Contents) {
        let object = serde_json::from_value(json!({
            "apiVersion": "seedbed.dev/v1alpha1", "kind": "ControlPlane",
            "metadata": {"name": "prod", "generation": world["generation"],
                         "annotations": world["annotations"]},
            "spec": {"version": "v1.37.1", "replicas": 1, "machines": []},
        }));
        let etcd = serde_json::from_value(json!({
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
        let observed = Observed {
            object: Arc::new(object.expect("a ControlPlane")),
            secrets: secrets.iter().map(secret).collect(),
            etcd: Some(etcd.expect("an EtcdCluster")),
            contents: Contents::new(),
            expiries: BTreeMap::new(),
        };
        let content = Zeroizing::new(content.as_bytes().to_vec());
        (observed, Contents::from([(reference, content)]))
    }

    fn versions(world: &Value) -> Versions {
        let (observed, contents) = observed(world);
        Versions::of(&observed, &contents)
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
