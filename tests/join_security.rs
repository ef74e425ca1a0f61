//! Machines that join, against a real API server and the real controller manager: which tokens
//! there are, who gets a certificate and who does not, and what is left afterwards.
//!
//! One seed is its own target here: a ControlPlane of one machine lies at its address, with its CA.
//! No kubelet runs; the tests ask for certificates as a kubelet does. `tests/e2e` has the machines.
#![allow(clippy::disallowed_methods, reason = "tests wait for real processes")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/audit.rs"]
mod audit;
#[path = "support/operator.rs"]
mod operator;
#[path = "support/operator_ground.rs"]
mod operator_ground;
#[path = "testbed/mod.rs"]
mod testbed;
#[path = "support/user_data.rs"]
mod user_data;

#[path = "join_security/crashes.rs"]
mod crashes;
#[path = "join_security/field.rs"]
mod field;
#[path = "join_security/kubeadm.rs"]
mod kubeadm;
#[path = "join_security/life.rs"]
mod life;
#[path = "join_security/refusals.rs"]
mod refusals;
#[path = "join_security/requests.rs"]
mod requests;
#[path = "join_security/rivals.rs"]
mod rivals;
#[path = "join_security/scale.rs"]
mod scale;
#[path = "join_security/scan.rs"]
mod scan;
#[path = "join_security/serving.rs"]
mod serving;
#[path = "join_security/wrong_specs.rs"]
mod wrong_specs;
