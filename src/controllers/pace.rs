//! How soon to look again at what a watch does not report: often while something moves, more and
//! more seldom the longer nothing does.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::fields::{Problem, ProblemReason};

/// Longest pause.
const LONGEST: Duration = Duration::from_secs(30);
/// A pause is this part of the time in which nothing has changed.
const PART: u32 = 10;

/// A Secret or ConfigMap that is needed is looked for again after this time: what the user makes
/// carries no label of ours, so that no watch tells.
const MISSING: Duration = Duration::from_secs(10);
/// Other problems that only a person can help are looked at again after this time.
const STALLED: Duration = Duration::from_secs(60);

/// When the status of each object was seen to change last, by UID, on the monotonic clock.
#[derive(Default)]
pub struct Changes(Mutex<HashMap<String, Since>>);

/// Nothing has changed since, nor for a while before.
#[derive(Clone, Copy)]
struct Since {
    at: Duration,
    before: Duration,
}

impl Changes {
    /// Notes whether the status has just changed; answers for how long it has not, since this
    /// process saw it first.
    pub fn quiet(&self, uid: &str, changed: bool, now: Duration) -> Duration {
        self.quiet_since(uid, changed, now, Duration::ZERO)
    }

    /// The same; `before` is for how long an object that is seen for the first time has not changed.
    pub fn quiet_since(
        &self,
        uid: &str,
        changed: bool,
        now: Duration,
        before: Duration,
    ) -> Duration {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if changed || !changes.contains_key(uid) {
            let before = if changed { Duration::ZERO } else { before };
            changes.insert(uid.to_owned(), Since { at: now, before });
        }
        let quiet = |since: &Since| since.before + now.saturating_sub(since.at);
        changes.get(uid).map_or(Duration::ZERO, quiet)
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }
}

/// The pause after `quiet`, at least `shortest`: a machine that took long is waited for patiently.
pub fn pause(shortest: Duration, quiet: Duration) -> Duration {
    shortest.max(LONGEST.min(quiet / PART))
}

/// The pause while only a person can help.
pub fn until_helped(problems: &[Problem]) -> Duration {
    let missing = |problem: &Problem| problem.reason == ProblemReason::MissingInput;
    if problems.iter().any(missing) {
        MISSING
    } else {
        STALLED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn pauses_grow_until_something_changes() {
        let changes = Changes::default();
        let at = |second, changed| {
            let quiet = changes.quiet("uid", changed, seconds(second));
            pause(seconds(3), quiet)
        };
        assert_eq!(at(100, false), seconds(3), "seen for the first time");
        assert_eq!(at(110, false), seconds(3));
        assert_eq!(at(200, false), seconds(10));
        assert_eq!(at(4000, false), seconds(30));
        assert_eq!(at(4001, true), seconds(3));
        assert_eq!(at(4101, false), seconds(10));
        changes.forget("uid");
        assert_eq!(at(4200, false), seconds(3));
        let first = |changed| changes.quiet_since("old", changed, seconds(5000), seconds(90));
        assert_eq!(first(false), seconds(90), "by what it says itself");
        assert_eq!(changes.quiet("old", false, seconds(5010)), seconds(100));
        assert_eq!(first(true), seconds(0));
    }
}
