//! What an EtcdCluster on machines of its own has to say beside what every EtcdCluster says.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{TYPES, with_conditions};
use crate::controllers::conditions::{
    AVAILABLE, CERTIFICATES_VALID, Conditions, ETCD_HEALTHY, MACHINE_CONFIGS_PUBLISHED, PAUSED,
    RECONCILING, Reason, STALLED,
};
use crate::controllers::etcd_cluster::machines::{Machines, Progress};
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

/// Adds them to what is known of the members.
pub fn add(conditions: &mut Conditions, machines: &Machines, stored: &[Condition], now: Timestamp) {
    let mut own = Conditions::unknown(&OWN_TYPES);
    own.keep(stored);
    conditions.extend(own);
    conditions.set_certificates(&machines.expiries, now);
    match &machines.progress {
        Progress::Stalled(problems) => conditions.set_stalled(problems),
        Progress::Awaiting(reason, text) => {
            let text = format!("waiting for {text}");
            conditions.set(RECONCILING, true, *reason, text.clone());
            conditions.set_unless_published(*reason, text);
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::controllers::conditions::{READY, State};
    use crate::controllers::fields::{CERTIFICATES_PATH, Problem, ProblemReason};

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
