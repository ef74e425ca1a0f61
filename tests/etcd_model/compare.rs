//! What etcd says in the model's words.

use std::collections::BTreeMap;
use std::fmt;

use seedbed::etcd::{EtcdError, EtcdErrorClass};

use crate::etcd_rules::Refusal;

/// Texts of etcd, most telling first, each with the class that Seedbed gives it.
const TEXTS: [(&str, Refusal, EtcdErrorClass); 11] = [
    (
        "unhealthy cluster",
        Refusal::Unhealthy,
        EtcdErrorClass::Retry,
    ),
    (
        "not enough started members",
        Refusal::NotEnoughStarted,
        EtcdErrorClass::Abort,
    ),
    (
        "too many learner members",
        Refusal::TooManyLearners,
        EtcdErrorClass::Retry,
    ),
    ("already exist", Refusal::Exists, EtcdErrorClass::Relist),
    (
        "member not found",
        Refusal::NotFound,
        EtcdErrorClass::Relist,
    ),
    (
        "in sync with leader",
        Refusal::NotInSync,
        EtcdErrorClass::Wait,
    ),
    (
        "can only promote a learner member",
        Refusal::NotLearner,
        EtcdErrorClass::Relist,
    ),
    (
        "bad leader transferee",
        Refusal::BadTransferee,
        EtcdErrorClass::Abort,
    ),
    (
        "leader transfer took too long",
        Refusal::TransferTimedOut,
        EtcdErrorClass::Relist,
    ),
    (
        "request timed out",
        Refusal::NoQuorum,
        EtcdErrorClass::Relist,
    ),
    ("no leader", Refusal::NoQuorum, EtcdErrorClass::Retry),
];

/// What an error of a call means; `Err` for one that the model does not know, or that Seedbed takes
/// for something else.
pub fn refusal(error: &EtcdError) -> Result<Refusal, String> {
    let text = error.to_string();
    let known = TEXTS.iter().find(|(part, ..)| text.contains(part));
    match known {
        Some((_, refusal, class)) if *class == error.class() => Ok(*refusal),
        Some((_, _, class)) => Err(format!("{text:?} is {:?}, not {class:?}", error.class())),
        None => Err(format!("{text:?}")),
    }
}

/// What was compared.
#[derive(Debug, Default)]
pub struct Counts {
    pub events: usize,
    pub answers: BTreeMap<String, usize>,
    pub lists: usize,
    pub leaders: usize,
    pub ends: usize,
    /// Calls that an election fell into, made again.
    pub repeated: usize,
    /// Answers that would have been the other one when the call was decided on: a connection became
    /// old meanwhile.
    pub grown_old: usize,
    /// Promotions of silent members under a new leader, where the model allows more than etcd.
    pub left_out: usize,
}

impl Counts {
    pub fn add(&mut self, other: &Self) {
        for (answer, count) in &other.answers {
            *self.answers.entry(answer.clone()).or_default() += count;
        }
        self.events += other.events;
        self.lists += other.lists;
        self.leaders += other.leaders;
        self.ends += other.ends;
        self.repeated += other.repeated;
        self.grown_old += other.grown_old;
        self.left_out += other.left_out;
    }

    fn calls(&self) -> usize {
        self.answers.values().sum()
    }

    /// Everything that etcd can answer to a change of members was seen.
    pub fn is_telling(&self) -> bool {
        let all = [
            "accepted",
            "Unhealthy",
            "NotEnoughStarted",
            "TooManyLearners",
            "Exists",
            "NotFound",
            "NotInSync",
            "NotLearner",
            "NoQuorum",
        ];
        all.iter().all(|answer| self.answers.contains_key(*answer))
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.calls() + self.lists + self.leaders + self.ends;
        write!(
            f,
            "{} faults and repairs, {} calls, {total} comparisons ({} answers: {:?}; {} lists, {} \
             leaders, {} ends of removed members; {} calls made again, {} on a connection that grew \
             old meanwhile, {} promotions left out)",
            self.events,
            self.calls(),
            self.calls(),
            self.answers,
            self.lists,
            self.leaders,
            self.ends,
            self.repeated,
            self.grown_old,
            self.left_out
        )
    }
}
