//! Metadata of our Secrets as the watches have seen them. A look at an object that is in order
//! compares with this, so that it asks the API server for no list: a list goes through every Secret
//! of the namespace. Each controller reads what its own watch has seen, so that the look that an
//! event starts knows of the event.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{Stream, TryStreamExt};
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, ResourceExt};

use super::context::Context;
use super::etcd_cluster::{Mark, marked};
use super::names;

/// What one watch has seen, in every namespace that is watched. It selects Secrets that carry one
/// label, whose value is the name of the object that they belong to.
pub struct Seen {
    pub label: &'static str,
    namespaces: Mutex<HashMap<String, Namespace>>,
}

/// There are a dozen Secrets to a control plane, so that names are shared and what is rare is boxed.
#[derive(Default)]
struct Namespace {
    /// All there is has been listed.
    complete: bool,
    /// The object that each Secret belongs to.
    owners: HashMap<Arc<str>, Arc<str>>,
    /// The Secrets of each object.
    secrets: HashMap<Arc<str>, BTreeMap<Arc<str>, SeenSecret>>,
}

/// A Secret, without its data.
#[derive(Clone, Debug)]
pub struct SeenSecret {
    pub version: Version,
    /// The machine whose config this is, and what is said about it.
    pub mark: Option<Box<(String, Mark)>>,
}

/// UID and resource version.
pub type Version = (Option<String>, Option<String>);

/// The version of this object.
pub fn version(object: &impl ResourceExt) -> Version {
    (object.uid(), object.resource_version())
}

impl Seen {
    /// Of a watch that selects this label.
    pub fn new(label: &'static str) -> Self {
        Self {
            label,
            namespaces: Mutex::default(),
        }
    }

    /// The Secrets of an object by name; `None` before all have been listed, as after a lost watch.
    pub fn of(&self, namespace: &str, owner: &str) -> Option<BTreeMap<Arc<str>, SeenSecret>> {
        let namespaces = self.lock();
        let namespace = namespaces.get(namespace).filter(|found| found.complete)?;
        Some(namespace.secrets.get(owner).cloned().unwrap_or_default())
    }

    /// Their versions alone.
    pub fn versions(&self, namespace: &str, owner: &str) -> Option<BTreeMap<String, Version>> {
        let secrets = self.of(namespace, owner)?.into_iter();
        let versions = secrets.map(|(name, secret)| (name.to_string(), secret.version));
        Some(versions.collect())
    }

