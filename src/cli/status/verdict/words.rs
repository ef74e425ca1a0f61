//! What is said in each phase that needs a closer look: what it is, what happens next, who acts.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::{Phase, View, holds};
use crate::controllers::conditions::{AVAILABLE, Reason, STALLED, UP_TO_DATE};
use crate::crd::MachineStatus;

pub(super) fn unseen(view: &View) -> (String, String, String) {
    let namespace = view.control_plane.namespace().unwrap_or_default();
    let is = match view.status() {
        Some(status) if !status.conditions.is_empty() => "changed since the operator last looked",
        _ => "new, the operator has not looked at it yet",
    };
    let act = format!(
        "nobody; if this stays so for a minute, see whether the operator runs, watches namespace \
         {namespace}, and what it logs"
    );
    (is.to_owned(), "the operator looks at it".to_owned(), act)
}

pub(super) fn stalled(view: &View) -> (String, String, String) {
    let stalled = holds(view.conditions(), STALLED);
    let reason = stalled.map_or("", |condition| condition.reason.as_str());
    let is = format!("stalled ({reason})");
    let missing = Reason::MissingInput.as_str() == reason;
    let (next, act) = if missing {
        (
            "nothing until the input is there",
            "you, create what is named below",
        )
    } else {
        (
            "nothing until the spec is changed",
            "you, change the spec as said below",
        )
    };
    (is, next.to_owned(), act.to_owned())
}

pub(super) fn ready(view: &View) -> (String, String, String) {
    let unready = |machine: &&MachineStatus| machine.node_ready == Some(false);
    let unready = names(view.machines().filter(unready));
    let outdated = |c: &Condition| c.type_ == UP_TO_DATE && c.status == "False";
    let act = if view.conditions().iter().any(outdated) {
        "you, see below; machines keep what they have booted from".to_owned()
    } else if unready.is_empty() {
        "nobody".to_owned()
    } else {
        format!(
            "you, see why {} not Ready as a Node; usually a network plugin (CNI) has to be \
             installed in the new cluster",
            is_or_are(&unready)
        )
    };
    ("ready".to_owned(), "it is watched".to_owned(), act)
}

pub(super) fn booting(view: &View, phase: Phase) -> (String, String, String) {
    let unbooted: Vec<&str> = names(view.unbooted());
    let act = if unbooted.is_empty() {
        "nobody".to_owned()
    } else if phase == Phase::AwaitingMachines {
        format!(
            "you, boot {} from their Secrets, see below",
            joined(&unbooted)
        )
    } else {
        format!(
            "you, unless they are booting: boot {} as said below",
            joined(&unbooted)
        )
    };
    if phase == Phase::AwaitingMachines {
        let next = "etcd and the API servers start as machines boot, in any order";
        ("waiting for its machines".to_owned(), next.to_owned(), act)
    } else {
        let next = "etcd, API servers and Nodes come up by themselves";
        ("starting".to_owned(), next.to_owned(), act)
    }
}

/// A new member's machine has to be booted by somebody; nobody else is waited for.
pub(super) fn changing(view: &View) -> (String, String, String) {
    let unbooted: Vec<&str> = names(view.unbooted());
    let act = if unbooted.is_empty() {
        "nobody".to_owned()
    } else {
        format!(
            "you, unless they are booting: boot {} as said below",
            joined(&unbooted)
        )
    };
    let next = format!(
        "one member of etcd at a time, see seedbed explain {}",
        view.control_plane.name_any()
    );
    ("changing its members".to_owned(), next, act)
}

pub(super) fn degraded(view: &View) -> (String, String, String) {
    let serves = holds(view.conditions(), AVAILABLE).is_some();
    let is = if serves {
        "degraded, its API serves"
    } else {
        "degraded, its API does not serve"
    };
    let ill = ill_machines(view);
    let (next, act) = if ill.is_empty() {
        (
            "it is whole again when what is said below is",
            "you, see below".to_owned(),
        )
    } else {
        let ill = joined(&ill);
        (
            "it is whole again when every machine answers; a member that stays silent is replaced \
             where a machine is free, as nodeLoss says",
            format!("you, look after {ill}"),
        )
    };
    (is.to_owned(), next.to_owned(), act)
}

pub(super) fn quorum_lost(view: &View) -> (String, String, String) {
    let members = view.etcd_status().map(|etcd| etcd.members.as_slice());
    let silent = members
        .unwrap_or_default()
        .iter()
        .filter(|m| m.id.is_none());
    let silent: Vec<&str> = silent.map(|member| member.name.as_str()).collect();
    let act = if silent.is_empty() {
        "you, see why the members below are not healthy".to_owned()
    } else {
        format!("you, bring back {} with the same disks", joined(&silent))
    };
    let next = "nothing, Seedbed changes nothing without a quorum";
    ("without etcd's quorum".to_owned(), next.to_owned(), act)
}

/// Machines whose API server or etcd member is not in order.
fn ill_machines(view: &View) -> Vec<&str> {
    let members = view.etcd_status().map(|etcd| etcd.members.as_slice());
    let members = members.unwrap_or_default();
    let ill_member = |name: &str| {
        let of_machine = members.iter().find(|m| m.machine.as_deref() == Some(name));
        of_machine.is_some_and(|member| member.healthy == Some(false))
    };
    let ill = |machine: &&MachineStatus| {
        machine.api_server_ready != Some(true)
            || machine.kubelet_version.is_none()
            || ill_member(&machine.name)
    };
    names(view.machines().filter(ill))
}

fn names<'a>(machines: impl Iterator<Item = &'a MachineStatus>) -> Vec<&'a str> {
    machines.map(|machine| machine.name.as_str()).collect()
}

fn is_or_are(names: &[&str]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", joined(names))
}

/// `a`, `a and b`, `a, b and c`.
fn joined(names: &[&str]) -> String {
    match names {
        [] => "its machines".to_owned(),
        [one] => (*one).to_owned(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}
