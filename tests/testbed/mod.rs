//! The testbed: real parts of Kubernetes on one machine, for tests, benchmarks and the demo.
//!
//! It answers: where are the real binaries (built from pinned Go modules when missing), how does
//! a real seed cluster start here, and what still runs on this machine and how does it go away.
//! It must never leave a process, mount or network namespace behind, never kill a process that it
//! did not record, and never contain anything that Seedbed itself needs: it only observes Seedbed
//! from outside.
//!
//! Used in two ways: as the program `cargo run --example testbed` (see `cli`), and as a module of
//! a test, with `#[path = "testbed/mod.rs"] mod testbed;`.
//!
//! A new binary goes into `build` (one more `Component`), a new Debian package into `packages`,
//! anything that runs goes through `process::Process` so that it is recorded and stopped.
#![allow(
    dead_code,
    unused_imports,
    reason = "every test that includes this module uses a part of it"
)]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the testbed waits for real processes and is a program of its own"
)]

pub mod bench;
pub mod build;
pub mod cache;
pub mod cli;
pub mod demo;
pub mod images;
mod janitor;
pub mod loadbalancer;
pub mod machine;
pub mod netns;
pub mod network;
pub mod packages;
pub mod process;
pub mod progress;
pub mod release;
pub mod rootfs;
pub mod seed;
pub mod seed_access;
mod seed_pki;
pub mod stage;
pub mod state;
pub mod up;

pub use build::Component;
pub use cache::cache_dir;
pub use process::Process;
pub use seed::Seed;
pub use state::StateDir;