    /// Takes in what the watch reports.
    pub fn note(&self, namespace: &str, event: &Event<PartialObjectMeta<Secret>>) {
        let mut namespaces = self.lock();
        let seen = namespaces.entry(namespace.to_owned()).or_default();
        match event {
            Event::Init => *seen = Namespace::default(),
            Event::InitDone => seen.complete = true,
            Event::Delete(secret) => seen.remove(&secret.name_any()),
            Event::InitApply(secret) | Event::Apply(secret) => {
                seen.remove(&secret.name_any());
                if let Some(owner) = secret.labels().get(self.label) {
                    seen.insert(owner, secret);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Namespace>> {
        self.namespaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Namespace {
    fn insert(&mut self, owner: &str, secret: &PartialObjectMeta<Secret>) {
        let seen = SeenSecret {
            version: version(secret),
            mark: marked(owner, secret).map(Box::new),
        };
        let name: Arc<str> = secret.name_any().into();
        let known = self.secrets.get_key_value(owner);
        let owner: Arc<str> = known.map_or_else(|| owner.into(), |(owner, _)| Arc::clone(owner));
        let secrets = self.secrets.entry(Arc::clone(&owner)).or_default();
        secrets.insert(Arc::clone(&name), seen);
        self.owners.insert(name, owner);
    }

    fn remove(&mut self, secret: &str) {
        let Some(owner) = self.owners.remove(secret) else {
            return;
        };
        if let Some(secrets) = self.secrets.get_mut(&owner) {
            secrets.remove(secret);
            if secrets.is_empty() {
                self.secrets.remove(&owner);
            }
        }
    }
}

/// What the watches of the controllers have seen.
pub struct Watches {
    /// The one of ControlPlanes: all their Secrets.
    pub control_planes: Seen,
    /// The one of stacked EtcdClusters: machine configs of their ControlPlanes.
    pub stacked: Seen,
    /// The one of EtcdClusters on machines of their own: all their Secrets.
    pub etcd_clusters: Seen,
    /// The one of NodePools: all their Secrets.
    pub node_pools: Seen,
}

impl Default for Watches {
    fn default() -> Self {
        Self {
            control_planes: Seen::new(names::LABEL_CONTROL_PLANE),
            stacked: Seen::new(names::LABEL_CONTROL_PLANE),
            etcd_clusters: Seen::new(names::LABEL_ETCD_CLUSTER),
            node_pools: Seen::new(names::LABEL_NODE_POOL),
        }
    }
}

/// Watches the metadata of Secrets, and keeps what matters of it where `of` says. What is in a
/// Secret is read when it is needed.
pub fn secrets(
    context: &Arc<Context>,
    namespace: &str,
    which: watcher::Config,
    of: fn(&Watches) -> &Seen,
) -> impl Stream<Item = watcher::Result<PartialObjectMeta<Secret>>> + Send + 'static {
    let api = Api::<PartialObjectMeta<Secret>>::namespaced(context.client.clone(), namespace);
    let (context, namespace) = (Arc::clone(context), namespace.to_owned());
    watcher(api, which)
        .inspect_ok(move |event| of(&context.watches).note(&namespace, event))
        .touched_objects()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn secret(name: &str, owner: &str, version: &str, annotations: &Value) -> Metadata {
        serde_json::from_value(json!({"metadata": {
            "name": name, "uid": format!("uid-{name}"), "resourceVersion": version,
            "labels": {"seedbed.dev/control-plane": owner, "seedbed.dev/machine": "cp-1"},
            "annotations": annotations}}))
        .expect("metadata")
    }

    type Metadata = PartialObjectMeta<Secret>;

    fn of(seen: &Seen, owner: &str) -> Option<Vec<(String, String)>> {
        let secrets = seen.of("ns", owner)?.into_iter();
        let version = |secret: SeenSecret| secret.version.1.unwrap_or_default();
        Some(
            secrets
                .map(|(name, secret)| (name.to_string(), version(secret)))
                .collect(),
        )
    }

    fn pairs(expected: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
        let owned = |(name, version): &(&str, &str)| ((*name).to_owned(), (*version).to_owned());
        Some(expected.iter().map(owned).collect())
    }

    #[test]
    fn it_follows_the_watch() {
        let none = json!({});
        let seen = Seen::new(names::LABEL_CONTROL_PLANE);
        assert_eq!(of(&seen, "a"), None, "nothing was listed yet");
        seen.note("ns", &Event::Init);
        seen.note("ns", &Event::InitApply(secret("a-ca", "a", "1", &none)));
        assert_eq!(of(&seen, "a"), None, "not all was listed yet");
        seen.note("ns", &Event::InitDone);
        assert_eq!(of(&seen, "a"), pairs(&[("a-ca", "1")]));
        assert_eq!(of(&seen, "b"), pairs(&[]));
        assert!(seen.of("elsewhere", "a").is_none());

        seen.note("ns", &Event::Apply(secret("a-cp-1", "a", "2", &none)));
        seen.note("ns", &Event::Apply(secret("a-ca", "a", "3", &none)));
        assert_eq!(of(&seen, "a"), pairs(&[("a-ca", "3"), ("a-cp-1", "2")]));
        // Somebody gives it to another object.
        seen.note("ns", &Event::Apply(secret("a-ca", "b", "4", &none)));
        assert_eq!(of(&seen, "a"), pairs(&[("a-cp-1", "2")]));
        assert_eq!(of(&seen, "b"), pairs(&[("a-ca", "4")]));
        seen.note("ns", &Event::Delete(secret("a-cp-1", "a", "5", &none)));
        assert_eq!(of(&seen, "a"), pairs(&[]));

        // The watch was lost: what went away meanwhile is not listed again.
        seen.note("ns", &Event::Init);
        assert_eq!(of(&seen, "b"), None);
        seen.note("ns", &Event::InitDone);
        assert_eq!(of(&seen, "b"), pairs(&[]));
    }

    #[test]
    fn marks_are_those_of_machine_configs() {
        let lost = json!({"seedbed.dev/machine-lost": "burnt"});
        let seen = Seen::new(names::LABEL_CONTROL_PLANE);
        for event in [Event::Init, Event::InitDone] {
            seen.note("ns", &event);
        }
        for name in ["a-cp-1", "by-hand"] {
            seen.note("ns", &Event::Apply(secret(name, "a", "1", &lost)));
        }
        let found = seen.of("ns", "a").expect("listed");
        let mark = found["a-cp-1"].mark.as_ref().expect("a mark");
        assert_eq!(mark.0, "cp-1");
        assert_eq!(mark.1.lost.as_deref(), Some("burnt"));
        assert!(found["by-hand"].mark.is_none(), "it has another name");
    }
}
