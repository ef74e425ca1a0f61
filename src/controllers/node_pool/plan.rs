//! What is to be done next for a pool, in the seed and in the target. Pure.
//!
//! One batch at a time, in an order that no crash can turn around: tokens are stored, then made in
//! the target, then named by user data; a request is recorded, then approved; user data names a
//! token no longer before it is revoked. The driver plans again from what was answered.

mod answers;
mod members;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

pub use answers::{Answer, Decision};
pub use members::Members;

use super::observe::Observed;
use super::secrets::{SecretMaker, machine_of, token_id};
use super::target::Target;
use crate::controllers::fields::{Problem, ProblemReason};
use crate::controllers::secrets::in_place;
use crate::domain::{NodePool, Workers};
use crate::machine_config::worker_config;
use crate::tokens::plan::{self as tokens, Ensure, Renewal, Steps};
use crate::tokens::{Approval, SHARED, Stored};

/// The next batch.
pub enum Next {
    /// Store new tokens and what is granted.
    Store(Change),
    /// Make or extend tokens in the target.
    Ensure(Vec<Ensure>),
    /// Write machine configs, and delete those that nothing needs.
    Publish(Vec<Publication>, Vec<Secret>),
    /// Approve or deny requests.
    Answer(Vec<Answer>),
    /// Delete tokens from the target.
    Revoke(Vec<String>),
    /// Store what is left to remember.
    Forget(Stored),
    /// Only a person can help.
    Stalled(Vec<Problem>),
    /// Nothing is left to write.
    Settled(Settled),
}

/// What is added to the stored tokens.
#[derive(Default)]
pub struct Change {
    pub renew: BTreeMap<String, Renewal>,
    /// By slot: the Node, and the request that it is granted.
    pub granted: Vec<(String, String, Approval)>,
}

/// A machine config to be written.
pub struct Publication {
    pub desired: Secret,
    pub stored: Option<Secret>,
}

/// Everything is as it shall be.
#[derive(Default)]
pub struct Settled {
    /// Revision of the machine config by slot.
    pub revisions: BTreeMap<String, String>,
    /// When the current token of each slot expires.
    pub expiries: BTreeMap<String, Timestamp>,
    /// When the first token is due for renewal.
    pub next_due: Option<Timestamp>,
}

/// What the plan is made of.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    pub observed: &'a Observed,
    pub pool: &'a NodePool,
    pub owner: &'a OwnerReference,
    /// Certificate of the cluster CA, or a bundle.
    pub ca_pem: &'a str,
    pub stored: &'a Stored,
    pub target: &'a Target,
    /// Slots whose Secret belongs to somebody else, with what to say.
    pub claimed: &'a BTreeMap<String, Problem>,
    /// The pool goes away: nothing is needed any more.
    pub deleting: bool,
    pub now: Timestamp,
}

/// Plans the next batch.
pub fn plan(facts: &Facts<'_>) -> Next {
    let members = Members::of(facts);
    let published = facts.published();
    let undecided = facts.target.requests.iter();
    let undecided: BTreeSet<String> = undecided.map(|request| request.uid.clone()).collect();
    let token_facts = tokens::Facts {
        stored: facts.stored,
        live: &facts.target.live,
        needed: &members.needed,
        published: &published,
        undecided: &undecided,
        ttl: facts.pool.token_ttl,
        now: facts.now,
    };
    let Steps {
        renew,
        ensure,
        revoke,
        forget,
    } = tokens::plan(&token_facts);
    if !members.problems.is_empty() {
        return without_stray_tokens(members.problems, ensure, revoke, forget);
    }
    let Decision { granted, answers } = answers::decide(facts, &members);
    let problems = unwritable(facts, &renew);
    if !problems.is_empty() {
        return Next::Stalled(problems);
    }
    if !renew.is_empty() || !granted.is_empty() {
        return Next::Store(Change { renew, granted });
    }
    if !ensure.is_empty() {
        return Next::Ensure(ensure);
    }
    let (publications, revisions) = match configs(facts, &members, &token_facts) {
        Ok(configs) => configs,
        Err(problems) => return Next::Stalled(problems),
    };
    let purge = facts.surplus(&members);
    if !publications.is_empty() || !purge.is_empty() {
        return Next::Publish(publications, purge);
    }
    if !answers.is_empty() {
        return Next::Answer(answers);
    }
    if !revoke.is_empty() {
        return Next::Revoke(revoke);
    }
    if let Some(forget) = forget {
        return Next::Forget(forget);
    }
    let slots = members.needed.iter();
    let expiries =
        slots.filter_map(|slot| Some((slot.clone(), tokens::expiry(&token_facts, slot)?)));
    Next::Settled(Settled {
        revisions,
        expiries: expiries.collect(),
        next_due: tokens::next_due(&token_facts),
    })
}

