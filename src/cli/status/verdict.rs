//! How a control plane stands, from what its objects say. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use crate::controllers::conditions::{
    AVAILABLE, ETCD_HEALTHY, PAUSED, READY, RECONCILING, Reason, STALLED, UP_TO_DATE,
};
use crate::crd::{ControlPlane, ControlPlaneStatus, EtcdCluster, EtcdClusterStatus, MachineStatus};
use crate::domain::NodeName;
use crate::pki::{Ca, secret_names};

/// Everything that is shown of one control plane.
pub struct View {
    pub control_plane: ControlPlane,
    pub etcd: Option<EtcdCluster>,
    /// Names of its Secrets, or why they cannot be listed.
    pub secrets: Result<BTreeSet<String>, String>,
    pub now: Timestamp,
}

impl View {
    /// `<namespace>/<name>`.
    pub fn name(&self) -> String {
        let namespace = self.control_plane.namespace().unwrap_or_default();
        format!("{namespace}/{}", self.control_plane.name_any())
    }

    pub(super) fn status(&self) -> Option<&ControlPlaneStatus> {
        self.control_plane.status.as_ref()
    }

    pub(super) fn conditions(&self) -> &[Condition] {
        self.status().map_or(&[], |status| &status.conditions)
    }

    pub(super) fn etcd_status(&self) -> Option<&EtcdClusterStatus> {
        self.etcd.as_ref()?.status.as_ref()
    }

    /// The machines that serve, as the status lists them.
    pub(super) fn machines(&self) -> impl Iterator<Item = &MachineStatus> {
        let machines = self.status().map(|status| status.machines.as_slice());
        let serving = |machine: &&MachineStatus| machine.spare != Some(true);
        machines.unwrap_or_default().iter().filter(serving)
    }

    /// A machine whose etcd member has answered has booted, whatever it does now.
    pub(super) fn has_booted(&self, machine: &MachineStatus) -> bool {
        let ledger = self.etcd_status().and_then(|etcd| etcd.ledger.as_ref());
        let slots = ledger.map(|ledger| ledger.slots.as_slice());
        let mut slots = slots.unwrap_or_default().iter();
        machine.api_server_ready == Some(true)
            || slots.any(|slot| slot.machine == machine.name && slot.started)
    }

    pub(super) fn unbooted(&self) -> impl Iterator<Item = &MachineStatus> {
        self.machines().filter(|machine| !self.has_booted(machine))
    }
}

/// Finds a condition that is true.
pub(super) fn holds<'a>(conditions: &'a [Condition], condition: &str) -> Option<&'a Condition> {
    conditions
        .iter()
        .find(|found| found.type_ == condition && found.status == "True")
}

/// The Secrets that a published control plane has.
pub fn expected_secrets(control_plane: &ControlPlane) -> Vec<String> {
    let name = control_plane.name_any();
    let mut secrets: Vec<String> = Ca::ALL
        .into_iter()
        .map(|ca| secret_names::ca(&name, ca))
        .collect();
    secrets.push(secret_names::service_account(&name));
    secrets.push(secret_names::kubeconfig(&name));
    let machines = control_plane.status.iter().flat_map(|s| &s.machines);
    for machine in machines.filter(|machine| machine.spare != Some(true)) {
        if let Ok(machine) = machine.name.parse::<NodeName>() {
            secrets.push(secret_names::machine_config(&name, &machine));
            secrets.push(secret_names::machine_certificates(&name, &machine));
        }
    }
    secrets
}

/// Where a control plane is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Deleting,
    /// The operator has not looked at it, or not at its newest spec.
    Unseen,
    /// Only a person can help.
    Stalled,
    /// Its etcd is stalled.
    EtcdStalled,
    Paused,
    QuorumLost,
    Ready,
    /// Certificates and machine configs are being made.
    Preparing,
    AwaitingMachines,
    Starting,
    /// All API servers are ready, kubeadm's objects are being applied.
    Completing,
    Degraded,
}

/// What a person has to know first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub phase: Phase,
    /// Follows "NAME is".
    pub is: String,
    /// What happens without anybody's help.
    pub next: String,
    /// Who must act, and how.
    pub act: String,
}

