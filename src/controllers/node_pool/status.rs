//! What is known of a pool, written when it differs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt;

use super::nodes::{Outcome, revision_of};
use super::plan::{Members, Settled};
use crate::controllers::conditions::{
    Conditions, MACHINE_CONFIGS_PUBLISHED, NODES_READY, PAUSED, READY, RECONCILING, Reason,
    STALLED, TOKENS_VALID, UP_TO_DATE,
};
use crate::controllers::fields::Problem;
use crate::controllers::names;
use crate::crd::{NodePool, NodePoolStatus, WorkerStatus};
use crate::domain::{self, Workers};
use crate::kube_ext::events::EventSpec;
use crate::target::NodeView;
use crate::tokens::SHARED;
use crate::tokens::format::spelt;

const TYPES: &[&str] = &[
    READY,
    RECONCILING,
    STALLED,
    MACHINE_CONFIGS_PUBLISHED,
    TOKENS_VALID,
    NODES_READY,
    UP_TO_DATE,
    PAUSED,
];

/// How far a reconcile came.
pub enum Progress {
    /// Nothing was looked at: the object is paused.
    Paused,
    /// Only a person can help.
    Stalled(Vec<Problem>),
    /// Nothing goes on until something else happens; the text says what.
    Awaiting(Reason, String),
    /// Everything is published, and the Nodes were looked at.
    Live(Box<Live>),
}

/// The pool's machines as they are.
pub struct Live {
    /// Nodes that stay, by name, with the revision that each has joined with.
    joined: BTreeMap<String, (NodeView, Option<String>)>,
    /// Machines that have not joined, with the time at which the token of each expires.
    pub missing: BTreeMap<String, Option<Timestamp>>,
    /// Nodes on their way out, with what each waits for.
    pub leaving: BTreeMap<String, String>,
    revisions: BTreeMap<String, String>,
    pub next_due: Option<Timestamp>,
    pub problems: Vec<String>,
}

impl Live {
    /// Everything that a status says of machines.
    pub fn of(members: &Members<'_>, settled: &Settled, nodes: Outcome) -> Self {
        let joined = members.joined.iter().map(|(name, node)| {
            let view = NodeView::from((*node).clone());
            let revision = revision_of(node).map(str::to_owned);
            // It was labelled just now.
            let published = &settled.configs.revisions;
            let published = published.get(*name).or(published.get(SHARED));
            ((*name).to_owned(), (view, revision.or(published.cloned())))
        });
        let missing = members.needed.iter();
        let missing = missing.map(|slot| (slot.clone(), settled.expiries.get(slot).copied()));
        Self {
            joined: joined.collect(),
            missing: missing.collect(),
            leaving: nodes.leaving,
            revisions: settled.configs.revisions.clone(),
            next_due: settled.next_due,
            problems: nodes.problems,
        }
    }

    /// Nothing is there and nothing is awaited.
    pub fn is_empty(&self) -> bool {
        self.joined.is_empty() && self.missing.is_empty() && self.problems.is_empty()
    }

    fn is_up_to_date(&self, name: &str, version: &str) -> bool {
        self.joined.get(name).is_some_and(|(view, revision)| {
            let published = self.revisions.get(name).or(self.revisions.get(SHARED));
            view.kubelet_version == version && revision.as_ref() == published
        })
    }
}

/// The status as it shall be, and what of it is news.
pub fn status(
    object: &NodePool,
    pool: Option<&domain::NodePool>,
    progress: &Progress,
    now: Timestamp,
) -> (NodePoolStatus, Vec<EventSpec>) {
    let stored = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    let mut status = stored.clone();
    status.observed_generation = generation;
    status.selector = Some(names::worker_config_selector(&object.name_any()));
    if let (Progress::Live(live), Some(pool)) = (progress, pool) {
        of_the_machines(&mut status, pool, live);
    }
    let conditions = conditions(&status, pool, progress, now);
    let news = conditions.news(&stored.conditions);
    status.conditions = conditions.merged(&stored.conditions, generation, now);
    (status, news)
}

