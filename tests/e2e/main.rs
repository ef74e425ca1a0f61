//! The main job on real parts: a ControlPlane is applied to a real seed, the operator runs as the
//! chart installs it, machines boot from the Secrets by cloud-init, and a highly available control
//! plane answers.
//!
//! One stage (network, seed, three machines) serves all tests of this program, one test at a
//! time; each brings up control planes of its own on freshly imaged machines. What takes too long
//! for every run (all orders of booting, each with a late machine) runs with `SEEDBED_SOAK=1`,
//! which `make soak` sets.
#![allow(
    clippy::disallowed_methods,
    reason = "tests of real machines wait for them"
)]

#[path = "../support/audit.rs"]
mod audit;
#[path = "../support/kstatus.rs"]
mod kstatus;
#[path = "../testbed/mod.rs"]
mod testbed;
#[path = "../support/user_data.rs"]
mod user_data;

mod any_order;
mod bring_up;
mod cluster;
mod converged;
mod deletion;
mod etcd;
mod external_etcd;
mod kills;
mod membership;
mod node_pools;
mod operator_killed;
mod pods;
mod scan;
mod site;
mod watch;
mod worker;
mod writer;