/// A name that turned out to be another's had a token already if both took it at the same time: it
/// goes before a person is called. The other machines' tokens stay alive.
fn without_stray_tokens(
    problems: Vec<Problem>,
    ensure: Vec<Ensure>,
    revoke: Vec<String>,
    forget: Option<Stored>,
) -> Next {
    match forget {
        _ if !ensure.is_empty() => Next::Ensure(ensure),
        _ if !revoke.is_empty() => Next::Revoke(revoke),
        Some(forget) => Next::Forget(forget),
        None => Next::Stalled(problems),
    }
}

/// What keeps machine configs from being written, before there are tokens for them.
fn unwritable(facts: &Facts<'_>, renew: &BTreeMap<String, Renewal>) -> Vec<Problem> {
    let first = renew.iter();
    let first = first.filter(|(_, renewal)| **renewal == Renewal::First);
    first
        .filter_map(|(slot, _)| render(facts, slot, None).err())
        .collect()
}

impl Facts<'_> {
    fn maker(&self) -> SecretMaker<'_> {
        SecretMaker {
            pool: self.pool,
            owner: self.owner,
        }
    }

    /// Ids of the tokens that user data names.
    fn published(&self) -> BTreeSet<String> {
        let secrets = self.observed.secrets.values();
        secrets.filter_map(token_id).map(str::to_owned).collect()
    }

    /// Machine configs of machines that are not the pool's any more.
    fn surplus(&self, members: &Members<'_>) -> Vec<Secret> {
        let wanted: BTreeSet<String> = members
            .slots(self.pool)
            .map(|slot| self.maker().config_name(slot))
            .collect();
        let ours = self.observed.secrets.iter().filter(|(name, secret)| {
            let shared = **name == self.maker().config_name(SHARED);
            machine_of(secret).is_some() || shared
        });
        ours.filter(|(name, _)| !wanted.contains(*name))
            .map(|(_, secret)| secret.clone())
            .collect()
    }
}

type Configs = (Vec<Publication>, BTreeMap<String, String>);

/// Renders every machine config; all, or with a problem none.
fn configs(
    facts: &Facts<'_>,
    members: &Members<'_>,
    token_facts: &tokens::Facts<'_>,
) -> Result<Configs, Vec<Problem>> {
    let mut publications = Vec::new();
    let mut revisions = BTreeMap::new();
    let mut problems = Vec::new();
    for slot in members.slots(facts.pool) {
        let token = match facts.stored.0.get(slot) {
            // Not in the target: what is published stays until it is.
            Some(held) if members.needed.contains(slot) => {
                if !tokens::is_usable(token_facts, held) {
                    continue;
                }
                Some(&held.current)
            }
            _ => None,
        };
        let rendered = render(facts, slot, token);
        match rendered {
            Err(problem) => problems.push(problem),
            Ok(config) => {
                let desired = facts.maker().config(slot, &config, token);
                revisions.insert(slot.to_owned(), config.revision);
                let name = facts.maker().config_name(slot);
                let stored = facts.observed.secrets.get(&name);
                if !stored.is_some_and(|stored| in_place(stored, &desired)) {
                    publications.push(Publication {
                        desired,
                        stored: stored.cloned(),
                    });
                }
            }
        }
    }
    if problems.is_empty() {
        Ok((publications, revisions))
    } else {
        Err(problems)
    }
}

fn render(
    facts: &Facts<'_>,
    slot: &str,
    token: Option<&crate::tokens::Token>,
) -> Result<crate::machine_config::MachineConfig, Problem> {
    let path = match &facts.pool.workers {
        Workers::Listed(_) => format!("spec.machines[{slot}]"),
        Workers::Open { .. } => "spec".to_owned(),
    };
    let problem = |message: String| Problem {
        path: path.clone(),
        reason: ProblemReason::InvalidSpec,
        message,
    };
    let worker = facts.pool.worker(slot);
    let worker = worker.ok_or_else(|| problem("is not a machine of the pool".to_owned()))?;
    let server = facts.pool.cluster.public_endpoint();
    let server = server.ok_or_else(|| problem("no machine serves".to_owned()))?;
    worker_config(facts.pool, worker, &server, facts.ca_pem, token)
        .map_err(|error| problem(error.to_string()))
}

/// Label of a Node with the pool that it belongs to.
pub fn pool_of(node: &Node) -> Option<&str> {
    let labels = node.metadata.labels.as_ref()?;
    labels
        .get(crate::controllers::names::LABEL_NODE_POOL)
        .map(String::as_str)
}
