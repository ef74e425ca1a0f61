//! `make demo`: from an empty machine to a live control plane, on an embedded seed.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime::Runtime;

use super::progress::say;
use super::stage::{NAMESPACE, Stage, timed};
use super::state::StateDir;
use super::up;

/// Longest wait for machine configs.
const PUBLISH_LIMIT: Duration = Duration::from_secs(60);
/// Longest wait from power-on to a ready control plane.
const READY_LIMIT: Duration = Duration::from_secs(600);
const EXAMPLE: &str = "examples/ha.yaml";
const NAME: &str = "demo";

/// Runs the demo; with `once` everything is taken down at the end instead of staying up.
pub fn demo(state_name: &str, once: bool) -> Result<()> {
    StateDir::named(state_name)?.remove()?;
    let state = StateDir::named(state_name)?;
    up::until_interrupted(&state, || show(&state))?;
    if !once {
        say("everything stays up; Ctrl-C takes it down");
        Runtime::new()?.block_on(async { anyhow::Ok(up::interrupted()?.await) })?;
    }
    state.remove()
}

fn show(state: &StateDir) -> Result<()> {
    let stage = timed("seed cluster and operator", || {
        let stage = Stage::start(state)?;
        stage.operator("seedbed-0")?;
        Ok(stage)
    })?;
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join(EXAMPLE);
    say(&format!("kubectl apply -f {EXAMPLE}"));
    timed("machine configs published", || {
        stage.kubectl(&[
            "apply",
            "-f",
            example.to_str().context("the path is not UTF-8")?,
        ])?;
        stage.wait_for_condition(NAME, "MachineConfigsPublished", PUBLISH_LIMIT)
    })?;
    let inventory = stage.inventory(NAME)?;
    stage.load_balancer(Ipv4Addr::new(198, 18, 0, 10), &inventory)?;
    timed(
        "from power-on of three machines to a ready control plane",
        || {
            for (name, address) in &inventory {
                stage.machine(NAME, name, *address)?.boot()?;
            }
            stage.wait_for_condition(NAME, "Ready", READY_LIMIT)
        },
    )?;
    println!(
        "{}",
        stage.kubectl(&["-n", NAMESPACE, "get", "controlplanes,etcdclusters"])?
    );
    println!(
        "{}",
        stage.target(NAME, &["get", "nodes,pods", "-A", "-o", "wide"])?
    );
    Ok(())
}
