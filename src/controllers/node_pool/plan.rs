//! What is to be done next for a pool, in the seed and in the target. Pure.
//!
//! One batch at a time, in an order that no crash can turn around: tokens are stored, then made in
//! the target, then named by user data; a request is recorded, then approved; user data names a
//! token no longer before it is revoked. The driver plans again from what was answered.

mod answers;
mod configs;
mod members;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

pub use answers::{Answer, Decision};
pub use configs::InPlace;
use configs::{Configs, configs, unwritable};
pub use members::Members;

use super::observe::Observed;
use super::secrets::{SecretMaker, machine_of, token_id};
use super::target::Target;
use crate::controllers::fields::Problem;
use crate::domain::NodePool;
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
    Settled(Box<Settled>),
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
    /// The machine configs, with the revision of each by slot.
    pub configs: InPlace,
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
    /// What was in place at the last look.
    pub in_place: Option<&'a InPlace>,
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
    let Configs {
        publications,
        in_place,
    } = match configs(facts, &members, &token_facts) {
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
    Next::Settled(Box::new(Settled {
        configs: in_place,
        expiries: expiries.collect(),
        next_due: tokens::next_due(&token_facts),
    }))
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

/// Label of a Node with the pool that it belongs to.
pub fn pool_of(node: &Node) -> Option<&str> {
    let labels = node.metadata.labels.as_ref()?;
    labels
        .get(crate::controllers::names::LABEL_NODE_POOL)
        .map(String::as_str)
}
