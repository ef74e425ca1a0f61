//! What is kept of targets from one look to the next, so that the pools of one control plane ask
//! once what all of them want to know.
//!
//! The control plane and the certificate of its CA, as the seed had them a moment ago. A connection;
//! that the API server was ready a moment ago, and our rights in place; the requests that waited for
//! an answer then, and which pools had Nodes. Tokens and Nodes themselves are read live, and an
//! answer counts only for a request that is as it was read: what is older is a conflict.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::{Client, ResourceExt};

use crate::crd::ControlPlane;
use crate::tokens::request::Request;

/// An API server that was ready is not asked again for this time, unless a call fails.
const READY_PERIOD: Duration = Duration::from_secs(5);
/// What was read is what every pool would read for this time.
const READ_PERIOD: Duration = Duration::from_secs(1);
/// Our rights in the target that were in place are looked at again after this time.
const RIGHTS_PERIOD: Duration = Duration::from_secs(300);
/// A client is made anew after this time: its certificate is valid for twice as long.
const CLIENT_PERIOD: Duration = Duration::from_secs(12 * 3600);

/// Targets by the UID of their ControlPlane; times are those of the monotonic clock.
#[derive(Default)]
pub struct Targets {
    kept: Mutex<HashMap<String, Kept>>,
    clusters: Mutex<Clusters>,
}

/// By namespace and name, with when it was read.
type Clusters = HashMap<(String, String), (Arc<Cluster>, Duration)>;

/// A control plane, with the certificate of its CA. No key.
pub struct Cluster {
    pub control_plane: ControlPlane,
    pub ca_pem: String,
}

struct Kept {
    client: Client,
    made: Duration,
    ready: Option<Duration>,
    rights: Option<Duration>,
    requests: Option<(Arc<Vec<Request>>, Duration)>,
    answered: Option<Duration>,
    populated: Option<(BTreeSet<String>, Duration)>,
    labelled: Option<Duration>,
}

impl Targets {
    /// The client that was used last, and whether its API server was ready a moment ago.
    pub fn client(&self, uid: &str, now: Duration) -> Option<(Client, bool)> {
        let kept = self.lock();
        let kept = kept.get(uid)?;
        let is_recent = |at: Duration| now.saturating_sub(at) < READY_PERIOD;
        let usable = now.saturating_sub(kept.made) < CLIENT_PERIOD;
        usable.then(|| (kept.client.clone(), kept.ready.is_some_and(is_recent)))
    }

    /// Keeps a client whose API server is ready.
    pub fn connected(&self, uid: &str, client: &Client, now: Duration) {
        let kept = Kept {
            client: client.clone(),
            made: now,
            ready: Some(now),
            rights: None,
            requests: None,
            answered: None,
            populated: None,
            labelled: None,
        };
        self.lock().insert(uid.to_owned(), kept);
    }

    /// It is ready still.
    pub fn is_ready(&self, uid: &str, now: Duration) {
        if let Some(kept) = self.lock().get_mut(uid) {
            kept.ready = Some(now);
        }
    }

    /// A call has failed: it is asked whether it is ready before it is used again.
    pub fn doubt(&self, uid: &str) {
        if let Some(kept) = self.lock().get_mut(uid) {
            kept.ready = None;
            kept.requests = None;
            kept.populated = None;
        }
    }

    /// Forgets a target.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    /// The requests that were read a moment ago.
    pub fn requests(&self, uid: &str, now: Duration) -> Option<Arc<Vec<Request>>> {
        let kept = self.lock();
        let (requests, read) = kept.get(uid)?.requests.as_ref()?;
        (now.saturating_sub(*read) < READ_PERIOD).then(|| Arc::clone(requests))
    }

    /// Keeps the requests that were asked for at `asked`, unless one was answered meanwhile.
    pub fn keep_requests(&self, uid: &str, requests: &Arc<Vec<Request>>, asked: Duration) {
        if let Some(kept) = self.lock().get_mut(uid)
            && kept.answered.is_none_or(|answered| answered < asked)
        {
            kept.requests = Some((Arc::clone(requests), asked));
        }
    }

    /// A request was answered, or is not as it was read.
    pub fn answered(&self, uid: &str, now: Duration) {
        if let Some(kept) = self.lock().get_mut(uid) {
            kept.requests = None;
            kept.answered = Some(now);
        }
    }

    /// Whether our rights in the target were in place lately.
    pub fn has_rights(&self, uid: &str, now: Duration) -> bool {
        let kept = self.lock();
        let seen = kept.get(uid).and_then(|kept| kept.rights);
        seen.is_some_and(|seen| now.saturating_sub(seen) < RIGHTS_PERIOD)
    }

    /// Our rights are in place.
    pub fn keep_rights(&self, uid: &str, now: Duration) {
        if let Some(kept) = self.lock().get_mut(uid) {
            kept.rights = Some(now);
        }
    }

    /// Whether Nodes carried the label of this pool a moment ago; `None` when that is not known.
    pub fn is_populated(&self, uid: &str, pool: &str, now: Duration) -> Option<bool> {
        let kept = self.lock();
        let (pools, read) = kept.get(uid)?.populated.as_ref()?;
        (now.saturating_sub(*read) < READ_PERIOD).then(|| pools.contains(pool))
    }

