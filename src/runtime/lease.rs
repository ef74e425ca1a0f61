//! Which replica may write: leader election on a `coordination.k8s.io/v1` Lease.
//!
//! Every write to the Lease is a `create` or a `replace` with the resourceVersion that was read,
//! so of two candidates one always loses. A holder is judged by how long its record has not
//! changed on *this* machine's monotonic clock, never by the times written in it (client-go's
//! rule). A leader counts its term from the moment before it sent the winning write, and stops
//! `lease_duration - renew_deadline` before anybody else may start.

mod decide;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, PostParams};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use decide::{Candidate, Decision, Observed, Timings, TimingsError, decide};

use super::clock::Clock;

/// Why leadership ended, or never began.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The lease was not renewed in time, or somebody else holds it.
    #[error("leadership of lease {namespace}/{name} is lost: {because}")]
    Lost {
        namespace: String,
        name: String,
        because: &'static str,
    },
    /// The task that renews the lease died.
    #[error("the task that renews the lease died")]
    TaskDied(#[source] tokio::task::JoinError),
}

/// Whether this process leads, right now. Clones share the answer.
#[derive(Clone, Debug)]
pub struct Leadership {
    clock: Clock,
    /// Monotonic microseconds up to which the term lasts; 0 when not leading.
    until: Arc<AtomicU64>,
}

impl Leadership {
    /// Not leading, until an [`Elector`] with this handle wins.
    pub fn none(clock: Clock) -> Self {
        Self {
            clock,
            until: Arc::default(),
        }
    }

    /// True while this process holds the lease. Turns false by itself when a renewal is late, so a
    /// process that was paused notices before its next write.
    pub fn is_held(&self) -> bool {
        let until = Duration::from_micros(self.until.load(Ordering::Acquire));
        self.clock.monotonic() < until
    }

    pub(super) fn set(&self, until: Option<Duration>) {
        let micros = until.map_or(0, |until| {
            u64::try_from(until.as_micros()).unwrap_or(u64::MAX)
        });
        self.until.store(micros, Ordering::Release);
    }
}

/// One candidate for one Lease.
pub struct Elector {
    api: Api<Lease>,
    namespace: String,
    name: String,
    candidate: Candidate,
    clock: Clock,
    leadership: Leadership,
}

