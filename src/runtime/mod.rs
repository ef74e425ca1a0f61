//! What every long-running process needs and no decision depends on.
//!
//! Answers how the operator starts ([`settings`], [`telemetry`], [`preflight`]), who may write
//! ([`lease`], enforced by [`client`]), what time it is ([`clock`], the only place that reads one),
//! when to try again ([`backoff`]), how it is watched ([`health`], [`metrics`]) and how it stops
//! ([`shutdown`]). Never holds knowledge about control planes, etcd or nodes. A new background
//! service gets a file here; a new setting goes to `settings` and the chart's Deployment, a new
//! permission to `permissions` and the chart's Role.

pub mod backoff;
pub mod client;
pub mod clock;
pub mod health;
pub mod lease;
pub mod metrics;
pub mod permissions;
pub mod preflight;
pub mod settings;
pub mod shutdown;
pub mod telemetry;

/// Threads that drive async tasks: reconciles mostly wait, and each thread costs memory.
const WORKER_THREADS: usize = 2;
/// Threads for key generation; more would only compete for the same cores.
const MAX_BLOCKING_THREADS: usize = 4;

/// The async executor of the operator.
pub fn executor() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_name("seedbed")
        .enable_all()
        .build()
}
