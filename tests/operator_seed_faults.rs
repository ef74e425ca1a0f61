//! The operator against a real seed while something dies: itself, another replica, the seed's API
//! server, one of many objects.
#![allow(clippy::disallowed_methods, reason = "tests wait for real processes")]

#[path = "support/audit.rs"]
mod audit;
#[path = "support/operator.rs"]
mod operator;
#[path = "support/operator_ground.rs"]
mod operator_ground;
#[path = "support/operator_objects.rs"]
mod operator_objects;
#[path = "support/operator_scan.rs"]
mod operator_scan;
#[path = "testbed/mod.rs"]
mod testbed;

#[path = "operator_seed_faults/crashes.rs"]
mod crashes;
#[path = "operator_seed_faults/replicas.rs"]
mod replicas;
#[path = "operator_seed_faults/seed.rs"]
mod seed;