fn of_the_machines(status: &mut NodePoolStatus, pool: &domain::NodePool, live: &Live) {
    let version = pool.cluster.version.to_string();
    let cluster = &pool.cluster.name;
    let up_to_date = |name: &&String| live.is_up_to_date(name, &version);
    status.joined_replicas = Some(count(live.joined.len()));
    let ready = live.joined.values().filter(|(view, _)| view.ready).count();
    status.ready_replicas = Some(count(ready));
    status.up_to_date_replicas = Some(count(live.joined.keys().filter(up_to_date).count()));
    match &pool.workers {
        Workers::Open { .. } => {
            status.replicas = status.joined_replicas;
            status.secret_name = Some(names::worker_config(cluster, &pool.name));
            let expiry = live.missing.get(SHARED).copied().flatten();
            status.token_expiry = expiry.map(spelt);
            status.machines = Vec::new();
        }
        Workers::Listed(workers) => {
            status.replicas = Some(count(workers.len()));
            status.secret_name = None;
            status.token_expiry = None;
            let names = workers.iter().filter_map(|worker| worker.name.as_ref());
            status.machines = names
                .map(|name| row(cluster, name.as_str(), live, &version))
                .collect();
        }
    }
    let leaving = live.leaving.iter().map(|(name, text)| WorkerStatus {
        name: name.clone(),
        joined: Some(true),
        message: Some(format!("is being drained: {text}")),
        ..WorkerStatus::default()
    });
    status.machines.extend(leaving);
    status.machines.truncate(512);
}

