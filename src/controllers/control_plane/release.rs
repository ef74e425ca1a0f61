//! Machines that may be taken away: which ones those are, and what is left of them then. Pure.
//!
//! A machine is let go when its etcd member is gone and somebody wants it gone, too: it was taken
//! out of the inventory, or carries the request on its machine-config Secret. Its Node goes first,
//! then keys and user data; what remains is a Secret that says since when.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::observe::Observed;
use crate::controllers::{ledger, names};
use crate::domain::{ControlPlane, NodeName};
use crate::pki::secret_names;

/// The machines that are to be let go now.
pub fn due(observed: &Observed, control_plane: &ControlPlane) -> Vec<NodeName> {
    let Some(recorded) = ledger::founded(observed.etcd.as_ref()) else {
        return Vec::new();
    };
    let status = observed.etcd.as_ref().and_then(|etcd| etcd.status.as_ref());
    let pending = status.and_then(|status| status.pending_operation.as_ref()?.machine.as_deref());
    let mut inventory: Vec<&NodeName> = Vec::new();
    let known = control_plane.machines.iter().chain(&control_plane.spares);
    inventory.extend(known.map(|machine| &machine.name));
    let wanted_gone =
        |secret: &Secret, machine: &NodeName| !inventory.contains(&machine) || is_requested(secret);
    let secrets = observed.secrets.iter();
    secrets
        .filter_map(|(name, secret)| {
            let machine: NodeName = secret.labels().get(names::LABEL_MACHINE)?.parse().ok()?;
            let is_config = *name == secret_names::machine_config(&control_plane.name, &machine);
            let serves = ledger::slot(recorded, machine.as_str()).is_some()
                || pending == Some(machine.as_str());
            let due = is_config
                && !serves
                && wanted_gone(secret, &machine)
                && !secret
                    .annotations()
                    .contains_key(names::ANNOTATION_RELEASED);
            due.then_some(machine)
        })
        .collect()
}

fn is_requested(config: &Secret) -> bool {
    config
        .annotations()
        .contains_key(names::ANNOTATION_RELEASE_REQUESTED)
}

/// The machine-config Secret of a machine that was let go.
pub fn released(mut config: Secret, now: Timestamp) -> Secret {
    config.data = None;
    let annotations = config.annotations_mut();
    annotations.remove(names::ANNOTATION_REVISION);
    annotations.remove(names::ANNOTATION_FILES);
    let since = Timestamp::from_second(now.as_second()).unwrap_or(now);
    annotations.insert(names::ANNOTATION_RELEASED.to_owned(), since.to_string());
    config
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::pki::fixture;

    fn observed(slots: &[&str], pending: Option<&str>, secrets: &[(&str, Value)]) -> Observed {
        let slot = |machine: &&str| json!({"machine": machine, "generation": 0, "started": true});
        let etcd = json!({
            "apiVersion": "seedbed.dev/v1alpha1", "kind": "EtcdCluster", "metadata": {"name": "prod"},
            "spec": {"version": "3.7.0", "size": 3, "machines": []},
            "status": {
                "ledger": {"founding": {"token": "t", "members": []},
                           "slots": slots.iter().map(slot).collect::<Vec<_>>()},
                "pendingOperation": pending.map(|machine| json!({
                    "kind": "AddLearner", "machine": machine, "startedAt": "2026-11-26T10:00:00Z"})),
            },
        });
        let object = json!({
            "apiVersion": "seedbed.dev/v1alpha1", "kind": "ControlPlane", "metadata": {"name": "prod"},
            "spec": {"version": "v1.37.1", "replicas": 3, "machines": []},
        });
        let secret = |(machine, annotations): &(&str, Value)| {
            let name = format!("prod-{machine}");
            let secret: Secret = serde_json::from_value(json!({"metadata": {
                "name": name, "labels": {"seedbed.dev/machine": machine},
                "annotations": annotations}}))
            .unwrap();
            (name, secret)
        };
        Observed {
            object: Arc::new(serde_json::from_value(object).unwrap()),
            secrets: secrets.iter().map(secret).collect(),
            etcd: Some(serde_json::from_value(etcd).unwrap()),
            contents: crate::controllers::fields::Contents::default(),
            expiries: BTreeMap::new(),
        }
    }

    /// I21: never while the machine has a member, or is about to.
    #[test]
    fn a_machine_is_let_go_only_without_a_member() {
        let requested = json!({"seedbed.dev/release-requested": "maintenance"});
        let released = json!({"seedbed.dev/release-requested": "maintenance",
                              "seedbed.dev/released": "2026-11-26T10:00:00Z"});
        let due = |slots: &[&str], pending, secrets: &[(&str, Value)]| -> Vec<String> {
            let control_plane = fixture::control_plane(3);
            let due = due(&observed(slots, pending, secrets), &control_plane);
            due.iter().map(ToString::to_string).collect()
        };
        let asked = [("cp-2", requested.clone())];
        assert_eq!(due(&["cp-1", "cp-3"], None, &asked), ["cp-2"]);
        assert!(
            due(&["cp-1", "cp-2"], None, &asked).is_empty(),
            "it has a member"
        );
        assert!(
            due(&["cp-1"], Some("cp-2"), &asked).is_empty(),
            "it may get one"
        );
        assert!(
            due(&["cp-1"], None, &[("cp-2", released)]).is_empty(),
            "it is"
        );
        assert!(
            due(&["cp-1"], None, &[("cp-2", json!({}))]).is_empty(),
            "a spare"
        );
        assert_eq!(
            due(&["cp-1"], None, &[("cp-9", json!({}))]),
            ["cp-9"],
            "not listed"
        );
        assert!(due(&["cp-9"], None, &[("cp-9", json!({}))]).is_empty());
    }

    #[test]
    fn what_is_left_holds_no_key() {
        let mut secret = Secret {
            data: Some(BTreeMap::from([("value".to_owned(), Default::default())])),
            ..Secret::default()
        };
        secret
            .annotations_mut()
            .insert("kept".to_owned(), "yes".to_owned());
        let left = released(secret, Timestamp::UNIX_EPOCH);
        assert_eq!(left.data, None);
        assert_eq!(
            left.annotations()["seedbed.dev/released"],
            "1970-01-01T00:00:00Z"
        );
        assert_eq!(left.annotations()["kept"], "yes");
    }
}
