//! The commands a developer can use by hand.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use super::progress::say;
use super::seed::{Options, Seed};
use super::seed_access::Access;
use super::state::{self, StateDir};
use super::{Component, build, cache, process};

/// Real parts of Kubernetes on this machine: a seed cluster, and machines to boot.
#[derive(Parser)]
#[command(name = "testbed", max_term_width = 100)]
struct Arguments {
    /// Which testbed: each name is one of its own.
    #[arg(long, global = true, default_value = "default")]
    name: String,
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Build the real binaries that are missing (all, or only these).
    Build { components: Vec<Component> },
    /// Start a seed cluster; it stays until `down`.
    Up,
    /// Stop everything and remove the state folder.
    Down,
    /// What runs.
    Status,
    /// Print a log: of a process, or without a name the list of logs.
    Logs { process: Option<String> },
    /// Run kubectl on the seed, as admin.
    #[command(disable_help_flag = true)]
    Kubectl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Print the cache folder and the state folder.
    Paths,
}

/// Runs the command on the command line.
pub fn run() -> Result<()> {
    let Arguments { name, command } = Arguments::parse();
    match command {
        Action::Build { components } => build_all(&components),
        Action::Up => up(&name),
        Action::Down => down(&name),
        Action::Status => status(&name),
        Action::Logs { process } => logs(&name, process.as_deref()),
        Action::Kubectl { arguments } => kubectl(&name, &arguments),
        Action::Paths => paths(&name),
    }
}

fn build_all(components: &[Component]) -> Result<()> {
    let wanted = if components.is_empty() {
        &Component::ALL[..]
    } else {
        components
    };
    for component in wanted {
        println!("{}", build::ensure(*component)?.display());
    }
    Ok(())
}

fn up(name: &str) -> Result<()> {
    let state = StateDir::named(name)?;
    if process::recorded(&state)?.iter().any(|p| p.running) {
        bail!("the testbed {name:?} is up; `testbed down` ends it");
    }
    // What a crash or a reboot left behind, and old logs.
    state.remove()?;
    drop(state);
    let state = StateDir::named(name)?;
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = bring_up(&state) => result,
            signal = interrupted() => Err(signal),
        }
    });
    if let Err(e) = result {
        process::refuse_new();
        state.down()?;
        // Whatever is still under way only waits for something that has just been stopped.
        runtime.shutdown_background();
        return Err(e.context("nothing is left running"));
    }
    status(name)
}

async fn bring_up(state: &StateDir) -> Result<()> {
    Seed::start(state, Options::default()).await?;
    Ok(())
}

/// Returns when this program is asked to end.
pub async fn interrupted() -> anyhow::Error {
    use tokio::signal::unix::{SignalKind, signal};

    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return anyhow::anyhow!("cannot listen for signals");
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    anyhow::anyhow!("interrupted")
}

fn down(name: &str) -> Result<()> {
    if StateDir::existing(name)?.is_none() {
        say(&format!("there is no testbed {name:?}"));
        return Ok(());
    }
    StateDir::named(name)?.remove()
}

fn status(name: &str) -> Result<()> {
    let state = existing(name)?;
    for process in process::recorded(&state)? {
        let now = if process.running { "running" } else { "ended" };
        println!("{:<28} {:<8} pid {}", process.name, now, process.pid);
    }
    if let Some(seed) = Access::open(&state)? {
        let ready = if seed.is_ready() {
            "ready"
        } else {
            "not ready"
        };
        let place = seed
            .netns()
            .map(|n| format!(" in network namespace {n}"))
            .unwrap_or_default();
        println!("seed {} is {ready}{place}", seed.server());
        println!("export KUBECONFIG={}", seed.admin_kubeconfig().display());
    }
    let others: Vec<String> = state::names()?.into_iter().filter(|n| n != name).collect();
    if !others.is_empty() {
        println!("other testbeds: {}", others.join(" "));
    }
    Ok(())
}

fn logs(name: &str, process: Option<&str>) -> Result<()> {
    let state = existing(name)?;
    let Some(process) = process else {
        for entry in std::fs::read_dir(state.join("logs"))? {
            if let Some(log) = entry?.path().file_stem() {
                println!("{}", log.display());
            }
        }
        return Ok(());
    };
    let log = state.log(process);
    let mut file = std::fs::File::open(&log)
        .with_context(|| format!("no log of {process:?} ({})", log.display()))?;
    std::io::copy(&mut file, &mut std::io::stdout())?;
    Ok(())
}

fn kubectl(name: &str, arguments: &[String]) -> Result<()> {
    let state = existing(name)?;
    let seed = Access::open(&state)?.context("this testbed has no seed")?;
    let error = seed.kubectl()?.args(arguments).exec();
    Err(error).context("cannot run kubectl")
}

fn paths(name: &str) -> Result<()> {
    let cache = cache::cache_dir()?;
    println!("cache {}", cache.display());
    println!("state {}", cache.join("run").join(name).display());
    Ok(())
}

fn existing(name: &str) -> Result<StateDir> {
    StateDir::existing(name)?
        .with_context(|| format!("there is no testbed {name:?}; `testbed up` starts one"))
}
