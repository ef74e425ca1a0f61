//! The commands a developer can use by hand.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Parser, Subcommand};

use super::progress::say;
use super::seed_access::Access;
use super::state::{self, StateDir};
use super::{Component, bench, build, cache, demo, machine, process, up};

/// Processes that are machines have names of this form in the records and logs.
const MACHINE: &str = "machine-";

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
    Up {
        /// Also boot this many empty machines (m-1, m-2, ...), on one network with the seed.
        #[arg(long, default_value_t = 0)]
        machines: u8,
    },
    /// Stop everything and remove the state folder.
    Down {
        /// Also what interrupted tests left behind: every testbed that nobody works on.
        #[arg(long)]
        all: bool,
    },
    /// What runs.
    Status,
    /// Run a shell (or a command) as root in a machine.
    Shell {
        machine: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Print a log: of a process, of a machine's console, or of a machine's unit
    /// (MACHINE/UNIT). Without a name, list the logs.
    Logs { log: Option<String> },
    /// Run kubectl on the seed, as admin.
    #[command(disable_help_flag = true)]
    Kubectl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Print the cache folder and the state folder.
    Paths,
    /// Show the main job: a seed, the operator, three machines, a live control plane.
    Demo {
        /// Take everything down at the end instead of staying up.
        #[arg(long)]
        once: bool,
    },
    /// Measure how fast, frugal and small Seedbed is (with --release).
    Bench(bench::Arguments),
}

/// Runs the command on the command line.
pub fn run() -> Result<()> {
    let Arguments { name, command } = Arguments::parse();
    match command {
        Action::Build { components } => build_all(&components),
        Action::Up { machines } => {
            up::up(&name, machines)?;
            status(&name)
        }
        Action::Down { all: false } => down(&name),
        Action::Down { all: true } => down_all(),
        Action::Shell { machine, command } => shell(&name, &machine, &command),
        Action::Status => status(&name),
        Action::Logs { log } => logs(&name, log.as_deref()),
        Action::Kubectl { arguments } => kubectl(&name, &arguments),
        Action::Paths => paths(&name),
        Action::Demo { once } => demo::demo(&name, once),
        Action::Bench(arguments) => bench::bench(&arguments),
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

fn down(name: &str) -> Result<()> {
    if StateDir::existing(name)?.is_none() {
        say(&format!("there is no testbed {name:?}"));
        return Ok(());
    }
    StateDir::named(name)?.remove()
}

fn down_all() -> Result<()> {
    let mut result = Ok(());
    for name in state::names()? {
        // One that cannot be cleaned up does not keep the others.
        if let Err(e) = down(&name) {
            say(&format!("{name}: {e:#}"));
            result = Err(anyhow!("not everything is down"));
        }
    }
    result
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
        println!("seed {} is {ready}", seed.server());
        let kubeconfig = seed.admin_kubeconfig();
        match seed.netns() {
            None => println!("export KUBECONFIG={}", kubeconfig.display()),
            // Nothing outside of the namespace can reach it.
            Some(netns) => println!(
                "nsenter --net=/run/netns/{netns} env KUBECONFIG={} bash",
                kubeconfig.display()
            ),
        }
    }
    let others: Vec<String> = state::names()?.into_iter().filter(|n| n != name).collect();
    if !others.is_empty() {
        println!("other testbeds: {}", others.join(" "));
    }
    Ok(())
}

fn logs(name: &str, log: Option<&str>) -> Result<()> {
    let state = existing(name)?;
    let Some(log) = log else {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(state.join("logs"))? {
            let name = entry?
                .path()
                .file_stem()
                .unwrap_or_default()
                .display()
                .to_string();
            names.push(
                name.strip_prefix(MACHINE)
                    .map_or(name.clone(), str::to_owned),
            );
        }
        names.sort();
        names.iter().for_each(|name| println!("{name}"));
        return Ok(());
    };
    if let Some((machine, unit)) = log.split_once('/') {
        let journal = state
            .join("machines")
            .join(machine)
            .join("root/var/log/journal");
        if !journal.is_dir() {
            bail!(
                "no machine {machine:?} with a journal ({})",
                journal.display()
            );
        }
        let mut journalctl = Command::new("journalctl");
        journalctl
            .arg("--no-pager")
            .arg("--directory")
            .arg(journal)
            .args(["--unit", unit]);
        return Err(journalctl.exec()).context("cannot run journalctl");
    }
    let file = [log.to_owned(), format!("{MACHINE}{log}")].map(|name| state.log(&name));
    let Some(file) = file.iter().find(|file| file.exists()) else {
        bail!("no log of {log:?} in {}", state.join("logs").display());
    };
    let mut file = std::fs::File::open(file)?;
    std::io::copy(&mut file, &mut std::io::stdout())?;
    Ok(())
}

fn shell(name: &str, machine: &str, command: &[String]) -> Result<()> {
    let state = existing(name)?;
    let record = format!("{MACHINE}{machine}");
    let all = process::recorded(&state)?;
    let Some(process) = all.iter().find(|process| process.name == record) else {
        let names: Vec<_> = all
            .iter()
            .filter_map(|p| p.name.strip_prefix(MACHINE))
            .collect();
        bail!("no machine {machine:?}; there is: {}", names.join(" "));
    };
    let mut argv: Vec<&str> = command.iter().map(String::as_str).collect();
    if argv.is_empty() {
        argv = vec!["bash", "--login"];
    }
    Err(machine::command_inside(process, &argv)?.exec()).context("cannot enter the machine")
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
