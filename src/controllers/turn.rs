//! Whose turn it is: how many objects are worked on at the same time.
//!
//! Turns are given first come, first served. The work queue of kube would bound them, too, but it
//! picks any waiting object, so that under load some are never picked.
//!
//! Some kinds go before others: of node pools a thousand may be due together, and each lets control
//! planes that are being worked on go first, for a moment.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Objects of one kind whose machines are asked at the same time. Machines that are switched off
/// cost seconds of waiting and nothing else; this bounds the open connections.
const AWAY_AT_ONCE: usize = 128;

/// Longest time for which a step is put off for others that go first.
const LONGEST_COURTESY: Duration = Duration::from_millis(100);

/// The turns of one controller.
pub struct Turns {
    turns: Arc<Semaphore>,
    away: Arc<Semaphore>,
    rank: Rank,
}

/// Those kinds that go first.
#[derive(Clone, Default)]
pub struct First(Arc<watch::Sender<Going>>);

#[derive(Default)]
struct Going {
    /// How many turns of them are held.
    held: usize,
    /// They were waited for in vain since there was none.
    in_vain: bool,
}

/// Whether a kind goes first, or lets others go first.
#[derive(Clone)]
pub enum Rank {
    Before(First),
    After(First),
}

/// The right to work on an object; given back when dropped.
pub struct Turn {
    turns: Arc<Semaphore>,
    away: Arc<Semaphore>,
    rank: Rank,
    // None only while away.
    held: Option<Held>,
}

/// A turn that is held; those that go after see it.
struct Held {
    _permit: Option<OwnedSemaphorePermit>,
    first: Option<First>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(First(going)) = &self.first {
            going.send_modify(|going| {
                going.held = going.held.saturating_sub(1);
                going.in_vain &= going.held > 0;
            });
        }
    }
}

impl Turns {
    /// Work on this many objects at the same time.
    pub fn new(at_once: u16, rank: Rank) -> Self {
        Self {
            rank,
            turns: Arc::new(Semaphore::new(usize::from(at_once))),
            away: Arc::new(Semaphore::new(AWAY_AT_ONCE)),
        }
    }

    /// Waits for a turn.
    pub async fn next(&self) -> Turn {
        let mut turn = Turn {
            turns: Arc::clone(&self.turns),
            away: Arc::clone(&self.away),
            rank: self.rank.clone(),
            held: None,
        };
        turn.take().await;
        turn
    }
}

impl Turn {
    /// Waits for machines: meanwhile it is another object's turn, however long they take.
    pub async fn away<T>(&mut self, waiting: impl Future<Output = T>) -> T {
        self.held = None;
        let away = permit(&self.away).await;
        let answer = waiting.await;
        drop(away);
        self.take().await;
        answer
    }

    /// Between two steps: lets those that go first go on. Those that come to no end are waited for
    /// once.
    pub async fn give_way(&self) {
        let Rank::After(First(going)) = &self.rank else {
            return;
        };
        let mut seen = going.subscribe();
        let way_is_free = seen.wait_for(|going| going.held == 0 || going.in_vain);
        let waited = tokio::time::timeout(LONGEST_COURTESY, way_is_free).await;
        if waited.is_err() {
            going.send_modify(|going| going.in_vain = going.held > 0);
        }
    }

    async fn take(&mut self) {
        let permit = permit(&self.turns).await;
        let first = match &self.rank {
            Rank::Before(first) => Some(first.clone()),
            Rank::After(_) => None,
        };
        if let Some(First(going)) = &first {
            going.send_modify(|going| going.held += 1);
        }
        self.held = Some(Held {
            _permit: permit,
            first,
        });
        self.give_way().await;
    }
}

/// `None` only of a closed semaphore, and these are never closed.
async fn permit(of: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(of).acquire_owned().await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn who_is_away_keeps_nobody_from_a_turn() {
        let turns = Turns::new(1, Rank::Before(First::default()));
        let mut first = turns.next().await;
        assert!(timeout(SOON, turns.next()).await.is_err(), "one at a time");
        let others = first.away(async { timeout(SOON, turns.next()).await.is_ok() });
        assert!(others.await, "the other's turn while the first is away");
        assert!(timeout(SOON, turns.next()).await.is_err(), "it is back");
        drop(first);
        assert!(timeout(SOON, turns.next()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn first_come_first_served() {
        let turns = Arc::new(Turns::new(1, Rank::After(First::default())));
        let held = turns.next().await;
        let (sender, mut order) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..10 {
            let (turns, sender) = (Arc::clone(&turns), sender.clone());
            tokio::spawn(async move {
                let _turn = turns.next().await;
                sender.send(number)
            });
            tokio::task::yield_now().await;
        }
        drop((held, sender));
        let mut served = Vec::new();
        while let Some(number) = order.recv().await {
            served.push(number);
        }
        assert_eq!(served, (0..10).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_after_waits_a_moment_and_no_longer() {
        let first = First::default();
        let control_planes = Turns::new(8, Rank::Before(first.clone()));
        let pools = Turns::new(8, Rank::After(first));
        let waited = async || {
            let began = tokio::time::Instant::now();
            drop(pools.next().await);
            began.elapsed()
        };
        assert_eq!(waited().await, Duration::ZERO);
        let mut held = control_planes.next().await;
        assert_eq!(waited().await, LONGEST_COURTESY);
        assert_eq!(waited().await, Duration::ZERO, "it comes to no end");
        // Nobody is worked on while its machines are waited for.
        let meanwhile = held.away(async { waited().await });
        assert_eq!(meanwhile.await, Duration::ZERO);
        let short = Duration::from_millis(30);
        let ends = async {
            tokio::time::sleep(short).await;
            drop(held);
        };
        assert_eq!(tokio::join!(waited(), ends).0, short, "it has begun anew");
    }
}
