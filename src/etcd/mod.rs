//! Asking etcd members, one client per member.
//!
//! Answers what one member says of itself and of its cluster. Never decides anything, never spreads
//! a call over several endpoints (an answer must be one member's own), never makes a call without a
//! deadline. Changes of membership go through [`EtcdApi`] and nowhere else. A new error text
//! of etcd goes into `error`.

mod api;
mod client;
mod error;
mod metrics;
mod snapshot;

pub use api::{Asked, EtcdApi, MemberEndpoint};
pub use client::{EtcdClients, EtcdCredentials};
pub use error::{EtcdError, EtcdErrorClass};
pub use snapshot::{SnapshotFault, Verified, Verifier};
