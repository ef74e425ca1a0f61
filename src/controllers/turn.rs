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

/// How many turns are held of those kinds that go first.
#[derive(Clone, Default)]
pub struct First(Arc<watch::Sender<usize>>);

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
    // Others were not waited for in vain.
    patient: bool,
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
        if let Some(First(held)) = &self.first {
            held.send_modify(|held| *held = held.saturating_sub(1));
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
            patient: true,
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

    /// Between two steps: lets those that go first go on. Who has waited too long once, does not
    /// wait again.
    pub async fn give_way(&mut self) {
        let Rank::After(First(held)) = &self.rank else {
            return;
        };
        if self.patient {
            let mut held = held.subscribe();
            let nobody = held.wait_for(|held| *held == 0);
            self.patient = tokio::time::timeout(LONGEST_COURTESY, nobody).await.is_ok();
        }
    }

    async fn take(&mut self) {
        let permit = permit(&self.turns).await;
        let first = match &self.rank {
            Rank::Before(first) => Some(first.clone()),
            Rank::After(_) => None,
        };
        if let Some(First(held)) = &first {
            held.send_modify(|held| *held += 1);
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
        let mut impatient = pools.next().await;
        assert!(
            timeout(Duration::from_millis(1), impatient.give_way())
                .await
                .is_ok()
        );
        // Nobody is worked on while its machines are waited for.
        let meanwhile = held.away(async { waited().await });
        assert_eq!(meanwhile.await, Duration::ZERO);
        let short = Duration::from_millis(30);
        let ends = async {
            tokio::time::sleep(short).await;
            drop(held);
        };
        assert_eq!(tokio::join!(waited(), ends).0, short);
    }
}