impl Elector {
    /// A candidate named `identity`, which must differ from that of every other process.
    pub fn new(
        client: kube::Client,
        namespace: &str,
        name: &str,
        identity: &str,
        timings: Timings,
        leadership: Leadership,
    ) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            candidate: Candidate::new(identity, timings),
            clock: leadership.clock.clone(),
            leadership,
        }
    }

    /// Waits until this candidate leads, runs `work`, and gives the lease back when it ends.
    ///
    /// `None` when `shutdown` came before leadership did. When leadership is lost, `work` is
    /// dropped where it waits and the error is returned: the process should then end.
    pub async fn lead<W: Future>(
        mut self,
        shutdown: &CancellationToken,
        work: impl FnOnce() -> W,
    ) -> Result<Option<W::Output>, LeaseError> {
        if !self.acquire(shutdown).await {
            return Ok(None);
        }
        let stop = CancellationToken::new();
        // A task of its own: a reconcile that blocks its thread must not hold up renewals.
        let mut renewals = tokio::spawn(self.hold(stop.clone()));
        let done = tokio::select! {
            ended = &mut renewals => {
                ended.map_err(LeaseError::TaskDied)??;
                return Ok(None);
            }
            done = work() => done,
        };
        stop.cancel();
        renewals.await.map_err(LeaseError::TaskDied)??;
        Ok(Some(done))
    }

    /// Competes until the lease is ours (true) or `shutdown` comes (false).
    async fn acquire(&mut self, shutdown: &CancellationToken) -> bool {
        tracing::info!(
            lease = self.name,
            identity = self.candidate.identity(),
            "waiting for leadership"
        );
        loop {
            let pause = match self.attempt().await {
                Ok(None) => return true,
                Ok(Some(wait)) => wait.min(self.candidate.timings().retry_period),
                Err(error) => {
                    tracing::warn!(lease = self.name, %error, "cannot compete for the lease");
                    self.candidate.timings().retry_period
                }
            };
            // Jitter keeps candidates that started together from colliding on every round.
            let pause = pause.mul_f64(1.0 + 0.2 * rand::random::<f64>());
            tokio::select! {
                () = shutdown.cancelled() => return false,
                () = sleep(pause) => {}
            }
        }
    }

    /// One round: reads the lease and takes it if it is free. `None` when it was taken, else how
    /// long it stays out of reach.
    async fn attempt(&mut self) -> Result<Option<Duration>, AttemptError> {
        self.read().await?;
        match self.candidate.decide(self.clock.monotonic()) {
            Decision::Acquire => {
                let won = self.write().await?;
                Ok((!won).then_some(self.candidate.timings().retry_period))
            }
            Decision::Wait(remaining) => Ok(Some(remaining)),
            Decision::Renew | Decision::Yield(_) => Ok(Some(Duration::ZERO)),
        }
    }

    /// Renews until `stop`, then releases. Ends early with an error when leadership is lost.
    async fn hold(mut self, stop: CancellationToken) -> Result<(), LeaseError> {
        tracing::info!(lease = self.name, "leading");
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    self.release().await;
                    return Ok(());
                }
                () = sleep(self.candidate.timings().retry_period) => {}
            }
            if let Decision::Yield(because) = self.candidate.decide(self.clock.monotonic()) {
                return Err(self.lost(because));
            }
            let renewed = match self.write().await {
                // Somebody touched the lease: find out who, and try again at once if it is ours.
                Ok(false) => match self.read().await {
                    Ok(()) => match self.candidate.decide(self.clock.monotonic()) {
                        Decision::Yield(because) => return Err(self.lost(because)),
                        _ => self.write().await.map(drop),
                    },
                    Err(error) => Err(error),
                },
                Ok(true) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = renewed {
                tracing::warn!(lease = self.name, %error, "cannot renew the lease");
            }
        }
    }

    async fn read(&mut self) -> Result<(), AttemptError> {
        let lease = self.within_deadline(self.api.get_opt(&self.name)).await?;
        self.candidate.observe(lease, self.clock.monotonic());
        Ok(())
    }

    /// Takes or renews the lease as it was last read; false when it has changed since.
    async fn write(&mut self) -> Result<bool, AttemptError> {
        let desired = self.candidate.desired(&self.name, self.clock.now());
        let sent_at = self.clock.monotonic();
        let params = PostParams::default();
        let written = match desired.metadata.resource_version {
            Some(_) => {
                let replace = self.api.replace(&self.name, &params, &desired);
                self.within_deadline(replace).await
            }
            None => {
                self.within_deadline(self.api.create(&params, &desired))
                    .await
            }
        };
        match written {
            Ok(lease) => {
                self.candidate.won(lease, sent_at);
                self.leadership.set(self.candidate.leading_until());
                Ok(true)
            }
            Err(AttemptError::Api(kube::Error::Api(status)))
                if status.is_conflict() || status.is_not_found() || status.is_already_exists() =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Gives the lease back so that the next candidate need not wait for it to expire.
    async fn release(&mut self) {
        let released = self.candidate.released(self.clock.now());
        self.leadership.set(None);
        let params = PostParams::default();
        let replace = self.api.replace(&self.name, &params, &released);
        match self.within_deadline(replace).await {
            Ok(_) => tracing::info!(lease = self.name, "released leadership"),
            Err(error) => tracing::warn!(
                lease = self.name,
                %error,
                "cannot release the lease; it expires by itself"
            ),
        }
    }

    fn lost(&self, because: &'static str) -> LeaseError {
        self.leadership.set(None);
        LeaseError::Lost {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            because,
        }
    }

    /// Two attempts fit into the renew deadline; kube itself has no read timeout.
    async fn within_deadline<T>(
        &self,
        call: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, AttemptError> {
        let limit = self.candidate.timings().renew_deadline / 2;
        match timeout(limit, call).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(AttemptError::TimedOut(limit)),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("no answer from the API server within {0:?}")]
    TimedOut(Duration),
}
