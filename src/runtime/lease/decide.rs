//! The decision, without any IO: what a candidate knows and what it should do now.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// How long a term lasts and how often it is renewed. Defaults are client-go's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// How long others wait after the last change before they take the lease. Default 15 s.
    pub lease_duration: Duration,
    /// How long the holder goes on without a successful renewal. Default 10 s.
    pub renew_deadline: Duration,
    /// Pause between two attempts, to renew and to acquire alike. Default 2 s.
    pub retry_period: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// Timings under which two leaders, or none, could be the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingsError {
    #[error("lease duration {0:?} must be longer than the renew deadline {1:?}")]
    DeadlineTooLong(Duration, Duration),
    #[error("renew deadline {0:?} must be at least twice the retry period {1:?}")]
    RetryTooLong(Duration, Duration),
    #[error("lease duration {0:?} must be a whole number of seconds, at least 1 s")]
    NotWholeSeconds(Duration),
    #[error("the retry period must not be zero")]
    RetryZero,
}

impl Timings {
    /// Checks the relations that the safety argument needs.
    pub fn validated(self) -> Result<Self, TimingsError> {
        if self.retry_period.is_zero() {
            return Err(TimingsError::RetryZero);
        }
        if self.lease_duration.subsec_nanos() != 0 || self.lease_duration.is_zero() {
            return Err(TimingsError::NotWholeSeconds(self.lease_duration));
        }
        if self.lease_duration <= self.renew_deadline {
            return Err(TimingsError::DeadlineTooLong(
                self.lease_duration,
                self.renew_deadline,
            ));
        }
        if self.renew_deadline < self.retry_period * 2 {
            return Err(TimingsError::RetryTooLong(
                self.renew_deadline,
                self.retry_period,
            ));
        }
        Ok(self)
    }
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The lease is free: write it, with compare-and-swap.
    Acquire,
    /// We lead: write it again, with compare-and-swap.
    Renew,
    /// Somebody else holds it, for at least this long.
    Wait(Duration),
    /// We led and no longer do, for this reason.
    Yield(&'static str),
}

/// What a candidate knows about the lease. Times are local and monotonic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed<'a> {
    /// Who holds the lease; none when it was released or does not exist.
    pub holder: Option<&'a str>,
    /// From when on somebody other than the holder may take it.
    pub free_at: Duration,
    /// Until when we lead; none when we do not.
    pub leading_until: Option<Duration>,
}

/// Decides for candidate `me` at the local monotonic time `now`.
pub fn decide(observed: &Observed<'_>, now: Duration, me: &str) -> Decision {
    let ours = observed.holder == Some(me);
    match observed.leading_until {
        Some(until) if now >= until => Decision::Yield("no renewal succeeded in time"),
        Some(_) if ours || observed.holder.is_none() => Decision::Renew,
        Some(_) => Decision::Yield("another replica holds it"),
        // A write of ours that seemed to fail was stored after all.
        None if ours => Decision::Acquire,
        None if now >= observed.free_at => Decision::Acquire,
        None => Decision::Wait(observed.free_at - now),
    }
}

/// One candidate's memory between two looks at the lease.
#[derive(Clone, Debug)]
pub struct Candidate {
    me: String,
    timings: Timings,
    lease: Option<Lease>,
    free_at: Duration,
    leading_until: Option<Duration>,
}

impl Candidate {
    /// A candidate that has seen nothing yet.
    pub fn new(me: &str, timings: Timings) -> Self {
        Self {
            me: me.to_owned(),
            timings,
            lease: None,
            free_at: Duration::ZERO,
            leading_until: None,
        }
    }

    /// The name that is written into the lease.
    pub fn identity(&self) -> &str {
        &self.me
    }

    /// The timings it was made with.
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// Until when it leads, on the local monotonic clock.
    pub fn leading_until(&self) -> Option<Duration> {
        self.leading_until
    }

    /// Takes in the lease as it was just read at `now`, the time at which the answer arrived.
    pub fn observe(&mut self, lease: Option<Lease>, now: Duration) {
        let seen = self.lease.as_ref().and_then(|lease| lease.spec.as_ref());
        let read = lease.as_ref().and_then(|lease| lease.spec.as_ref());
        // Only the election record counts: a label changed by somebody must not prolong a term.
        if seen != read {
            // Deleting a lease does not stop its holder, so that term is waited out all the same.
            let term = holder(read).is_some().then_some(read);
            let vanished = (lease.is_none() && holder(seen).is_some()).then_some(seen);
            self.free_at = match term.or(vanished) {
                Some(spec) => now.saturating_add(self.term(spec)),
                None => now,
            };
        }
        self.lease = lease;
    }

    /// What to do at `now`.
    pub fn decide(&self, now: Duration) -> Decision {
        let spec = self.lease.as_ref().and_then(|lease| lease.spec.as_ref());
        let observed = Observed {
            holder: holder(spec),
            free_at: self.free_at,
            leading_until: self.leading_until,
        };
        decide(&observed, now, &self.me)
    }

    /// The lease that acquires or renews, based on the one last read. `wall` is for readers only.
    pub fn desired(&self, name: &str, wall: Timestamp) -> Lease {
        let mut lease = self.lease.clone().unwrap_or_else(|| {
            let mut lease = Lease::default();
            lease.metadata.name = Some(name.to_owned());
            lease
        });
        let spec = lease.spec.get_or_insert_default();
        if holder(Some(spec)) != Some(&self.me) {
            let first = spec.holder_identity.is_none() && spec.lease_transitions.is_none();
            let transitions = spec.lease_transitions.unwrap_or(0);
            spec.lease_transitions = Some(transitions.saturating_add(i32::from(!first)));
            spec.acquire_time = Some(MicroTime(wall));
        }
        spec.holder_identity = Some(self.me.clone());
        spec.lease_duration_seconds =
            Some(i32::try_from(self.timings.lease_duration.as_secs()).unwrap_or(i32::MAX));
        spec.renew_time = Some(MicroTime(wall));
        lease
    }

    /// Our write won. The term counts from before it was sent, for it may have been stored at once.
    pub fn won(&mut self, lease: Lease, sent_at: Duration) {
        self.lease = Some(lease);
        self.free_at = sent_at.saturating_add(self.timings.lease_duration);
        self.leading_until = Some(sent_at.saturating_add(self.timings.renew_deadline));
    }

    /// Stops leading; the lease to write so that the next candidate may start at once.
    pub fn released(&mut self, wall: Timestamp) -> Lease {
        self.leading_until = None;
        let mut lease = self.lease.clone().unwrap_or_default();
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(wall));
        lease
    }

    /// How long the holder was promised the lease; ours when the record does not say.
    fn term(&self, spec: Option<&LeaseSpec>) -> Duration {
        spec.and_then(|spec| spec.lease_duration_seconds)
            .and_then(|seconds| u64::try_from(seconds).ok())
            .filter(|seconds| *seconds > 0)
            .map_or(self.timings.lease_duration, Duration::from_secs)
    }
}

/// The holder; client-go releases with an empty name.
fn holder(spec: Option<&LeaseSpec>) -> Option<&str> {
    spec.and_then(|spec| spec.holder_identity.as_deref())
        .filter(|holder| !holder.is_empty())
}
