//! What an EtcdCluster on machines of its own has to say beside what every EtcdCluster says.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{TYPES, with_conditions};
use crate::controllers::conditions::{
    AVAILABLE, CERTIFICATES_VALID, Conditions, ETCD_HEALTHY, MACHINE_CONFIGS_PUBLISHED, PAUSED,
    RECONCILING, Reason, STALLED, State,
};
use crate::controllers::etcd_cluster::machines::{Machines, Progress};
use crate::controllers::etcd_cluster::plan::machines::CERTIFICATES_PATH;
use crate::controllers::fields::{Problem, ProblemReason};
use crate::crd::{EtcdCluster, EtcdClusterStatus};
use crate::kube_ext::events::EventSpec;

/// Conditions of such a cluster alone.
pub const OWN_TYPES: [&str; 2] = [CERTIFICATES_VALID, MACHINE_CONFIGS_PUBLISHED];
/// What its `Ready` stands on.
const NEEDED: [&str; 4] = [
    MACHINE_CONFIGS_PUBLISHED,
    CERTIFICATES_VALID,
    ETCD_HEALTHY,
    AVAILABLE,
];
/// Certificates that expire sooner are reported.
const EXPIRY_NOTICE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Adds them to what is known of the members.
pub fn add(conditions: &mut Conditions, machines: &Machines, stored: &[Condition], now: Timestamp) {
    let mut own = Conditions::unknown(&OWN_TYPES);
    own.keep(stored);
    conditions.extend(own);
    certificates(conditions, machines, now);
    match &machines.progress {
        Progress::Stalled(problems) => stalled(conditions, problems),
        Progress::Awaiting(reason, text) => {
            let text = format!("waiting for {text}");
            conditions.set(RECONCILING, true, *reason, text.clone());
            unless_published(conditions, *reason, text);
        }
        Progress::Published => {
            conditions.set(MACHINE_CONFIGS_PUBLISHED, true, Reason::AsDesired, "");
        }
    }
    conditions.set_ready(&NEEDED);
}

/// The status of a cluster whose members are left alone: by a spec that is wrong, or until an earlier
/// cluster of its name is gone.
pub fn held(
    cluster: &EtcdCluster,
    machines: &Machines,
    now: Timestamp,
) -> (EtcdClusterStatus, Vec<EventSpec>) {
    let mut conditions = Conditions::unknown(TYPES);
    let stored = cluster.status.as_ref();
    let stored = stored.map_or(&[][..], |status| &status.conditions);
    conditions.keep(stored);
    conditions.set(PAUSED, false, Reason::NotPaused, "");
    conditions.set(STALLED, false, Reason::NotStalled, "");
    add(&mut conditions, machines, stored, now);
    with_conditions(cluster, conditions, now)
}

fn stalled(conditions: &mut Conditions, problems: &[Problem]) {
    let reason = match problems.first().map(|problem| problem.reason) {
        Some(ProblemReason::NotYetSupported) => Reason::NotYetSupported,
        Some(ProblemReason::MissingInput) => Reason::MissingInput,
        Some(ProblemReason::FoundingHalted) => Reason::FoundingHalted,
        Some(ProblemReason::InvalidSpec) | None => Reason::InvalidSpec,
    };
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let text = texts.join("; ");
    conditions.set(STALLED, true, reason, text.clone());
    conditions.set(RECONCILING, false, Reason::Blocked, "");
    if problems
        .iter()
        .any(|problem| problem.path == CERTIFICATES_PATH)
    {
        conditions.set(CERTIFICATES_VALID, false, reason, text.clone());
    }
    unless_published(conditions, reason, text);
}

fn unless_published(conditions: &mut Conditions, reason: Reason, text: String) {
    if conditions.state(MACHINE_CONFIGS_PUBLISHED) != Some(State::True) {
        conditions.set(MACHINE_CONFIGS_PUBLISHED, false, reason, text);
    }
}

fn certificates(conditions: &mut Conditions, machines: &Machines, now: Timestamp) {
    let first = machines.expiries.iter().min_by_key(|(_, expiry)| **expiry);
    let Some((name, expiry)) = first else { return };
    let left = expiry.duration_since(now);
    let (valid, reason, text) = if left > EXPIRY_NOTICE {
        (true, Reason::AsDesired, String::new())
    } else if left.is_positive() {
        let text = format!("{name} expires at {expiry}");
        (true, Reason::CertificatesExpiring, text)
    } else {
        let text = format!("{name} expired at {expiry}");
        (false, Reason::CertificatesExpiring, text)
    };
    conditions.set(CERTIFICATES_VALID, valid, reason, text);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::controllers::conditions::READY;

    fn ready(progress: Progress, expiry: i64) -> (Conditions, bool) {
        let at = |second| Timestamp::from_second(second).unwrap();
        let machines = Machines {
            progress,
            expiries: BTreeMap::from([("state-etcd/tls.crt".to_owned(), at(expiry))]),
        };
        let mut conditions = Conditions::unknown(TYPES);
        for good in [AVAILABLE, ETCD_HEALTHY] {
            conditions.set(good, true, Reason::AsDesired, "");
        }
        for quiet in [STALLED, PAUSED, RECONCILING] {
            conditions.set(quiet, false, Reason::Idle, "");
        }
        add(&mut conditions, &machines, &[], at(1000));
        let ready = conditions.state(READY) == Some(State::True);
        (conditions, ready)
    }

    #[test]
    fn it_is_ready_only_with_published_configs_and_valid_certificates() {
        let later = 1_000_000_000;
        assert!(ready(Progress::Published, later).1);
        assert!(!ready(Progress::Published, 999).1, "expired");
        let waits = Progress::Awaiting(Reason::AwaitingFounding, "it".to_owned());
        assert!(!ready(waits, later).1);
        let problem = |path: &str| Problem {
            path: path.to_owned(),
            reason: ProblemReason::MissingInput,
            message: "is missing".to_owned(),
        };
        let stalled = Progress::Stalled(vec![problem(CERTIFICATES_PATH)]);
        let (conditions, ready) = ready(stalled, later);
        assert!(!ready);
        assert_eq!(conditions.state(STALLED), Some(State::True));
        assert_eq!(conditions.state(CERTIFICATES_VALID), Some(State::False));
    }
}