impl Verdict {
    /// 0: ready; 1: under way; 2: nothing goes on until a person acts.
    pub fn exit_code(&self) -> u8 {
        match self.phase {
            Phase::Ready => 0,
            Phase::Stalled | Phase::EtcdStalled | Phase::Paused | Phase::QuorumLost => 2,
            Phase::Deleting
            | Phase::Unseen
            | Phase::Preparing
            | Phase::AwaitingMachines
            | Phase::Starting
            | Phase::Completing
            | Phase::Degraded => 1,
        }
    }
}

/// Decides what to say.
pub fn verdict(view: &View) -> Verdict {
    let phase = phase(view);
    let (is, next, act) = match phase {
        Phase::Ready => ready(view),
        Phase::AwaitingMachines | Phase::Starting => booting(view, phase),
        Phase::Degraded => degraded(view),
        Phase::QuorumLost => quorum_lost(view),
        Phase::Unseen => unseen(view),
        Phase::Paused => {
            let resume = format!(
                "kubectl -n {} patch controlplane {} --type=merge -p '{{\"spec\":{{\"paused\":false}}}}'",
                view.control_plane.namespace().unwrap_or_default(),
                view.control_plane.name_any()
            );
            say(
                "paused",
                "nothing, what exists stays as it is",
                &format!("you, to go on: {resume}"),
            )
        }
        Phase::Stalled => stalled(view),
        Phase::EtcdStalled => say(
            "stalled by its etcd",
            "nothing, etcd's members are left as they are",
            "you, see EtcdCluster below",
        ),
        Phase::Deleting => say(
            "being deleted",
            "its EtcdCluster and Secrets go with it, machines are not touched",
            "nobody",
        ),
        Phase::Preparing => say(
            "being prepared",
            "certificates are issued and machine configs published, within seconds",
            "nobody",
        ),
        Phase::Completing => say(
            "almost ready, all API servers are",
            "kubeadm's objects, kube-proxy and CoreDNS are put in place",
            "nobody",
        ),
    };
    Verdict {
        phase,
        is,
        next,
        act,
    }
}

fn say(is: &str, next: &str, act: &str) -> (String, String, String) {
    (is.to_owned(), next.to_owned(), act.to_owned())
}

fn phase(view: &View) -> Phase {
    let control_plane = &view.control_plane;
    if control_plane.metadata.deletion_timestamp.is_some() {
        return Phase::Deleting;
    }
    let Some(status) = view.status() else {
        return Phase::Unseen;
    };
    let seen = status.observed_generation >= control_plane.metadata.generation;
    if status.conditions.is_empty() || !seen {
        return Phase::Unseen;
    }
    let conditions = status.conditions.as_slice();
    let etcd = view.etcd_status().map(|etcd| etcd.conditions.as_slice());
    let etcd = etcd.unwrap_or_default();
    let quorum_lost = Reason::QuorumLost.as_str();
    let lost = |c: &Condition| c.type_ == ETCD_HEALTHY && c.reason == quorum_lost;
    if holds(conditions, STALLED).is_some() {
        Phase::Stalled
    } else if holds(conditions, PAUSED).is_some() {
        Phase::Paused
    } else if holds(etcd, STALLED).is_some() {
        Phase::EtcdStalled
    } else if etcd.iter().any(lost) {
        Phase::QuorumLost
    } else if holds(conditions, READY).is_some() {
        Phase::Ready
    } else {
        under_way(holds(conditions, RECONCILING))
    }
}

fn under_way(reconciling: Option<&Condition>) -> Phase {
    let reasons = [
        (Reason::IssuingCertificates, Phase::Preparing),
        (Reason::AwaitingFounding, Phase::Preparing),
        (Reason::AwaitingMachines, Phase::AwaitingMachines),
        (Reason::MachinesStarting, Phase::Starting),
        (Reason::TargetPending, Phase::Completing),
    ];
    let reason = reconciling.map(|condition| condition.reason.as_str());
    let found = reasons
        .iter()
        .find(|(known, _)| reason == Some(known.as_str()));
    found.map_or(Phase::Degraded, |(_, phase)| *phase)
}

fn unseen(view: &View) -> (String, String, String) {
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

fn stalled(view: &View) -> (String, String, String) {
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

fn ready(view: &View) -> (String, String, String) {
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

fn booting(view: &View, phase: Phase) -> (String, String, String) {
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

fn degraded(view: &View) -> (String, String, String) {
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
            "nothing is taken away or replaced; it is whole again when every machine answers",
            format!("you, look after {ill}"),
        )
    };
    (is.to_owned(), next.to_owned(), act)
}

fn quorum_lost(view: &View) -> (String, String, String) {
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
