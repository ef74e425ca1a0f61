//! What is known, written when it differs.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use super::live::Live;
use super::machine_rows::{awaited, row};
use super::resolve::{Problem, Resolved};
use crate::controllers::conditions::{
    AVAILABLE, CERTIFICATES_VALID, Conditions, ETCD_HEALTHY, MACHINE_CONFIGS_PUBLISHED,
    MEMBERSHIP_SETTLED, PAUSED, READY, RECONCILING, Reason, STALLED, State, UP_TO_DATE,
    first_to_expire, is_true,
};
use crate::controllers::names;
use crate::controllers::pace::{pause, until_helped};
use crate::crd::{
    CertificatesStatus, ControlPlane, ControlPlaneStatus, EtcdCluster, MachineStatus,
};
use crate::domain::{self, Machine, NodeName};
use crate::kube_ext::events::EventSpec;
use crate::target::Readiness;
use crate::versions;

const TYPES: &[&str] = &[
    READY,
    RECONCILING,
    STALLED,
    AVAILABLE,
    CERTIFICATES_VALID,
    ETCD_HEALTHY,
    MACHINE_CONFIGS_PUBLISHED,
    UP_TO_DATE,
    PAUSED,
];
const SPARE: &str =
    "it has no etcd member; it takes the place of a machine that is lost or released";
const SPARE_BY_ORDER: &str =
    "it serves when a machine before it in spec.machines is taken out, or replicas is raised";
const HELD: &str = "its release is requested, but spec says that it serves; take it out of \
                    spec.machines";

/// How far a reconcile came.
pub enum Progress {
    /// Nothing was looked at: the object is paused.
    Paused,
    /// Only a person can help.
    Stalled(Vec<Problem>),
    /// The seed's side waits; the text says for what.
    Awaiting(Reason, String),
    /// The machine configs are published, and the machines have been asked.
    Published {
        live: Live,
        revisions: BTreeMap<String, String>,
        /// Machines that serve although their release is asked for.
        held: Vec<NodeName>,
    },
}

/// Everything that the status says something about.
pub struct Facts<'a> {
    pub object: &'a ControlPlane,
    pub resolved: Option<&'a Resolved>,
    pub etcd: Option<&'a EtcdCluster>,
    pub expiries: Option<&'a BTreeMap<String, Timestamp>>,
    pub progress: &'a Progress,
    pub now: Timestamp,
}

/// The status as it shall be, and what of it is news.
pub fn status(facts: &Facts<'_>) -> (ControlPlaneStatus, Vec<EventSpec>) {
    let stored = facts.object.status.clone().unwrap_or_default();
    let generation = facts.object.metadata.generation;
    let conditions = conditions(facts, &stored);
    let news = conditions.news(&stored.conditions);
    let mut status = ControlPlaneStatus {
        observed_generation: generation,
        conditions: conditions.merged(&stored.conditions, generation, facts.now),
        ..stored
    };
    status.selector = Some(names::machine_config_selector(&facts.object.name_any()));
    if let Some(resolved) = facts.resolved {
        of_the_spec(&mut status, resolved);
    }
    if let Some(etcd) = facts.etcd.and_then(|etcd| etcd.status.as_ref()) {
        status.etcd_cluster = facts.etcd.map(ResourceExt::name_any);
        let voters = etcd.replicas.unwrap_or(0);
        status.etcd_members = Some(format!("{}/{voters}", etcd.ready_replicas.unwrap_or(0)));
    }
    if let Some((name, expiry)) = facts.expiries.and_then(first_to_expire) {
        status.certificates = Some(CertificatesStatus {
            earliest_expiry: Some(expiry.to_string()),
            earliest_expiry_of: Some(name.clone()),
        });
    }
    if let Some(resolved) = facts.resolved {
        of_the_machines(&mut status, facts, &resolved.control_plane);
    }
    let ready = status.ready_replicas.unwrap_or(0);
    status.ready_machines = Some(format!("{ready}/{}", facts.object.spec.replicas));
    (status, news)
}

fn of_the_spec(status: &mut ControlPlaneStatus, resolved: &Resolved) {
    let control_plane = &resolved.control_plane;
    status.replicas = Some(count(control_plane.machines.len()));
    let endpoint = control_plane.public_endpoint();
    status.endpoint = endpoint.map(|endpoint| format!("https://{endpoint}"));
    status.images = versions::images(control_plane).unwrap_or_default();
    status.resolved = Some(resolved.defaults.clone());
}

