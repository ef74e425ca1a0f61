//! What has to leave a Node before it goes. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod};

/// Annotation on a Node with the time at which its drain began, RFC 3339.
pub const DRAIN_STARTED: &str = "seedbed.dev/drain-started";

/// How long pods that are deleted at the deadline may take to end.
const LAST_GRACE: SignedDuration = SignedDuration::from_secs(60);

/// How far a drain has come, by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Evictions, which PodDisruptionBudgets may refuse.
    Evicting,
    /// The deadline has passed: pods are deleted, whatever their budgets say.
    Deleting,
    /// What is left now is left behind: nothing on the machine ends it.
    Over,
}

/// The phase of a drain that began at `started`.
pub fn phase(started: Timestamp, timeout: Duration, now: Timestamp) -> Phase {
    let timeout = SignedDuration::try_from(timeout).unwrap_or(SignedDuration::MAX);
    let since = now.duration_since(started);
    if since < timeout {
        Phase::Evicting
    } else if since < timeout.saturating_add(LAST_GRACE) {
        Phase::Deleting
    } else {
        Phase::Over
    }
}

/// When the drain of a Node began.
pub fn drain_started(node: &Node) -> Option<Timestamp> {
    let annotations = node.metadata.annotations.as_ref()?;
    annotations.get(DRAIN_STARTED)?.parse().ok()
}

/// Whether a pod has to leave (kubectl drain's filters): static pods, those of DaemonSets and those
/// that have ended do not.
pub fn has_to_leave(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    let mirror = annotations.is_some_and(|all| all.contains_key("kubernetes.io/config.mirror"));
    let mut owners = pod.metadata.owner_references.iter().flatten();
    let daemon = owners.any(|owner| owner.controller == Some(true) && owner.kind == "DaemonSet");
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let ended = matches!(phase, Some("Succeeded" | "Failed"));
    !mirror && !daemon && !ended
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(fields: Value) -> Pod {
        serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn only_pods_that_would_go_on_elsewhere_have_to_leave() {
        let owned = |kind: &str| {
            json!({"metadata": {"ownerReferences": [{
                "apiVersion": "apps/v1", "kind": kind, "name": "x", "uid": "1", "controller": true,
            }]}})
        };
        assert!(has_to_leave(&pod(json!({}))));
        assert!(has_to_leave(&pod(owned("ReplicaSet"))));
        assert!(!has_to_leave(&pod(owned("DaemonSet"))));
        let mirror = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}});
        assert!(!has_to_leave(&pod(mirror)));
        assert!(!has_to_leave(&pod(
            json!({"status": {"phase": "Succeeded"}})
        )));
    }

    #[test]
    fn budgets_count_until_the_deadline() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let phase = |second| phase(at(100), Duration::from_secs(600), at(second));
        assert_eq!(phase(100), Phase::Evicting);
        assert_eq!(phase(699), Phase::Evicting);
        assert_eq!(phase(700), Phase::Deleting);
        assert_eq!(phase(760), Phase::Over);
    }
}
