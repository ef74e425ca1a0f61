//! What becomes of the recorded operation, or which step comes next: the planner's answer as the
//! status shall hold it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::super::observe::Observed;
use super::inputs::{goal, loss_timeout, operation, pending, recorded, seconds};
use super::ledger;
use crate::crd::{Decision as Row, EtcdClusterStatus, Ledger, PendingOperation};
use crate::membership::{
    Decision, Facts, Health, Invariant, Member, Memory, Operation, Outcome, Progress, Recorded,
    RecordedMember, Round, Step, evidence, plan,
};

/// Decisions that the status keeps.
const KEPT_DECISIONS: usize = 20;
/// A repeated try waits so long at least, and twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// And so long at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// What is known of the membership, and what is done about it.
#[derive(Debug)]
pub struct Membership {
    pub facts: Facts,
    pub decision: Decision,
    /// The operation as the status shall hold it.
    pub pending: Option<PendingOperation>,
    /// It is made as soon as it is on record.
    pub make: Option<Operation>,
    /// A snapshot of the only voter has to be verified before anything else is done (I3).
    pub wants_snapshot: bool,
    /// How long until time alone makes the next thing certain.
    pub due_in: Option<Duration>,
    /// Since when members and their machines are silent, by the member's name.
    pub silent_since: BTreeMap<String, String>,
    /// Decisions of this reconcile, oldest first.
    pub news: Vec<Row>,
}

/// Takes a round of answers in and decides. The ledger gets what has become certain.
pub fn membership(
    observed: &Observed,
    status: &EtcdClusterStatus,
    ledger: &mut Ledger,
    memory: &mut Memory,
    now: Timestamp,
) -> Result<Membership, String> {
    let operation = status.pending_operation.as_ref().map(operation);
    let operation = operation.transpose()?;
    let before = recorded(observed, status, ledger);
    let facts = evidence(
        &Round {
            asked_at: observed.asked_at,
            now,
            goal: goal(observed, ledger),
            ledger: &before,
            pending: operation.as_ref(),
            snapshot: &observed.snapshot,
            machines: &observed.machines,
            sees: &observed.sees,
            loss_timeout: loss_timeout(&observed.cluster),
            snapshot_verified_at: observed.snapshot_verified_at,
            called_at: observed.called_at,
        },
        memory,
    );
    if facts.frozen.is_none() {
        ledger::answered(ledger, &observed.snapshot);
        ledger::promoted(ledger, &facts);
        ledger::departed(ledger, &facts.departed);
        ledger::forget_strangers(ledger, &observed.cluster.spec.machines);
    }
    let decision = plan(&facts);
    let mut membership = Membership {
        wants_snapshot: wants_snapshot(&facts),
        due_in: memory.due_in(now, loss_timeout(&observed.cluster)),
        silent_since: silent_since(&before, memory),
        facts,
        decision,
        pending: status.pending_operation.clone(),
        make: None,
        news: Vec::new(),
    };
    match (operation, status.pending_operation.as_ref()) {
        (Some(operation), Some(recorded)) => {
            membership.resolve(operation, recorded, ledger, now);
            if membership.is_resolved() {
                // They waited for it, and are decided about in the next round.
                let held = &mut membership.decision.held;
                held.retain(|held| held.by != Invariant::OneInFlight);
            }
        }
        _ => membership.begin(now),
    }
    membership.note_holds(&status.decisions, now);
    Ok(membership)
}

impl Membership {
    /// What became of the recorded operation (I13).
    fn resolve(
        &mut self,
        operation: Operation,
        recorded: &PendingOperation,
        ledger: &mut Ledger,
        now: Timestamp,
    ) {
        match operation.outcome(&self.facts) {
            Outcome::Done(added) => {
                ledger::done(ledger, recorded, added, now);
                self.pending = None;
                self.note(now, &operation.step, "verified by the list of members");
            }
            Outcome::Abandon(why) => {
                self.pending = None;
                self.note(now, &operation.step, &format!("given up: {why}"));
            }
            Outcome::Wait(_) => {}
            Outcome::Retry if is_due(recorded, now) => self.make(operation, recorded.clone()),
            Outcome::Retry => {}
        }
    }

    /// Records the step that the planner chose; it is made once that is stored (I5).
    fn begin(&mut self, now: Timestamp) {
        let Some(step) = self.decision.step.clone() else {
            return;
        };
        let because = self.decision.because.clone();
        self.note(now, &step, &because);
        let pending = pending(&step, &self.facts, &because, now);
        self.make(Operation { step }, pending);
    }

    /// Each try is a write of the status, so that of two operators only one makes it (I22).
    fn make(&mut self, operation: Operation, mut pending: PendingOperation) {
        pending.attempts = Some(pending.attempts.unwrap_or(0).saturating_add(1));
        self.pending = Some(pending);
        self.make = Some(operation);
    }

    fn note(&mut self, now: Timestamp, step: &Step, because: &str) {
        self.news.push(row(now, &step.to_string(), because, None));
    }