    /// Keeps the pools of which there were Nodes when that was asked for at `asked`, unless one was
    /// labelled meanwhile.
    pub fn keep_populated(&self, uid: &str, pools: BTreeSet<String>, asked: Duration) {
        if let Some(kept) = self.lock().get_mut(uid)
            && kept.labelled.is_none_or(|labelled| labelled < asked)
        {
            kept.populated = Some((pools, asked));
        }
    }

    /// A Node was labelled.
    pub fn labelled(&self, uid: &str, now: Duration) {
        if let Some(kept) = self.lock().get_mut(uid) {
            kept.populated = None;
            kept.labelled = Some(now);
        }
    }

    /// The control plane as it was a moment ago.
    pub fn cluster(&self, namespace: &str, name: &str, now: Duration) -> Option<Arc<Cluster>> {
        let clusters = self.clusters();
        let (cluster, read) = clusters.get(&(namespace.to_owned(), name.to_owned()))?;
        (now.saturating_sub(*read) < READ_PERIOD).then(|| Arc::clone(cluster))
    }

    /// Keeps a control plane that was asked for at `asked`.
    pub fn keep_cluster(&self, namespace: &str, cluster: Arc<Cluster>, asked: Duration) {
        let mut clusters = self.clusters();
        clusters.retain(|_, (_, read)| asked.saturating_sub(*read) < READ_PERIOD);
        let key = (namespace.to_owned(), cluster.control_plane.name_any());
        clusters.insert(key, (cluster, asked));
    }

    fn clusters(&self) -> MutexGuard<'_, Clusters> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[tokio::test]
    async fn what_is_kept_is_used_for_a_moment_and_never_after_a_failure() {
        let refuse = tower::service_fn(|_: http::Request<Body>| async {
            Err::<http::Response<Body>, tower::BoxError>("no network".into())
        });
        let (client, targets) = (Client::new(refuse, "default"), Targets::default());
        let ready = |now| targets.client("uid", seconds(now)).map(|(_, ready)| ready);
        assert_eq!(ready(0), None);
        targets.connected("uid", &client, seconds(10));
        assert_eq!((ready(14), ready(15)), (Some(true), Some(false)));
        targets.is_ready("uid", seconds(16));
        assert_eq!(ready(17), Some(true));
        targets.doubt("uid");
        assert_eq!(ready(17), Some(false));
        assert_eq!(ready(10 + 12 * 3600), None, "its certificate grows old");

        let read = Arc::new(Vec::new());
        let known = |now: u64| {
            targets
                .requests("uid", Duration::from_millis(now))
                .is_some()
        };
        targets.keep_requests("uid", &read, seconds(20));
        assert!(known(20_900) && !known(21_000));
        // What was asked for before an answer may not know of it.
        targets.answered("uid", seconds(22));
        targets.keep_requests("uid", &read, seconds(22));
        assert!(!known(22_100));
        targets.keep_requests("uid", &read, seconds(23));
        assert!(known(23_100));

        let populated = |now| targets.is_populated("uid", "a", Duration::from_millis(now));
        assert_eq!(populated(30_000), None);
        let pools = BTreeSet::from(["b".to_owned()]);
        targets.keep_populated("uid", pools.clone(), seconds(30));
        assert_eq!((populated(30_900), populated(31_000)), (Some(false), None));
        targets.keep_populated("uid", pools.clone(), seconds(31));
        // What was asked for before a Node was labelled may not know of it.
        targets.labelled("uid", seconds(31));
        assert_eq!(populated(31_100), None);
        targets.keep_populated("uid", pools, seconds(31));
        assert_eq!(populated(31_100), None);

        let rights = |now| targets.has_rights("uid", seconds(now));
        assert!(!rights(40));
        targets.keep_rights("uid", seconds(40));
        assert!(rights(339) && !rights(340));
        targets.forget("uid");
        assert!(!known(23_100) && !rights(41));
    }

    #[test]
    fn a_control_plane_is_read_again_after_a_moment() {
        let read = |name: &str| {
            let object = json!({
                "apiVersion": "seedbed.dev/v1alpha1", "kind": "ControlPlane",
                "metadata": {"name": name},
                "spec": {"version": "v1.37.1", "replicas": 1, "machines": []},
            });
            Arc::new(Cluster {
                control_plane: serde_json::from_value(object).unwrap(),
                ca_pem: String::new(),
            })
        };
        let targets = Targets::default();
        let known = |namespace, name, now| {
            let now = Duration::from_millis(now);
            targets.cluster(namespace, name, now).is_some()
        };
        targets.keep_cluster("here", read("prod"), seconds(10));
        assert!(known("here", "prod", 10_900) && !known("here", "prod", 11_000));
        assert!(!known("there", "prod", 10_100) && !known("here", "other", 10_100));
        targets.keep_cluster("here", read("other"), seconds(20));
        assert!(!known("here", "prod", 10_100), "it is not kept for ever");
    }
}
