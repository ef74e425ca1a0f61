//! The testbed as a program: `cargo run --example testbed -- help`.

use std::process::ExitCode;

#[path = "mod.rs"]
mod testbed;

fn main() -> ExitCode {
    match testbed::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            testbed::progress::say(&format!("error: {e:#}"));
            ExitCode::FAILURE
        }
    }
}
