//! The Secrets of node pools as the watch last told, and how each pool's last look left them.
//!
//! A look writes several Secrets, and each write is an event about the pool. A look that follows
//! has nothing to do when the watch tells what the look before has left, and asks nobody. Nothing
//! else is decided from this: which Secrets may be there is a hint for what to read, live.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};

use super::names;
use crate::crd::NodePool;

/// UID and resource version.
type Version = (Option<String>, Option<String>);
/// Versions of Secrets by name.
type Versions = BTreeMap<String, Version>;

/// What is known of the Secrets of all pools.
#[derive(Default)]
pub struct Looks(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// By namespace.
    mirrors: HashMap<String, Mirror>,
    /// By UID of the pool.
    ended: HashMap<String, Ended>,
}

/// What a watch has told.
#[derive(Default)]
struct Mirror {
    /// `None` until the first list is complete.
    told: Option<ByPool>,
    /// A list that is not complete yet.
    coming: ByPool,
}

/// Secrets by the pool's name, which their label has.
#[derive(Default)]
struct ByPool {
    secrets: HashMap<String, Versions>,
    pools: HashMap<String, String>,
}

/// How a look has ended.
struct Ended {
    generation: Option<i64>,
    annotations: BTreeMap<String, String>,
    secrets: Versions,
    /// When the next one is due, on the monotonic clock.
    due: Duration,
}

impl Looks {
    /// Notes what the watch of this namespace tells.
    pub fn noting(
        self: &Arc<Self>,
        namespace: &str,
    ) -> impl FnMut(&watcher::Result<Event<PartialObjectMeta<Secret>>>) + use<> {
        let (looks, namespace) = (Arc::clone(self), namespace.to_owned());
        move |event| {
            if let Ok(event) = event {
                looks.noticed(&namespace, event);
            }
        }
    }

    fn noticed(&self, namespace: &str, event: &Event<PartialObjectMeta<Secret>>) {
        let mut known = self.lock();
        let mirror = known.mirrors.entry(namespace.to_owned()).or_default();
        match event {
            Event::Init => mirror.coming = ByPool::default(),
            Event::InitApply(secret) => mirror.coming.put(secret),
            Event::InitDone => mirror.told = Some(std::mem::take(&mut mirror.coming)),
            Event::Apply(secret) => mirror.told.get_or_insert_default().put(secret),
            Event::Delete(secret) => {
                if let Some(told) = &mut mirror.told {
                    told.take(&secret.name_any());
                }
            }
        }
    }

    /// Names of the Secrets that this pool may have; `None` while nobody knows.
    pub fn names(&self, pool: &NodePool) -> Option<BTreeSet<String>> {
        let known = self.lock();
        let told = known.told(pool)?;
        let secrets = told.secrets.get(&pool.name_any());
        Some(
            secrets
                .into_iter()
                .flat_map(|known| known.keys().cloned())
                .collect(),
        )
    }

    /// How long until the next look is due, when nothing has changed since the last one has ended.
    pub fn rest(&self, pool: &NodePool, now: Duration) -> Option<Duration> {
        let known = self.lock();
        let ended = known.ended.get(&pool.uid()?)?;
        let rest = ended.due.checked_sub(now).filter(|rest| !rest.is_zero())?;
        let none = Versions::new();
        let told = known.told(pool)?.secrets.get(&pool.name_any());
        let same = ended.generation == pool.metadata.generation
            && ended.annotations == *pool.annotations()
            && ended.secrets == *told.unwrap_or(&none);
        same.then_some(rest)
    }

    /// A look begins: whatever becomes of it, the one before counts no more.
    pub fn begins(&self, pool: &NodePool) {
        self.forget(&pool.uid().unwrap_or_default());
    }

    /// A look has ended; `secrets` are those of the pool as they were read or written last, and the
    /// next look is due at `due`.
    pub fn ended(&self, pool: &NodePool, secrets: &BTreeMap<String, Secret>, due: Duration) {
        let secrets = secrets.iter();
        let ended = Ended {
            generation: pool.metadata.generation,
            annotations: pool.annotations().clone(),
            secrets: secrets
                .map(|(name, secret)| (name.clone(), version(secret)))
                .collect(),
            due,
        };
        let uid = pool.uid().unwrap_or_default();
        self.lock().ended.insert(uid, ended);
    }

    /// Forgets a pool that is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().ended.remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn told(&self, pool: &NodePool) -> Option<&ByPool> {
        let mirror = self.mirrors.get(&pool.namespace().unwrap_or_default())?;
        mirror.told.as_ref()
    }
}

impl ByPool {
    fn put(&mut self, secret: &PartialObjectMeta<Secret>) {
        let name = secret.name_any();
        self.take(&name);
        let Some(pool) = secret.labels().get(names::LABEL_NODE_POOL) else {
            return;
        };
        self.pools.insert(name.clone(), pool.clone());
        let secrets = self.secrets.entry(pool.clone()).or_default();
        secrets.insert(name, version(secret));
    }

    fn take(&mut self, name: &str) {
        let Some(pool) = self.pools.remove(name) else {
            return;
        };
        if let Some(secrets) = self.secrets.get_mut(&pool) {
            secrets.remove(name);
            if secrets.is_empty() {
                self.secrets.remove(&pool);
            }
        }
    }
}

