//! One controller a kind, each in the same five stages: observe, resolve, plan, act, status.
//!
//! Answers what has to be done for an object now, and does it. `observe`, `act` and `status` are
//! the only stages with IO; `resolve` and `plan` are pure. Never decides about membership, tokens
//! or CAs from a cache. Checks of spec fields that several kinds share live in [`fields`],
//! condition types and reasons in [`conditions`].

pub mod conditions;
mod contents;
pub mod context;
pub mod control_plane;
pub mod error;
pub mod etcd_cluster;
pub mod fields;
mod ledger;
mod looks;
mod memories;
pub mod names;
pub mod node_pool;
mod pace;
mod release;
mod report;
mod run;
mod secret_writer;
mod secrets;
mod seen;
mod settled;
mod targets;
mod turn;

pub use run::run;

/// Field manager of everything that the controllers apply in the seed.
pub const FIELD_MANAGER: &str = "seedbed";