fn of_the_machines(
    status: &mut ControlPlaneStatus,
    facts: &Facts<'_>,
    control_plane: &domain::ControlPlane,
) {
    let Progress::Published {
        live,
        revisions,
        held,
    } = facts.progress
    else {
        return;
    };
    let stacked = control_plane.etcd.stacked().is_some();
    let etcd = facts.etcd.filter(|_| stacked);
    let serving = control_plane.machines.iter().map(|machine| {
        let revision = revisions.get(machine.name.as_str()).cloned();
        let mut row = row(machine, control_plane, live, revision, etcd);
        if held.contains(&machine.name) {
            row.message = Some(HELD.to_owned());
        }
        row
    });
    let why = if stacked { SPARE } else { SPARE_BY_ORDER };
    let spare = control_plane.spares.iter().map(|machine| MachineStatus {
        name: machine.name.to_string(),
        spare: Some(true),
        message: Some(why.to_owned()),
        ..MachineStatus::default()
    });
    status.machines = serving.chain(spare).collect();
    let ready = |machine: &&Machine| {
        live.is_ready(&machine.name) && live.node(&machine.name).is_some_and(|node| node.ready)
    };
    status.ready_replicas = Some(count(control_plane.machines.iter().filter(ready).count()));
    let versions = live
        .nodes
        .iter()
        .filter_map(|node| node.kubelet_version.parse().ok());
    let lowest: Option<domain::KubeVersion> = versions.min();
    if live.nodes.len() == control_plane.machines.len() {
        status.version = lowest.map(|version| version.to_string());
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn conditions(facts: &Facts<'_>, stored: &ControlPlaneStatus) -> Conditions {
    let mut conditions = Conditions::unknown(TYPES);
    // What was known and is not looked at in this reconcile stays.
    conditions.keep(&stored.conditions);
    conditions.set(PAUSED, false, Reason::NotPaused, "");
    conditions.set(STALLED, false, Reason::NotStalled, "");
    if let Some(expiries) = facts.expiries {
        conditions.set_certificates(expiries, facts.now);
    }
    match facts.progress {
        Progress::Paused => {
            conditions.set(PAUSED, true, Reason::Paused, "spec.paused is set");
            conditions.set(RECONCILING, false, Reason::Paused, "");
        }
        Progress::Stalled(problems) => conditions.set_stalled(problems),
        Progress::Awaiting(reason, text) => {
            let text = format!("waiting for {text}");
            conditions.set(RECONCILING, true, *reason, text.clone());
            if *reason == Reason::AwaitingEtcdCluster {
                conditions.set(ETCD_HEALTHY, false, *reason, text.clone());
            }
            conditions.set_unless_published(*reason, text);
        }
        Progress::Published { live, .. } => published(&mut conditions, facts, stored, live),
    }
    conditions.set_ready(&[
        MACHINE_CONFIGS_PUBLISHED,
        CERTIFICATES_VALID,
        ETCD_HEALTHY,
        AVAILABLE,
    ]);
    conditions
}

fn published(
    conditions: &mut Conditions,
    facts: &Facts<'_>,
    stored: &ControlPlaneStatus,
    live: &Live,
) {
    conditions.set(MACHINE_CONFIGS_PUBLISHED, true, Reason::AsDesired, "");
    etcd_health(conditions, facts, live);
    let Some(resolved) = facts.resolved else {
        return;
    };
    let control_plane = &resolved.control_plane;
    let mut lacking: Vec<String> = lacking(control_plane, live);
    let changing = changing(facts.etcd);
    lacking.extend(changing.iter().map(|(_, text)| text.clone()));
    let text = lacking.join("; ");
    let answering = live.api_servers.values().any(Option::is_some);
    let was_whole = stored.version.is_some();
    let reason = match (lacking.is_empty(), changing, was_whole, answering) {
        (true, ..) => Reason::Idle,
        (false, Some((reason, _)), ..) => reason,
        (false, None, true, _) => Reason::Degraded,
        (false, None, false, false) => Reason::AwaitingMachines,
        (false, None, false, true) if live.all_ready() => Reason::TargetPending,
        (false, None, false, true) => Reason::MachinesStarting,
    };
    conditions.set(RECONCILING, !lacking.is_empty(), reason, text.clone());
    let serves = control_plane
        .machines
        .iter()
        .any(|machine| live.is_ready(&machine.name));
    let (why, text) = match (serves, reason) {
        (true, _) => (Reason::AsDesired, String::new()),
        (false, Reason::AwaitingMachines) => (reason, text),
        (false, _) => (Reason::NoApiServer, text),
    };
    conditions.set(AVAILABLE, serves, why, text);
    up_to_date(conditions, control_plane, live);
}

/// What is missing until the control plane is whole. A Node that is registered but not Ready is
/// the network plugin's business and does not hold anything up.
fn lacking(control_plane: &domain::ControlPlane, live: &Live) -> Vec<String> {
    let machines = control_plane.machines.iter().filter_map(|machine| {
        let whole = live.is_ready(&machine.name) && live.node(&machine.name).is_some();
        (!whole).then(|| {
            format!(
                "{}: {}",
                machine.name,
                awaited(machine, live).unwrap_or_default()
            )
        })
    });
    let mut lacking: Vec<String> = machines.collect();
    lacking.extend(live.problems.iter().cloned());
    if lacking.is_empty() && !live.objects_in_place {
        lacking.push("kubeadm's objects are not all in place yet".to_owned());
    }
    lacking
}

/// A change of etcd's members that is under way, or wanted and held.
fn changing(etcd: Option<&EtcdCluster>) -> Option<(Reason, String)> {
    let conditions = &etcd?.status.as_ref()?.conditions;
    let said = conditions.iter().find(|c| c.type_ == MEMBERSHIP_SETTLED)?;
    let reasons = [Reason::MembershipChanging, Reason::StepHeld];
    let reason = reasons.into_iter().find(|r| r.as_str() == said.reason)?;
    (said.status == "False").then(|| (reason, format!("etcd: {}", said.message)))
}

/// What the EtcdCluster says of itself. Of an etcd that Seedbed does not manage no more is known than
/// that API servers are ready through it.
fn etcd_health(conditions: &mut Conditions, facts: &Facts<'_>, live: &Live) {
    if facts.object.spec.etcd_cluster("").is_none() {
        let ready =
            |readiness: &Option<Readiness>| readiness.as_ref().is_some_and(Readiness::is_ready);
        return if live.api_servers.values().any(ready) {
            let text = "an API server is ready through it";
            conditions.set(ETCD_HEALTHY, true, Reason::AsDesired, text);
        } else {
            let text = "no API server is ready, so that nothing is known of it";
            conditions.set(ETCD_HEALTHY, State::Unknown, Reason::NoApiServer, text);
        };
    }
    let status = facts.etcd.and_then(|etcd| etcd.status.as_ref());
    let said = status.and_then(|s| s.conditions.iter().find(|c| c.type_ == ETCD_HEALTHY));
    let Some(said) = said else { return };
    conditions.adopt(ETCD_HEALTHY, said);
}

fn up_to_date(conditions: &mut Conditions, control_plane: &domain::ControlPlane, live: &Live) {
    if live.nodes.len() < control_plane.machines.len() {
        let text = "not every Node is registered";
        return conditions.set(UP_TO_DATE, State::Unknown, Reason::MachinesStarting, text);
    }
    let wanted = control_plane.version.to_string();
    let behind: Vec<String> = live
        .nodes
        .iter()
        .filter(|node| node.kubelet_version != wanted)
        .map(|node| format!("{} runs {}", node.name, node.kubelet_version))
        .collect();
    let reason = if behind.is_empty() {
        Reason::AsDesired
    } else {
        Reason::Degraded
    };
    conditions.set(UP_TO_DATE, behind.is_empty(), reason, behind.join("; "));
}

/// How long until the next look, when nothing happens before; `quiet` is for how long the status
/// has not changed.
pub fn requeue(facts: &Facts<'_>, status: &ControlPlaneStatus, quiet: Duration) -> Duration {
    match facts.progress {
        Progress::Paused => Duration::from_secs(600),
        Progress::Stalled(problems) => until_helped(problems),
        Progress::Awaiting(..) => pause(Duration::from_secs(5), quiet),
        Progress::Published { .. } if is_true(&status.conditions, READY) => Duration::from_secs(30),
        Progress::Published { live, .. } => {
            let answers = live.api_servers.values().any(Option::is_some);
            pause(Duration::from_secs(if answers { 1 } else { 3 }), quiet)
        }
    }
}
