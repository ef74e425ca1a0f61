//! How far a learner has come (etcd-membership I3, I14).

use std::time::Duration;

use jiff::Timestamp;

use super::list::Listed;
use super::past;
use crate::membership::facts::Progress;
use crate::membership::memory::MemberMemory;
use crate::membership::snapshot::{Answer, Snapshot};
use crate::membership::verdict::lag_entries;

/// A learner that has not moved for this long is given up (I14).
const STALL: Duration = Duration::from_secs(300);
/// Entries that a learner may be behind when it is promoted (I3).
const LAG_LIMIT: u64 = 1_000;
/// One in so many entries of the whole log, at most (I3: less than 1 %).
const LAG_SHARE: u64 = 100;
/// Between the two answers of a learner that has caught up.
const TWO_SAMPLES: Duration = Duration::from_secs(2);

/// Notes whether it moved since the last round.
pub(super) fn time(
    listed: &Listed<'_>,
    snapshot: &Snapshot,
    now: Timestamp,
    memory: &mut MemberMemory,
) {
    let applied = answer(listed).map(|answer| answer.raft_applied_index);
    let moved = applied.is_some() && applied > memory.applied;
    if memory.moved_at.is_none() || moved || level(listed, snapshot) {
        memory.moved_at = Some(now);
    }
    memory.applied = applied.or(memory.applied);
}

fn answer<'a>(listed: &Listed<'a>) -> Option<&'a Answer> {
    listed.view?.answer.as_ref().ok()
}

/// It answers, and what it lacks of the leader's log is next to nothing.
fn level(listed: &Listed<'_>, snapshot: &Snapshot) -> bool {
    let Some(answer) = answer(listed) else {
        return false;
    };
    let lag = lag_entries(answer, snapshot);
    let behind = answer.raft_index.saturating_sub(answer.raft_applied_index);
    lag.is_some_and(|lag| {
        let lag = lag.saturating_add(behind);
        lag <= LAG_LIMIT && lag.saturating_mul(LAG_SHARE) <= answer.raft_index
    })
}

/// How far a learner has come; a voter needs no catching up.
pub(super) fn progress(
    listed: &Listed<'_>,
    snapshot: &Snapshot,
    now: Timestamp,
    memory: &MemberMemory,
) -> Progress {
    let twice = past(now, memory.good_since, TWO_SAMPLES);
    if !listed.is_learner || (listed.started && twice && level(listed, snapshot)) {
        Progress::CaughtUp
    } else if past(now, memory.moved_at, STALL) {
        Progress::Stalled
    } else {
        Progress::Progressing
    }
}
