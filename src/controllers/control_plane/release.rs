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
