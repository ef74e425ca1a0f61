//! Conditions: which types there are, what their reasons mean, and how a new set takes the place of
//! an old one. Pure.
//!
//! `Reconciling` and `Stalled` are abnormal-true, as kstatus wants them; `Ready` is never set by
//! hand but follows from the others. Every type is present from the first visit on, as `Unknown`
//! where nothing is known. A new reason is a row of [`REASONS`]; docs/conditions.md is written
//! from that table.

mod shared;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

pub use self::shared::first_to_expire;
use crate::kube_ext::events::EventSpec;

macro_rules! types {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal)+) => {
        $($(#[doc = $doc])+ pub const $name: &str = $text;)+

        /// Every type with what it means when it is true.
        pub const TYPES: &[(&str, &str)] = &[$(($name, concat!($($doc,)+)),)+];
    };
}

types! {
    /// Everything works as the spec says.
    READY = "Ready"
    /// Something is under way.
    RECONCILING = "Reconciling"
    /// Only a person can help.
    STALLED = "Stalled"
    /// The API (or etcd) serves.
    AVAILABLE = "Available"
    /// Every certificate is stored and valid.
    CERTIFICATES_VALID = "CertificatesValid"
    /// Every voter answers and follows the leader.
    ETCD_HEALTHY = "EtcdHealthy"
    /// The healthy voters are a majority.
    QUORUM_HEALTHY = "QuorumHealthy"
    /// The number of voters is odd.
    ODD_MEMBERS = "OddMembers"
    /// The cluster is founded: a founder has answered.
    FOUNDED = "Founded"
    /// The members are those that are wanted, and no change is under way; else the message says
    /// which step is, and which rule holds each one that is not taken.
    MEMBERSHIP_SETTLED = "MembershipSettled"
    /// Every machine config is published.
    MACHINE_CONFIGS_PUBLISHED = "MachineConfigsPublished"
    /// Every machine runs what its config says.
    UP_TO_DATE = "UpToDate"
    /// Every machine that may join has a bootstrap token that is valid.
    TOKENS_VALID = "TokensValid"
    /// Every machine of the pool has joined and its Node is Ready.
    NODES_READY = "NodesReady"
    /// The object is paused.
    PAUSED = "Paused"
}

/// Longest message that metav1 allows, in bytes.
const MESSAGE_LIMIT: usize = 32_768;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident)+) => {
        /// Why a condition has its status. The spelling is part of the API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)+ }

        impl Reason {
            /// The reason as a condition spells it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }
        }

        /// Every reason with its meaning.
        pub const REASONS: &[(Reason, &str)] = &[$((Reason::$name, concat!($($doc,)+)),)+];
    };
}