    /// Notes every step that is newly held, or held by another rule than before. That one step waits
    /// for another, or for the pause after it, is no decision.
    fn note_holds(&mut self, stored: &[Row], now: Timestamp) {
        if self.is_unsure() {
            return;
        }
        let waits = [Invariant::OneInFlight, Invariant::Settle];
        let held = self.decision.held.iter();
        for held in held.filter(|held| !waits.contains(&held.by)) {
            let by = held.by.code();
            let mut earlier = stored.iter().rev();
            let last = earlier.find(|row| row.step == held.step);
            if last.and_then(|row| row.held_by.as_deref()) != Some(by) {
                self.news.push(row(now, &held.step, &held.why, Some(by)));
            }
        }
    }

    /// A voter has answered well, but not twice yet: what that holds is no news.
    pub fn is_unsure(&self) -> bool {
        let mut voters = self.facts.voters();
        voters.any(|voter| voter.health == Health::Unconfirmed)
    }

    /// The operation on record has just ended.
    fn is_resolved(&self) -> bool {
        self.pending.is_none() && self.news.iter().any(|row| row.held_by.is_none())
    }

    /// A change is under way, has just ended, or is about to be.
    pub fn is_changing(&self) -> bool {
        self.pending.is_some()
            || self.is_resolved()
            || self.decision.step.is_some()
            || self.facts.learners().next().is_some()
    }

    /// Members that run, while what is published for their machine would still start them on an
    /// empty disk (I9); one sentence each.
    pub fn unguarded(&self) -> impl Iterator<Item = String> {
        let runs = |member: &&Member| !matches!(member.health, Health::Unhealthy(_));
        let listed = self.facts.listed().iter().filter(runs);
        let unguarded = listed.filter(|member| !member.guarded);
        unguarded.map(|member| {
            format!(
                "{} has started, and its published machine config does not refuse an empty disk \
                 yet: do not image its machine now",
                member.name
            )
        })
    }

    /// Nothing is to be done, nothing under way.
    pub fn is_settled(&self) -> bool {
        self.pending.is_none()
            && !self.is_resolved()
            && self.decision.step.is_none()
            && self.decision.held.is_empty()
            && self.facts.frozen.is_none()
            && self.facts.learners().next().is_none()
            && self.facts.voter_count() == self.facts.goal.size
    }

    /// What is under way and what is held, for people.
    pub fn explanation(&self) -> String {
        let mut parts = Vec::new();
        if let Some(pending) = &self.pending {
            parts.push(format!(
                "under way since {}: {}, try {}",
                pending.started_at,
                words(pending),
                pending.attempts.unwrap_or(0)
            ));
        }
        parts.extend(self.decision.held.iter().map(ToString::to_string));
        if self.pending.is_none() && self.decision.held.is_empty() {
            parts.push(self.decision.because.clone());
        }
        parts.join("; ")
    }
}

/// The operation in words.
pub fn words(pending: &PendingOperation) -> String {
    operation(pending).map_or_else(|why| why, |operation| operation.step.to_string())
}

/// The stored decisions with the new ones, newest last.
pub fn with_news(stored: &[Row], news: &[Row]) -> Vec<Row> {
    let all = stored.iter().chain(news).cloned();
    let surplus = (stored.len() + news.len()).saturating_sub(KEPT_DECISIONS);
    all.skip(surplus).collect()
}

fn row(now: Timestamp, step: &str, because: &str, held_by: Option<&str>) -> Row {
    Row {
        time: seconds(now),
        step: step.chars().take(256).collect(),
        because: because.chars().take(4096).collect(),
        held_by: held_by.map(str::to_owned),
    }
}

/// What an operator that starts later has to know of timers that run.
fn silent_since(recorded: &Recorded, memory: &Memory) -> BTreeMap<String, String> {
    let since = |member: &RecordedMember| {
        let since = memory.silent_since(member.id?)?;
        Some((member.name.clone(), seconds(since)))
    };
    recorded.members.iter().filter_map(since).collect()
}

/// With a single voter, promotion is the one step that cannot be taken back.
fn wants_snapshot(facts: &Facts) -> bool {
    let ready = |progress| progress == Progress::CaughtUp;
    facts.voter_count() == 1
        && !facts.snapshot_verified
        && facts.frozen.is_none()
        && facts.learners().any(|learner| ready(learner.progress))
}

/// Whether the pause before the next try is over.
fn is_due(recorded: &PendingOperation, now: Timestamp) -> bool {
    let tries = u32::try_from(recorded.attempts.unwrap_or(0)).unwrap_or(0);
    let pauses = (0..tries).map(|n| LONGEST_PAUSE.min(FIRST_PAUSE * 2u32.pow(n.min(10))));
    let pauses: Duration = pauses.sum();
    let Ok(started) = recorded.started_at.parse::<Timestamp>() else {
        return true;
    };
    let since = Duration::try_from(now.duration_since(started)).unwrap_or_default();
    since >= pauses
}