fn version(object: &impl ResourceExt) -> Version {
    (object.uid(), object.resource_version())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: Duration = Duration::from_secs(100);
    const DUE: Duration = Duration::from_secs(115);

    fn metadata(name: &str, pool: &str, version: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "clusters", "uid": "s",
            "resourceVersion": version, "labels": {"seedbed.dev/node-pool": pool}}})
    }

    fn told(name: &str, pool: &str, version: &str) -> PartialObjectMeta<Secret> {
        serde_json::from_value(metadata(name, pool, version)).unwrap()
    }

    fn read(secrets: &[(&str, &str)]) -> BTreeMap<String, Secret> {
        let secret = |(name, version): &(&str, &str)| {
            let secret = serde_json::from_value(metadata(name, "a", version)).unwrap();
            ((*name).to_owned(), secret)
        };
        secrets.iter().map(secret).collect()
    }

    fn pool(name: &str, generation: i64) -> NodePool {
        serde_json::from_value(json!({
            "apiVersion": "seedbed.dev/v1alpha1", "kind": "NodePool",
            "metadata": {"name": name, "namespace": "clusters", "uid": name,
                         "generation": generation},
            "spec": {"controlPlaneRef": {"name": "prod"}},
        }))
        .unwrap()
    }

    /// One pool with two Secrets, as a complete list has told.
    fn listed() -> Looks {
        let looks = Looks::default();
        for event in [
            Event::Init,
            Event::InitApply(told("prod-a", "a", "1")),
            Event::InitApply(told("prod-a-tokens", "a", "2")),
            Event::InitApply(told("prod-b", "b", "3")),
            Event::InitDone,
        ] {
            looks.noticed("clusters", &event);
        }
        looks
    }

    #[test]
    fn a_look_that_only_our_own_writes_ask_for_is_spared() {
        let looks = listed();
        let object = pool("a", 1);
        assert_eq!(looks.rest(&object, NOW), None, "it was never looked at");
        // Both were written.
        let left = read(&[("prod-a", "5"), ("prod-a-tokens", "4")]);
        looks.ended(&object, &left, DUE);
        looks.noticed("clusters", &Event::Apply(told("prod-a-tokens", "a", "4")));
        assert_eq!(looks.rest(&object, NOW), None, "one write is not told yet");
        looks.noticed("clusters", &Event::Apply(told("prod-a", "a", "5")));
        let rest = Some(Duration::from_secs(15));
        assert_eq!(looks.rest(&object, NOW), rest);
        // Nobody has written: another pool's Secrets are no concern.
        looks.noticed("clusters", &Event::Delete(told("prod-b", "b", "3")));
        assert_eq!(looks.rest(&object, NOW), rest);
    }

    #[test]
    fn whatever_somebody_else_does_is_looked_at() {
        let events = [
            Event::Apply(told("prod-a", "a", "9")),
            Event::Delete(told("prod-a", "a", "1")),
            Event::Apply(told("prod-a-w-1", "a", "9")),
            Event::Apply(told("prod-a", "b", "9")),
        ];
        for event in events {
            let looks = listed();
            let object = pool("a", 1);
            let left = read(&[("prod-a", "1"), ("prod-a-tokens", "2")]);
            looks.ended(&object, &left, DUE);
            assert!(looks.rest(&object, NOW).is_some());
            looks.noticed("clusters", &event);
            assert_eq!(looks.rest(&object, NOW), None, "{event:?}");
        }
        let looks = listed();
        let left = read(&[("prod-a", "1"), ("prod-a-tokens", "2")]);
        looks.ended(&pool("a", 1), &left, DUE);
        assert_eq!(looks.rest(&pool("a", 2), NOW), None, "the spec");
        let mut marked = pool("a", 1);
        marked.annotations_mut().insert("x".into(), "1".into());
        assert_eq!(looks.rest(&marked, NOW), None, "an annotation");
        assert_eq!(looks.rest(&pool("a", 1), DUE), None, "it is due");
        looks.begins(&pool("a", 1));
        assert_eq!(looks.rest(&pool("a", 1), NOW), None, "the next one failed");
    }

    #[test]
    fn what_a_pool_may_have_is_known_from_a_complete_list() {
        let looks = Looks::default();
        assert_eq!(looks.names(&pool("a", 1)), None);
        looks.noticed("clusters", &Event::Init);
        looks.noticed("clusters", &Event::InitApply(told("prod-a", "a", "1")));
        assert_eq!(looks.names(&pool("a", 1)), None, "the list is not complete");
        let looks = listed();
        let names = |pool_name| looks.names(&pool(pool_name, 1)).unwrap();
        assert_eq!(names("a").len(), 2);
        assert_eq!(names("c").len(), 0);
        // A list that comes again tells of what has gone meanwhile.
        for event in [
            Event::Init,
            Event::InitApply(told("prod-b", "b", "3")),
            Event::InitDone,
        ] {
            assert_eq!(names("a").len(), 2);
            looks.noticed("clusters", &event);
        }
        assert_eq!((names("a").len(), names("b").len()), (0, 1));
    }
}