reasons! {
    /// Nothing has been looked at yet.
    NotObserved
    /// It is so.
    AsDesired
    /// Nothing is being done at the moment.
    Idle
    /// Nothing stands in the way.
    NotStalled
    /// `spec.paused` is not set.
    NotPaused
    /// `spec.paused` is set: nothing is changed until it is taken away.
    Paused
    /// A value of the spec is wrong; the message names the field and the fix.
    InvalidSpec
    /// A field belongs to a capability that this release does not have.
    NotYetSupported
    /// A Secret, ConfigMap or key that is needed is missing or unusable; the message names it.
    MissingInput
    /// The object itself cannot be read; the message is the parser's.
    InvalidObject
    /// Certificates are being issued.
    IssuingCertificates
    /// The founding of etcd is being recorded.
    AwaitingFounding
    /// The EtcdCluster that a ControlPlane refers to is not there, or not founded.
    AwaitingEtcdCluster
    /// What an earlier object of the same name owned has yet to be deleted.
    AwaitingDeletion
    /// Machine configs are published and no machine answers yet.
    AwaitingMachines
    /// Some machines answer, others do not yet.
    MachinesStarting
    /// Objects in the target are not in place yet.
    TargetPending
    /// Not every registered node is Ready; often the network plugin is missing.
    NodesNotReady
    /// An API server, voter or node that answered before is silent or unhealthy.
    Degraded
    /// No API server answers.
    NoApiServer
    /// Fewer healthy voters than a quorum answer; nothing is changed.
    QuorumLost
    /// Members are being added, promoted or removed, or are about to be.
    MembershipChanging
    /// A step is wanted, and a rule holds it; the message says which.
    StepHeld
    /// The number of voters is even: it survives no more failures than one voter less.
    EvenMembers
    /// Members of different clusters answer; nothing is changed.
    SplitBrain
    /// A member answers under another ID than recorded, or a stranger is listed.
    IdentityMismatch
    /// The record of the founding is missing or contradictory; nothing is founded.
    FoundingHalted
    /// A certificate expires soon or has expired.
    CertificatesExpiring
    /// A machine has no etcd member and no Node any more, and may be taken away (event only).
    MachineReleased
    /// The control plane is not there, or none of its API servers is ready.
    AwaitingControlPlane
    /// Nodes are being drained before they are deleted; the message names the pods that are left.
    Draining
    /// A bootstrap token has expired while its machine had not joined.
    TokensExpired
    /// A Node runs another version than its pool, or has joined with an older machine config.
    Outdated
    /// Another problem has to be solved first.
    Blocked
    /// The last attempt failed; it is tried again.
    Failing
}

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    True,
    False,
    Unknown,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for State {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// The wanted set of one object, by type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions(BTreeMap<&'static str, (State, Reason, String)>);

impl Conditions {
    /// All of `types` as Unknown.
    pub fn unknown(types: &[&'static str]) -> Self {
        let unknown = || (State::Unknown, Reason::NotObserved, String::new());
        Self(
            types
                .iter()
                .map(|condition| (*condition, unknown()))
                .collect(),
        )
    }

    /// Takes over the types of another set.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Takes over stored conditions of types that this set knows.
    pub fn keep(&mut self, stored: &[Condition]) {
        let types: Vec<&'static str> = self.0.keys().copied().collect();
        for condition in types {
            if let Some(old) = stored.iter().find(|old| old.type_ == condition) {
                self.adopt(condition, old);
            }
        }
    }

    /// Takes over stored conditions where nothing is known yet.
    pub fn keep_unknown(&mut self, stored: &[Condition]) {
        let mut kept = Self(self.0.clone());
        kept.keep(stored);
        for (condition, known) in &mut self.0 {
            if known.0 == State::Unknown
                && let Some(before) = kept.0.remove(condition)
            {
                *known = before;
            }
        }
    }

    /// Takes over what another object says of itself.
    pub fn adopt(&mut self, condition: &'static str, said: &Condition) {
        let state = match said.status.as_str() {
            "True" => State::True,
            "False" => State::False,
            _ => State::Unknown,
        };
        let reason = REASONS
            .iter()
            .map(|(reason, _)| *reason)
            .find(|r| r.as_str() == said.reason);
        let reason = reason.unwrap_or(Reason::NotObserved);
        self.set(condition, state, reason, said.message.clone());
    }

    /// Sets one condition.
    pub fn set(
        &mut self,
        condition: &'static str,
        state: impl Into<State>,
        reason: Reason,
        message: impl Into<String>,
    ) {
        self.0
            .insert(condition, (state.into(), reason, message.into()));
    }

    /// The state of a condition.
    pub fn state(&self, condition: &str) -> Option<State> {
        self.0.get(condition).map(|(state, _, _)| *state)
    }

    /// Sets `Ready` from the others: false while stalled, reconciling or paused, or while one of
    /// `needed` is not true, with that one's reason and message.
    pub fn set_ready(&mut self, needed: &[&'static str]) {
        let abnormal = [STALLED, PAUSED, RECONCILING];
        let abnormal = abnormal
            .iter()
            .filter(|c| self.state(c) == Some(State::True));
        let missing = needed.iter().filter(|c| self.state(c) != Some(State::True));
        let objection = abnormal.chain(missing).find_map(|c| self.0.get(c).cloned());
        match objection {
            Some((_, reason, message)) => self.set(READY, State::False, reason, message),
            None => self.set(READY, State::True, Reason::AsDesired, String::new()),
        }
    }

    /// The conditions as they shall be stored, sorted by type. `lastTransitionTime` moves only when
    /// a status flips; types that are not in this set go.
    pub fn merged(
        self,
        stored: &[Condition],
        generation: Option<i64>,
        now: Timestamp,
    ) -> Vec<Condition> {
        let merge = |(condition, (state, reason, message)): (&str, (State, Reason, String))| {
            let before = stored.iter().find(|old| old.type_ == condition);
            let since = before
                .filter(|old| old.status == state.as_str())
                .map_or(Time(now), |old| old.last_transition_time.clone());
            Condition {
                type_: condition.to_owned(),
                status: state.as_str().to_owned(),
                reason: reason.as_str().to_owned(),
                message: shortened(message),
                observed_generation: generation,
                last_transition_time: since,
            }
        };
        self.0.into_iter().map(merge).collect()
    }
}

fn shortened(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(MESSAGE_LIMIT));
    message
}

impl Conditions {
    /// What a person should know of the change from the stored conditions to these: that something
    /// became true or ceased to be. The first look at something that is not there is no news.
    pub fn news(&self, stored: &[Condition]) -> Vec<EventSpec> {
        let flip = |condition: &&'static str| {
            let (state, reason, message) = self.0.get(condition)?;
            let before = stored.iter().find(|old| old.type_ == *condition);
            let was = before.map_or("Unknown", |old| old.status.as_str());
            let news = match state {
                State::True => was != "True",
                State::False => was == "True",
                State::Unknown => false,
            };
            let good = (*state == State::True) != matches!(*condition, STALLED | PAUSED);
            let note = if message.is_empty() {
                format!("{condition} is {}", state.as_str())
            } else {
                format!("{condition} is {}: {message}", state.as_str())
            };
            let reason = reason.as_str();
            let reason = if good && reason == "AsDesired" {
                *condition
            } else {
                reason
            };
            news.then_some(EventSpec {
                warning: !good,
                reason,
                action: "Reconciling",
                note,
            })
        };
        [
            STALLED,
            PAUSED,
            MACHINE_CONFIGS_PUBLISHED,
            QUORUM_HEALTHY,
            TOKENS_VALID,
            ETCD_HEALTHY,
            AVAILABLE,
            READY,
        ]
        .iter()
        .filter_map(flip)
        .collect()
    }
}

/// Whether a stored condition is true.
pub fn is_true(stored: &[Condition], condition: &str) -> bool {
    stored
        .iter()
        .any(|found| found.type_ == condition && found.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPES: &[&str] = &[READY, RECONCILING, STALLED, PAUSED, AVAILABLE];

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn quiet() -> Conditions {
        let mut conditions = Conditions::unknown(TYPES);
        conditions.set(RECONCILING, false, Reason::Idle, "");
        conditions.set(STALLED, false, Reason::NotStalled, "");
        conditions.set(PAUSED, false, Reason::NotPaused, "");
        conditions.set(AVAILABLE, true, Reason::AsDesired, "");
        conditions
    }

    #[test]
    fn ready_follows_from_the_others() {
        let ready = |change: &dyn Fn(&mut Conditions)| {
            let mut conditions = quiet();
            change(&mut conditions);
            conditions.set_ready(&[AVAILABLE]);
            conditions.state(READY)
        };
        assert_eq!(ready(&|_| ()), Some(State::True));
        for (condition, state) in [
            (STALLED, State::True),
            (PAUSED, State::True),
            (RECONCILING, State::True),
            (AVAILABLE, State::False),
            (AVAILABLE, State::Unknown),
        ] {
            let not_ready = ready(&|c| c.set(condition, state, Reason::Blocked, "why"));
            assert_eq!(not_ready, Some(State::False), "{condition}={state:?}");
        }
    }

    #[test]
    fn time_moves_only_when_a_status_flips() {
        let first = quiet().merged(&[], Some(1), at(10));
        let mut same = quiet();
        same.set(AVAILABLE, true, Reason::Degraded, "other words");
        let second = same.merged(&first, Some(2), at(20));
        assert!(second.iter().all(|c| c.last_transition_time.0 == at(10)));
        let mut flipped = quiet();
        flipped.set(AVAILABLE, false, Reason::NoApiServer, "");
        let third = flipped.merged(&second, Some(2), at(30));
        let available = third.iter().find(|c| c.type_ == AVAILABLE).expect("there");
        assert_eq!(available.last_transition_time.0, at(30));
        assert_eq!(available.observed_generation, Some(2));
    }

    #[test]
    fn the_whole_set_is_there_from_the_start() {
        let first = Conditions::unknown(TYPES).merged(&[], Some(1), at(1));
        assert_eq!(first.len(), TYPES.len());
        assert!(
            first
                .iter()
                .all(|c| c.status == "Unknown" && !c.reason.is_empty())
        );
    }
}
