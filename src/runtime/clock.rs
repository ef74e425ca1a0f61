//! The only place that reads a clock. Everything else is given a [`Clock`], or better, a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// Wall-clock and monotonic time, either the system's or one that a test moves by hand.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System { origin: Instant },
    Manual(Arc<Mutex<Manual>>),
}

#[derive(Debug)]
struct Manual {
    start: Timestamp,
    elapsed: Duration,
}

impl Clock {
    /// The clock of this machine.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads a clock"
    )]
    pub fn system() -> Self {
        Self(Source::System {
            origin: Instant::now(),
        })
    }

    /// A clock that stands still at `start` until [`advance`](Self::advance) moves it. Clones share
    /// the same time.
    pub fn manual(start: Timestamp) -> Self {
        Self(Source::Manual(Arc::new(Mutex::new(Manual {
            start,
            elapsed: Duration::ZERO,
        }))))
    }

    /// The wall-clock time: for certificates, records and people, never for measuring a period.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads a clock"
    )]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System { .. } => Timestamp::now(),
            Source::Manual(manual) => {
                let manual = manual.lock().unwrap_or_else(PoisonError::into_inner);
                let elapsed = SignedDuration::try_from(manual.elapsed);
                elapsed
                    .ok()
                    .and_then(|elapsed| manual.start.checked_add(elapsed).ok())
                    .unwrap_or(Timestamp::MAX)
            }
        }
    }

    /// Time since this clock was made. Never goes back and ignores corrections of the wall clock.
    pub fn monotonic(&self) -> Duration {
        match &self.0 {
            Source::System { origin } => origin.elapsed(),
            Source::Manual(manual) => {
                manual
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .elapsed
            }
        }
    }

    /// Moves a manual clock forward. The system's clock is left alone.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(manual) = &self.0 {
            manual
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .elapsed += by;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_clock_moves_only_by_hand_and_for_all_clones() {
        let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
        let other = clock.clone();
        assert_eq!(other.monotonic(), Duration::ZERO);
        clock.advance(Duration::from_secs(90));
        assert_eq!(other.now(), "2026-01-01T00:01:30Z".parse().unwrap());
        assert_eq!(other.monotonic(), Duration::from_secs(90));
    }

    #[test]
    fn system_clock_goes_forward() {
        let clock = Clock::system();
        let before = clock.monotonic();
        assert!(clock.monotonic() >= before);
        assert!(clock.now() > "2020-01-01T00:00:00Z".parse().unwrap());
    }
}
