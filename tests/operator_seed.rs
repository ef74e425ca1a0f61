//! The operator against a real seed, with machines that do not answer: what it writes, and what it
//! leaves alone.
#![allow(clippy::disallowed_methods, reason = "tests wait for real processes")]

#[path = "support/audit.rs"]
mod audit;
#[path = "support/operator.rs"]
mod operator;
#[path = "support/operator_ground.rs"]
mod operator_ground;
#[path = "support/operator_objects.rs"]
mod operator_objects;
#[path = "testbed/mod.rs"]
mod testbed;
#[path = "support/user_data.rs"]
mod user_data;

#[path = "operator_seed/external.rs"]
mod external;
#[path = "operator_seed/fixpoint.rs"]
mod fixpoint;
#[path = "operator_seed/founding.rs"]
mod founding;
#[path = "operator_seed/lifetime.rs"]
mod lifetime;
#[path = "operator_seed/publication.rs"]
mod publication;
#[path = "operator_seed/repair.rs"]
mod repair;
#[path = "operator_seed/user_cas.rs"]
mod user_cas;
