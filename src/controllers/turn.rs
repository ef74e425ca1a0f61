//! Whose turn it is: how many objects are worked on at the same time.
//!
//! Turns are given first come, first served. The work queue of kube would bound them, too, but it
//! picks any waiting object, so that under load some are never picked.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Objects of one kind whose machines are asked at the same time. Machines that are switched off
/// cost seconds of waiting and nothing else; this bounds the open connections.
const AWAY_AT_ONCE: usize = 128;

/// The turns of one controller.
pub struct Turns {
    turns: Arc<Semaphore>,
    away: Arc<Semaphore>,
}

/// The right to work on an object; given back when dropped.
pub struct Turn {
    turns: Arc<Semaphore>,
    away: Arc<Semaphore>,
    // None only while away.
    held: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// Work on this many objects at the same time.
    pub fn new(at_once: u16) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(usize::from(at_once))),
            away: Arc::new(Semaphore::new(AWAY_AT_ONCE)),
        }
    }

    /// Waits for a turn.
    pub async fn next(&self) -> Turn {
        Turn {
            held: permit(&self.turns).await,
            turns: Arc::clone(&self.turns),
            away: Arc::clone(&self.away),
        }
    }
}

impl Turn {
    /// Waits for machines: meanwhile it is another object's turn, however long they take.
    pub async fn away<T>(&mut self, waiting: impl Future<Output = T>) -> T {
        self.held = None;
        let away = permit(&self.away).await;
        let answer = waiting.await;
        drop(away);
        self.held = permit(&self.turns).await;
        answer
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
        let turns = Turns::new(1);
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
        let turns = Arc::new(Turns::new(1));
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
}
