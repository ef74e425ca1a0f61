//! What is kept of targets from one look to the next, so that the pools of one control plane ask its
//! API server once what all of them want to know.
//!
//! A connection; that the API server was ready a moment ago; the requests that waited for an answer
//! then. Tokens and Nodes are read live, and an answer counts only for a request that is as it was
//! read: what is older is a conflict.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Client;

use crate::tokens::request::Request;

/// An API server that was ready is not asked again for this time, unless a call fails.
const READY_PERIOD: Duration = Duration::from_secs(5);
/// Requests that were read are those of every pool for this time.
const REQUESTS_PERIOD: Duration = Duration::from_secs(1);
/// A client is made anew after this time: its certificate is valid for twice as long.
const CLIENT_PERIOD: Duration = Duration::from_secs(12 * 3600);

/// Targets by the UID of their ControlPlane; times are those of the monotonic clock.
#[derive(Default)]
pub struct Targets(Mutex<HashMap<String, Kept>>);

struct Kept {
    client: Client,
    made: Duration,
    ready: Option<Duration>,
    requests: Option<(Arc<Vec<Request>>, Duration)>,
    answered: Option<Duration>,
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
            requests: None,
            answered: None,
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
        (now.saturating_sub(*read) < REQUESTS_PERIOD).then(|| Arc::clone(requests))
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

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use kube::client::Body;

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
        targets.forget("uid");
        assert!(!known(23_100));
    }
}
