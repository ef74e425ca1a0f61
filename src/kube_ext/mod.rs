//! Thin verbs over the Kubernetes API: one call each, each under a deadline.
//!
//! Answers "do this to that object" and says why it failed. Never decides what to do, never
//! retries: whoever calls asks again on the next pass. A new verb goes into the file of its kind.

pub mod apply;
pub mod delete;
pub mod events;
pub mod owner;
