//! When a failing object is tried again. kube offers no per-object backoff of its own.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Delay after the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// Longest delay.
const LONGEST: Duration = Duration::from_secs(300);
/// A delay is lengthened by up to this share, so that objects that failed together spread out.
const JITTER: f64 = 0.2;

/// Failures in a row, by object.
#[derive(Debug)]
pub struct Backoff<K> {
    failures: Mutex<HashMap<K, u32>>,
}

impl<K> Default for Backoff<K> {
    fn default() -> Self {
        Self {
            failures: Mutex::default(),
        }
    }
}

impl<K: Eq + Hash> Backoff<K> {
    /// Counts one more failure of the object and answers how long to wait: 1 s, doubling up to
    /// 5 min, plus up to 20 %.
    pub fn failed(&self, key: K) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key).or_default();
        let wait = delay(*count, rand::random());
        *count = count.saturating_add(1);
        wait
    }

    /// Forgets the object's failures: it succeeded, or it is gone.
    pub fn reset(&self, key: &K) {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }

    /// How many objects are failing.
    pub fn len(&self) -> usize {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Whether no object is failing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The delay after `failures` earlier failures in a row; `random` lies in 0 to 1.
fn delay(failures: u32, random: f64) -> Duration {
    let doubled = FIRST.saturating_mul(2_u32.saturating_pow(failures));
    doubled
        .min(LONGEST)
        .mul_f64(1.0 + JITTER * random)
        .min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_from_one_second_to_five_minutes() {
        let seconds: Vec<u64> = (0..11).map(|n| delay(n, 0.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(delay(u32::MAX, 1.0), LONGEST);
        assert_eq!(delay(0, 1.0), Duration::from_millis(1200));
    }

    #[test]
    fn counts_by_object_and_forgets_on_success() {
        let backoff = Backoff::default();
        assert!(backoff.failed("a") < Duration::from_secs(2));
        assert!(backoff.failed("a") >= Duration::from_secs(2));
        assert!(backoff.failed("b") < Duration::from_secs(2));
        assert_eq!(backoff.len(), 2);
        backoff.reset(&"a");
        assert!(backoff.failed("a") < Duration::from_secs(2));
        backoff.reset(&"a");
        backoff.reset(&"b");
        assert!(backoff.is_empty());
    }
}
