//! How each node pool's last look left its Secrets.
//!
//! A look writes several Secrets, and each write is an event about the pool. A look that follows
//! has nothing to do when the watch has seen what the look before has left, and asks nobody.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::seen::{Seen, Version, version};
use crate::crd::NodePool;

/// How the last look at each pool has ended, by the pool's UID.
#[derive(Default)]
pub struct Looks(Mutex<HashMap<String, Ended>>);

struct Ended {
    generation: Option<i64>,
    annotations: BTreeMap<String, String>,
    /// By name.
    secrets: BTreeMap<String, Version>,
    /// When the next one is due, on the monotonic clock.
    due: Duration,
}

impl Looks {
    /// How long until the next look is due, when nothing has changed since the last one has ended.
    pub fn rest(&self, pool: &NodePool, seen: &Seen, now: Duration) -> Option<Duration> {
        let ended = self.lock();
        let ended = ended.get(&pool.uid()?)?;
        let rest = ended.due.checked_sub(now).filter(|rest| !rest.is_zero())?;
        let seen = seen.versions(&pool.namespace()?, &pool.name_any())?;
        let same = ended.generation == pool.metadata.generation
            && ended.annotations == *pool.annotations()
            && ended.secrets == seen;
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
        self.lock().insert(uid, ended);
    }

    /// Forgets a pool that is gone.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Ended>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use kube::core::PartialObjectMeta;
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};

    use super::*;
    use crate::controllers::names;

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
    fn listed() -> (Looks, Seen) {
        let seen = Seen::new(names::LABEL_NODE_POOL);
        for event in [
            Event::Init,
            Event::InitApply(told("prod-a", "a", "1")),
            Event::InitApply(told("prod-a-tokens", "a", "2")),
            Event::InitApply(told("prod-b", "b", "3")),
            Event::InitDone,
        ] {
            seen.note("clusters", &event);
        }
        (Looks::default(), seen)
    }

    #[test]
    fn a_look_that_only_our_own_writes_ask_for_is_spared() {
        let (looks, seen) = listed();
        let object = pool("a", 1);
        assert_eq!(
            looks.rest(&object, &seen, NOW),
            None,
            "it was never looked at"
        );
        // Both were written.
        let left = read(&[("prod-a", "5"), ("prod-a-tokens", "4")]);
        looks.ended(&object, &left, DUE);
        seen.note("clusters", &Event::Apply(told("prod-a-tokens", "a", "4")));
        assert_eq!(
            looks.rest(&object, &seen, NOW),
            None,
            "one write is not told yet"
        );
        seen.note("clusters", &Event::Apply(told("prod-a", "a", "5")));
        let rest = Some(Duration::from_secs(15));
        assert_eq!(looks.rest(&object, &seen, NOW), rest);
        // Nobody has written: another pool's Secrets are no concern.
        seen.note("clusters", &Event::Delete(told("prod-b", "b", "3")));
        assert_eq!(looks.rest(&object, &seen, NOW), rest);
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
            let (looks, seen) = listed();
            let object = pool("a", 1);
            let left = read(&[("prod-a", "1"), ("prod-a-tokens", "2")]);
            looks.ended(&object, &left, DUE);
            assert!(looks.rest(&object, &seen, NOW).is_some());
            seen.note("clusters", &event);
            assert_eq!(looks.rest(&object, &seen, NOW), None, "{event:?}");
        }
        let (looks, seen) = listed();
        let left = read(&[("prod-a", "1"), ("prod-a-tokens", "2")]);
        looks.ended(&pool("a", 1), &left, DUE);
        assert_eq!(looks.rest(&pool("a", 2), &seen, NOW), None, "the spec");
        let mut marked = pool("a", 1);
        marked.annotations_mut().insert("x".into(), "1".into());
        assert_eq!(looks.rest(&marked, &seen, NOW), None, "an annotation");
        assert_eq!(looks.rest(&pool("a", 1), &seen, DUE), None, "it is due");
        looks.begins(&pool("a", 1));
        assert_eq!(
            looks.rest(&pool("a", 1), &seen, NOW),
            None,
            "the next one failed"
        );
    }
}
