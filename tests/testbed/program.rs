//! The testbed as a program: `cargo run --example testbed -- help`.

#[path = "mod.rs"]
mod testbed;

fn main() {}
