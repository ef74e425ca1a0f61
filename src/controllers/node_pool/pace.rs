//! How soon a pool is looked at again, when nothing happens before.

use std::time::Duration;

use jiff::Timestamp;

use super::status::Progress;
use crate::controllers::pace::{pause, until_helped};
use crate::crd::NodePoolStatus;

/// Longest pause while a machine may ask to join, or its token may be gone.
const ATTENTIVE: Duration = Duration::from_secs(15);
/// Between two looks at what is being drained, and soon after something has moved.
const DRAINING: Duration = Duration::from_secs(2);

/// Whether anything has happened that a person or a machine brought about. A token that was renewed
/// is nothing that others follow soon: all pools would be looked at often, each time.
pub fn has_moved(before: Option<&NodePoolStatus>, after: &NodePoolStatus) -> bool {
    let without_expiries = |status: &NodePoolStatus| {
        let mut status = status.clone();
        status.token_expiry = None;
        status
            .machines
            .iter_mut()
            .for_each(|row| row.token_expiry = None);
        status
    };
    before.map(without_expiries) != Some(without_expiries(after))
}

/// For how long no condition has changed, as far as the status itself says.
pub fn unmoved_for(status: &NodePoolStatus, now: Timestamp) -> Duration {
    let times = status.conditions.iter();
    let latest = times
        .map(|condition| condition.last_transition_time.0)
        .max();
    let since = latest.map(|latest| now.duration_since(latest));
    since.map_or(Duration::ZERO, |since| {
        Duration::try_from(since).unwrap_or_default()
    })
}

/// How long until the next look, when nothing happens before; `quiet` is for how long the status
/// has not changed.
pub fn requeue(progress: &Progress, quiet: Duration, now: Timestamp) -> Duration {
    match progress {
        Progress::Paused => Duration::from_secs(600),
        Progress::Stalled(problems) => until_helped(problems),
        Progress::Awaiting(..) => pause(Duration::from_secs(3), quiet).min(ATTENTIVE),
        Progress::Live(live) if !live.leaving.is_empty() || !live.problems.is_empty() => DRAINING,
        // Kubelets ask for serving certificates right after they have joined.
        Progress::Live(live) if live.missing.is_empty() => pause(DRAINING, quiet),
        Progress::Live(live) => {
            let due = live.next_due.map(|due| due.duration_since(now));
            let due = due.map_or(ATTENTIVE, |due| Duration::try_from(due).unwrap_or_default());
            pause(DRAINING, quiet)
                .min(ATTENTIVE)
                .min(due + Duration::from_millis(200))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::node_pool::status::tests::{at, waiting_for};
    use crate::crd::WorkerStatus;
    use crate::tokens::format::spelt;

    #[test]
    fn a_machine_that_may_come_is_looked_for_and_its_token_renewed_in_time() {
        let quiet = Duration::from_secs(3600);
        let look = |due: Option<i64>| requeue(&waiting_for("w-1", due.map(at)), quiet, at(100));
        assert_eq!(look(None), ATTENTIVE);
        assert_eq!(look(Some(900)), ATTENTIVE);
        assert!(look(Some(105)) < Duration::from_secs(6));
        assert!(look(Some(50)) < Duration::from_secs(1));
    }

    #[test]
    fn a_renewed_token_alone_is_no_reason_to_look_more_often() {
        let row = |expiry: i64, joined| WorkerStatus {
            name: "w-1".to_owned(),
            token_expiry: Some(spelt(at(expiry))),
            joined: Some(joined),
            ..WorkerStatus::default()
        };
        let with = |row, shared: i64| NodePoolStatus {
            machines: vec![row],
            token_expiry: Some(spelt(at(shared))),
            ..NodePoolStatus::default()
        };
        let before = with(row(1000, false), 1000);
        assert!(!has_moved(Some(&before), &with(row(2000, false), 3000)));
        assert!(has_moved(Some(&before), &with(row(1000, true), 1000)));
        assert!(has_moved(None, &before));
    }
}
