//! How a control plane stands, from what its objects say. Pure.

mod words;

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use crate::controllers::conditions::{ETCD_HEALTHY, PAUSED, READY, RECONCILING, Reason, STALLED};
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

    /// Whether the machines of the control plane run its etcd.
    pub(super) fn is_stacked(&self) -> bool {
        self.control_plane.spec.has_stacked_etcd()
    }

    /// A machine whose etcd member has answered, or where it has none, whose Node is registered, has
    /// booted, whatever it does now.
    pub(super) fn has_booted(&self, machine: &MachineStatus) -> bool {
        let etcd = self.etcd_status().filter(|_| self.is_stacked());
        let ledger = etcd.and_then(|etcd| etcd.ledger.as_ref());
        let slots = ledger.map(|ledger| ledger.slots.as_slice());
        let mut slots = slots.unwrap_or_default().iter();
        machine.api_server_ready == Some(true)
            || (!self.is_stacked() && machine.kubelet_version.is_some())
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
    let stacked = control_plane.spec.has_stacked_etcd();
    let mut secrets: Vec<String> = Ca::ALL
        .into_iter()
        .filter(|ca| *ca != Ca::Etcd || stacked)
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
    /// The EtcdCluster that it refers to is not there, or not founded.
    AwaitingEtcd,
    /// Certificates and machine configs are being made.
    Preparing,
    AwaitingMachines,
    Starting,
    /// All API servers are ready, kubeadm's objects are being applied.
    Completing,
    /// Members of etcd come or go.
    Changing,
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
            | Phase::AwaitingEtcd
            | Phase::Preparing
            | Phase::AwaitingMachines
            | Phase::Starting
            | Phase::Completing
            | Phase::Changing
            | Phase::Degraded => 1,
        }
    }
}

/// Decides what to say.
pub fn verdict(view: &View) -> Verdict {
    let phase = phase(view);
    let (is, next, act) = match phase {
        Phase::Ready => words::ready(view),
        Phase::AwaitingMachines | Phase::Starting => words::booting(view, phase),
        Phase::Degraded => words::degraded(view),
        Phase::QuorumLost => words::quorum_lost(view),
        Phase::Unseen => words::unseen(view),
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
        Phase::Stalled => words::stalled(view),
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
        Phase::AwaitingEtcd => say(
            "waiting for its EtcdCluster",
            "machine configs are published as soon as a member of it has answered",
            "you, see below",
        ),
        Phase::Preparing => say(
            "being prepared",
            "certificates are issued and machine configs published, within seconds",
            "nobody",
        ),
        Phase::Changing => words::changing(view),
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
        (Reason::AwaitingEtcdCluster, Phase::AwaitingEtcd),
        (Reason::AwaitingMachines, Phase::AwaitingMachines),
        (Reason::MachinesStarting, Phase::Starting),
        (Reason::MembershipChanging, Phase::Changing),
        (Reason::StepHeld, Phase::Changing),
        (Reason::TargetPending, Phase::Completing),
    ];
    let reason = reconciling.map(|condition| condition.reason.as_str());
    let found = reasons
        .iter()
        .find(|(known, _)| reason == Some(known.as_str()));
    found.map_or(Phase::Degraded, |(_, phase)| *phase)
}
