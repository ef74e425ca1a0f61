//! Machines that may be taken away: which ones those are, and what is left of them then. Pure.
//!
//! A machine is let go when it does not serve any more (its etcd member is gone, where it has one) and
//! somebody wants it gone, too: it was taken out of the inventory, or carries the request on its
//! machine-config Secret. Its Node goes first, then keys and user data; what remains is a Secret that
//! says since when.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::{ledger, names};
use crate::crd::EtcdCluster;
use crate::domain::NodeName;
use crate::pki::secret_names;

/// The machines of a control plane or an EtcdCluster, as far as it matters here.
pub struct Released<'a> {
    /// Name of the object.
    pub name: &'a str,
    /// Its Secrets by name.
    pub secrets: &'a BTreeMap<String, Secret>,
    /// The machines that its spec lists.
    pub inventory: Vec<&'a NodeName>,
}

impl Released<'_> {
    /// The machines that are to be let go now: wanted gone, and not serving.
    pub fn due(&self, serves: impl Fn(&NodeName) -> bool) -> Vec<NodeName> {
        let wanted_gone = |secret: &Secret, machine: &NodeName| {
            !self.inventory.contains(&machine) || is_requested(secret)
        };
        let secrets = self.secrets.iter();
        secrets
            .filter_map(|(name, secret)| {
                let machine: NodeName = secret.labels().get(names::LABEL_MACHINE)?.parse().ok()?;
                let is_config = *name == secret_names::machine_config(self.name, &machine);
                let due = is_config
                    && !serves(&machine)
                    && wanted_gone(secret, &machine)
                    && !secret
                        .annotations()
                        .contains_key(names::ANNOTATION_RELEASED);
                due.then_some(machine)
            })
            .collect()
    }
}

/// Whether a machine has an etcd member by this cluster's ledger, or is about to get one.
pub fn has_member(cluster: &EtcdCluster, machine: &NodeName) -> bool {
    let status = cluster.status.as_ref();
    let pending = status.and_then(|status| status.pending_operation.as_ref()?.machine.as_deref());
    let recorded = ledger::founded(Some(cluster));
    recorded.is_some_and(|ledger| ledger::slot(ledger, machine.as_str()).is_some())
        || pending == Some(machine.as_str())
}

/// Whether its release is asked for.
pub fn is_requested(config: &Secret) -> bool {
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
    use serde_json::{Value, json};

    use super::*;
    use crate::pki::fixture;

    fn cluster(slots: &[&str], pending: Option<&str>) -> EtcdCluster {
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
        serde_json::from_value(etcd).unwrap()
    }

    fn secret((machine, annotations): &(&str, Value)) -> (String, Secret) {
        let name = format!("prod-{machine}");
        let secret: Secret = serde_json::from_value(json!({"metadata": {
            "name": name, "labels": {"seedbed.dev/machine": machine},
            "annotations": annotations}}))
        .unwrap();
        (name, secret)
    }

    /// I21: never while the machine has a member, or is about to.
    #[test]
    fn a_machine_is_let_go_only_without_a_member() {
        let requested = json!({"seedbed.dev/release-requested": "maintenance"});
        let released = json!({"seedbed.dev/release-requested": "maintenance",
                              "seedbed.dev/released": "2026-11-26T10:00:00Z"});
        let due = |slots: &[&str], pending, secrets: &[(&str, Value)]| -> Vec<String> {
            let control_plane = fixture::control_plane(3);
            let cluster = cluster(slots, pending);
            let secrets = secrets.iter().map(secret).collect();
            let released = Released {
                name: "prod",
                secrets: &secrets,
                inventory: control_plane.machines.iter().map(|m| &m.name).collect(),
            };
            let due = released.due(|machine| has_member(&cluster, machine));
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
