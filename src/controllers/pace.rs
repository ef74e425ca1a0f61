//! How soon to look again at what a watch does not report: often while something moves, more and
//! more seldom the longer nothing does.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Longest pause.
const LONGEST: Duration = Duration::from_secs(30);
/// A pause is this part of the time in which nothing has changed.
const PART: u32 = 10;

/// When the status of each object changed last, by UID, on the monotonic clock; since this process
/// started.
#[derive(Default)]
pub struct Changes(Mutex<HashMap<String, Duration>>);

impl Changes {
    /// Notes whether the status has just changed; answers for how long it has not.
    pub fn quiet(&self, uid: &str, changed: bool, now: Duration) -> Duration {
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match changes.get(uid) {
            Some(last) if !changed => now.saturating_sub(*last),
            _ => {
                changes.insert(uid.to_owned(), now);
                Duration::ZERO
            }
        }
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
    }
}
