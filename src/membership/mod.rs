//! What may be done to the members of an etcd cluster: the heart of Seedbed, pure.
//!
//! Answers whether and how a cluster is founded, what its members' own words add up to, and which
//! single step comes next. Never dials anything, never reads a clock, never trusts a cache. No
//! evidence, no change. In this order:
//!
//! - `round`, `snapshot`: what was seen, with times; `memory`: what earlier rounds saw.
//! - `evidence` makes [`Facts`] of them: every rule about time is there.
//! - `wishes` is the decision table: what should be done. It knows no safety.
//! - `check` has the invariants I1 to I20, each a function: what may be done.
//! - `plan` takes the first wish that may be done; `operation` tells what became of it.
//!
//! A new rule is a function of `check`, listed in [`RULES`], with a test that names its invariant
//! and a planted fault in `tests/membership_search`.

mod check;
mod evidence;
mod facts;
mod founding;
mod goal;
mod invariant;
mod memory;
mod operation;
mod plan;
mod round;
mod snapshot;
mod step;
mod verdict;
mod wishes;

pub use check::{Held, RULES, Rule, check, member_name};
pub use evidence::evidence;
pub use facts::{Departed, Facts, Health, Loss, Member, Progress, Role};
pub use founding::{FoundingFacts, FoundingStep, LedgerRecord, founding_step};
pub use goal::{Candidate, Goal, MAX_ATTEMPTS, Marks};
pub use invariant::Invariant;
pub use memory::Memory;
pub use operation::{Operation, Outcome};
pub use plan::{Decision, Outlook, plan};
pub use round::{Recorded, RecordedMember, Round};
pub use snapshot::{Answer, ListedMember, MemberView, Snapshot};
pub use step::Step;
pub use verdict::{Freeze, Identity, MemberHealth, health, identity, lag_entries, quorum};
pub use wishes::{Wish, wishes};
