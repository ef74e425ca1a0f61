//! What may be done to the members of an etcd cluster: the heart of Seedbed, pure.
//!
//! Answers whether and how a cluster is founded, what its members' own words add up to, and (with
//! later work) which single step comes next. Never dials anything, never reads a clock, never
//! trusts a cache: it is given a [`Snapshot`] and gives back a value. No evidence, no change.
//! A new rule goes into the file of its question, with a test that names the invariant.

mod founding;
mod snapshot;
mod verdict;

pub use founding::{FoundingFacts, FoundingStep, LedgerRecord, founding_step};
pub use snapshot::{Answer, ListedMember, MemberView, Snapshot};
pub use verdict::{Freeze, Identity, MemberHealth, health, identity, lag_entries, quorum};
