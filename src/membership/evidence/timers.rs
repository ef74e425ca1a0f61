//! When time alone makes the next thing certain.

use std::time::Duration;

use jiff::Timestamp;

use super::loss::CONFIRMED_GRACE;
use super::{CONFIRMATION, elapsed};
use crate::membership::memory::Memory;

impl Memory {
    /// How long until the first of the timers that run is over: a pause after a change (I20), the
    /// second sample of a good member (A.2), the silence of a lost one (A.5). `None` while none runs.
    pub fn due_in(&self, now: Timestamp, loss_timeout: Duration) -> Option<Duration> {
        let left = |since: Option<Timestamp>, limit: Duration| {
            let left = limit.checked_sub(elapsed(now, since?))?;
            Some(left).filter(|left| !left.is_zero())
        };
        let members = self.members.values().flat_map(|member| {
            [
                left(member.good_since, CONFIRMATION),
                left(member.silent_since, CONFIRMED_GRACE),
                left(member.dark_since, CONFIRMED_GRACE),
                left(member.dark_since, loss_timeout),
            ]
        });
        let pause = self.change.as_ref().map(|change| change.until);
        let pause = pause.map(|until| elapsed(until, now));
        members
            .chain([pause.filter(|left| !left.is_zero())])
            .flatten()
            .min()
    }
}