fn row(cluster: &str, name: &str, live: &Live, version: &str) -> WorkerStatus {
    let node = live.joined.get(name);
    let expiry = live.missing.get(name).copied().flatten();
    let message = match node {
        None => Some("has not joined yet".to_owned()),
        Some((view, _)) if !view.ready => Some("the Node is not Ready".to_owned()),
        Some(_) if live.is_up_to_date(name, version) => None,
        Some((view, _)) if view.kubelet_version != version => Some(format!(
            "the kubelet is {}, the pool is {version}",
            view.kubelet_version
        )),
        Some(_) => Some("has joined with an older machine config".to_owned()),
    };
    WorkerStatus {
        name: name.to_owned(),
        secret_name: Some(names::worker_config(cluster, name)),
        revision: live.revisions.get(name).cloned(),
        token_expiry: expiry.map(spelt),
        joined: Some(node.is_some()),
        node_ready: Some(node.is_some_and(|(view, _)| view.ready)),
        kubelet_version: node.map(|(view, _)| view.kubelet_version.clone()),
        message,
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn conditions(
    status: &NodePoolStatus,
    pool: Option<&domain::NodePool>,
    progress: &Progress,
    now: Timestamp,
) -> Conditions {
    let mut conditions = Conditions::unknown(TYPES);
    // What was known and is not looked at in this reconcile stays.
    conditions.keep(&status.conditions);
    conditions.set(PAUSED, false, Reason::NotPaused, "");
    conditions.set(STALLED, false, Reason::NotStalled, "");
    match progress {
        Progress::Paused => {
            conditions.set(PAUSED, true, Reason::Paused, "spec.paused is set");
            conditions.set(RECONCILING, false, Reason::Paused, "");
        }
        Progress::Stalled(problems) => conditions.set_stalled(problems),
        Progress::Awaiting(reason, text) => {
            let text = format!("waiting for {text}");
            conditions.set(RECONCILING, true, *reason, text.clone());
            conditions.set_unless_published(*reason, text);
        }
        Progress::Live(live) => of_a_live_pool(&mut conditions, pool, live),
    }
    if !matches!(progress, Progress::Live(_)) {
        expired(&mut conditions, status, now);
    }
    conditions.set_ready(&[MACHINE_CONFIGS_PUBLISHED, TOKENS_VALID, NODES_READY]);
    conditions
}

/// While the target cannot be asked, what was said of tokens holds until they expire.
fn expired(conditions: &mut Conditions, status: &NodePoolStatus, now: Timestamp) {
    let rows = status.machines.iter();
    let rows = rows.map(|row| (row.name.as_str(), row.token_expiry.as_deref()));
    let shared = std::iter::once(("the pool", status.token_expiry.as_deref()));
    let over = |(name, expiry): (&str, Option<&str>)| {
        let expires: Timestamp = expiry?.parse().ok()?;
        (expires <= now).then(|| format!("the token of {name} expired at {expires}"))
    };
    if let Some(text) = rows.chain(shared).find_map(over) {
        conditions.set(TOKENS_VALID, false, Reason::TokensExpired, text);
    }
}

fn of_a_live_pool(conditions: &mut Conditions, pool: Option<&domain::NodePool>, live: &Live) {
    conditions.set(MACHINE_CONFIGS_PUBLISHED, true, Reason::AsDesired, "");
    conditions.set(TOKENS_VALID, true, Reason::AsDesired, "");
    let missing: Vec<&str> = live
        .missing
        .keys()
        .map(String::as_str)
        .filter(|slot| *slot != SHARED)
        .collect();
    let leaving = live.leaving.iter();
    let leaving: Vec<String> = leaving
        .map(|(name, text)| format!("{name}: {text}"))
        .collect();
    let (under_way, reason, text) = if !live.problems.is_empty() {
        (true, Reason::TargetPending, live.problems.join("; "))
    } else if !leaving.is_empty() {
        (true, Reason::Draining, leaving.join("; "))
    } else if !missing.is_empty() {
        let text = format!("not joined yet: {}", missing.join(", "));
        (true, Reason::AwaitingMachines, text)
    } else {
        (false, Reason::Idle, String::new())
    };
    conditions.set(RECONCILING, under_way, reason, text);
    let unready = live.joined.iter().filter(|(_, (view, _))| !view.ready);
    let unready: Vec<&str> = unready.map(|(name, _)| name.as_str()).collect();
    let (ready, reason, text) = match (missing.is_empty(), unready.is_empty()) {
        (true, true) => (true, Reason::AsDesired, String::new()),
        (_, false) => {
            let text = format!("not Ready: {}", unready.join(", "));
            (false, Reason::NodesNotReady, text)
        }
        (false, true) => {
            let text = format!("not joined yet: {}", missing.join(", "));
            (false, Reason::AwaitingMachines, text)
        }
    };
    conditions.set(NODES_READY, ready, reason, text);
    let Some(pool) = pool else { return };
    let version = pool.cluster.version.to_string();
    let names = live.joined.keys();
    let behind = names.filter(|name| !live.is_up_to_date(name, &version));
    let behind: Vec<&str> = behind.map(String::as_str).collect();
    if behind.is_empty() {
        conditions.set(UP_TO_DATE, true, Reason::AsDesired, "");
    } else {
        let text = format!(
            "of an older version or machine config: {}",
            behind.join(", ")
        );
        conditions.set(UP_TO_DATE, false, Reason::Outdated, text);
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::controllers::conditions::is_true;
    use serde_json::json;

    pub fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    pub fn waiting_for(machine: &str, next_due: Option<Timestamp>) -> Progress {
        Progress::Live(Box::new(Live {
            joined: BTreeMap::new(),
            missing: BTreeMap::from([(machine.to_owned(), Some(at(1000)))]),
            leaving: BTreeMap::new(),
            revisions: BTreeMap::new(),
            next_due,
            problems: Vec::new(),
        }))
    }

    #[test]
    fn a_token_that_expires_while_the_target_is_silent_is_told() {
        let mut pool: NodePool = serde_json::from_value(json!({
            "apiVersion": "seedbed.dev/v1alpha1",
            "kind": "NodePool",
            "metadata": {"name": "workers", "namespace": "clusters", "generation": 1},
            "spec": {"controlPlaneRef": {"name": "prod"}, "machines": [{"name": "w-1"}]},
        }))
        .unwrap();
        pool.status = Some(NodePoolStatus {
            machines: vec![WorkerStatus {
                name: "w-1".to_owned(),
                token_expiry: Some(spelt(at(1000))),
                ..WorkerStatus::default()
            }],
            ..NodePoolStatus::default()
        });
        let (live, _) = status(&pool, None, &waiting_for("w-1", None), at(10));
        assert!(is_true(&live.conditions, TOKENS_VALID));
        assert!(is_true(&live.conditions, RECONCILING));
        assert!(!is_true(&live.conditions, READY));
        let status_at = |second| {
            let mut pool = pool.clone();
            let stored = pool.status.get_or_insert_default();
            stored.conditions = live.conditions.clone();
            let silent = Progress::Awaiting(Reason::AwaitingControlPlane, "an API server".into());
            status(&pool, None, &silent, at(second)).0.conditions
        };
        assert!(is_true(&status_at(999), TOKENS_VALID), "it still holds");
        assert!(!is_true(&status_at(1000), TOKENS_VALID));
    }
}
