//! Real etcd under the real operator, and things that break: the catalogue of faults by number, and
//! random walks through it.
//!
//! etcd 3.6 and 3.7 run in network namespaces, on machines that run nothing else (`host`); each
//! scenario has an operator and a ControlPlane of its own on a shared seed, and clients that write
//! and read throughout (`checker`), under rules that must hold at every moment (`sight`).
//!
//! `SEEDBED_LIVE=12,13` runs only these numbers of the catalogue, `SEEDBED_LIVE_SEED=7` repeats a
//! walk, `UPDATE=1` writes the measured table to docs/reliability.md.
#![allow(
    clippy::disallowed_methods,
    reason = "tests of real processes wait for them"
)]

#[path = "support/audit.rs"]
mod audit;
#[path = "support/cloud_init.rs"]
mod cloud_init;
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

#[path = "etcd_live/catalogue.rs"]
mod catalogue;
#[path = "etcd_live/checker.rs"]
mod checker;
#[path = "etcd_live/host.rs"]
mod host;
#[path = "etcd_live/journal.rs"]
mod journal;
#[path = "etcd_live/proxy.rs"]
mod proxy;
#[path = "etcd_live/runs.rs"]
mod runs;
#[path = "etcd_live/scenarios/mod.rs"]
mod scenarios;
#[path = "etcd_live/sight.rs"]
mod sight;
#[path = "etcd_live/table.rs"]
mod table;
#[path = "etcd_live/trial.rs"]
mod trial;
#[path = "etcd_live/walks.rs"]
mod walks;

#[test]
fn the_catalogue() {
    runs::catalogue();
}
