//! Events for what a person should know.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};

use crate::runtime::metrics::Metrics;

/// Bytes the API server takes as an event's note.
const NOTE_LIMIT: usize = 1024;
/// How long publishing may hold up a reconcile.
const DEADLINE: Duration = Duration::from_secs(5);

/// One thing worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSpec {
    /// Whether somebody should have a look.
    pub warning: bool,
    /// Why, in UpperCamelCase; the same list as the reasons of conditions.
    pub reason: &'static str,
    /// What was being done, in UpperCamelCase, for example `Founding`.
    pub action: &'static str,
    /// The sentence a person reads. Never holds key material.
    pub note: String,
}

/// Publishes the events of one controller. Clones share the memory of what was told already, so
/// that repeats become a series instead of new events.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    metrics: Metrics,
}

impl Events {
    /// `controller` is shown by `kubectl describe`, `replica` tells which process it was.
    pub fn new(client: Client, controller: &str, replica: &str, metrics: Metrics) -> Self {
        let reporter = Reporter {
            controller: controller.to_owned(),
            instance: Some(replica.to_owned()),
        };
        Self {
            recorder: Recorder::new(client, reporter),
            metrics,
        }
    }

    /// Tells about `object`. Failure is logged and counted, and never fails the caller: an event
    /// is news, not state.
    pub async fn publish<K>(&self, object: &K, spec: &EventSpec)
    where
        K: Resource<DynamicType = ()>,
    {
        self.publish_about(object, None, spec).await;
    }

    /// The same of what something else has to do with `object`. Events are repeats of each other
    /// only when they are about the same.
    pub async fn publish_about<K>(
        &self,
        object: &K,
        related: Option<ObjectReference>,
        spec: &EventSpec,
    ) where
        K: Resource<DynamicType = ()>,
    {
        let event = Event {
            type_: if spec.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: spec.reason.to_owned(),
            action: spec.action.to_owned(),
            note: Some(shortened(&spec.note).to_owned()),
            secondary: related,
        };
        let reference = object.object_ref(&());
        let publish = self.recorder.publish(&event, &reference);
        let failure = match tokio::time::timeout(DEADLINE, publish).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {DEADLINE:?}"),
        };
        self.metrics.event_failed();
        tracing::warn!(
            reason = spec.reason,
            error = failure,
            "cannot publish an event"
        );
    }
}

/// As much of the note as the API server takes, cut between characters.
fn shortened(note: &str) -> &str {
    &note[..note.floor_char_boundary(NOTE_LIMIT)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Secret;
    use kube::client::Body;

    #[test]
    fn long_notes_are_cut_between_characters() {
        let note = "ä".repeat(600);
        assert_eq!(shortened(&note).len(), 1024);
        let note = format!("x{note}");
        assert_eq!(shortened(&note).len(), 1023);
        assert_eq!(shortened("short"), "short");
    }

    #[tokio::test]
    async fn a_lost_event_is_counted_and_nothing_more() {
        let refuse = tower::service_fn(|_: http::Request<Body>| async {
            Err::<http::Response<Body>, tower::BoxError>("connection refused".into())
        });
        let metrics = Metrics::default();
        let client = Client::new(refuse, "default");
        let events = Events::new(client, "seedbed", "seedbed-0", metrics.clone());
        let spec = EventSpec {
            warning: true,
            reason: "InvalidSpec",
            action: "Resolving",
            note: "spec.machines is empty".to_owned(),
        };
        events.publish(&Secret::default(), &spec).await;
        assert!(metrics.encode().contains("seedbed_event_failures_total 1"));
    }
}
