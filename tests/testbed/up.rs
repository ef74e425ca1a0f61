//! Bringing up a testbed that outlives the command that started it.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::machine::Machine;
use super::network::Network;
use super::process;
use super::progress::Progress;
use super::rootfs::{self, Software};
use super::seed::{Options, Seed};
use super::state::StateDir;

/// The most machines that `up` starts: more would not fit into the memory of a usual computer.
pub const MACHINES_MAX: u8 = 9;

/// Where the seed listens when there are machines: on their switch.
const SEED: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);
const BOOT_LIMIT: Duration = Duration::from_secs(300);
/// What a machine is told that nobody has a use for yet.
const EMPTY_USER_DATA: &[u8] = b"#cloud-config\n{}\n";

/// Starts a seed, and with `machines` also a network with that many empty machines, `m-1` at
/// 198.18.0.11 and so on. Whatever fails, or an interrupt, leaves nothing running.
pub fn up(name: &str, machines: u8) -> Result<()> {
    if machines > MACHINES_MAX {
        bail!("--machines {machines}: at most {MACHINES_MAX}");
    }
    let state = StateDir::named(name)?;
    if process::recorded(&state)?.iter().any(|p| p.running) {
        bail!("the testbed {name:?} is up; `testbed down` ends it");
    }
    // What a crash or a reboot left behind, and old logs.
    state.remove()?;
    drop(state);
    let state = StateDir::named(name)?;
    until_interrupted(&state, || {
        if machines == 0 {
            return Seed::start_blocking(&state, &Options::default()).map(drop);
        }
        with_machines(&state, machines)
    })
}

fn with_machines(state: &StateDir, count: u8) -> Result<()> {
    let rootfs = rootfs::prepare(&Software::built()?)?;
    let network = Network::create(state)?;
    let netns = network.attach("seed", SEED)?;
    let progress = Progress::start(&format!("boot {count} machines"));
    let machines = (1..=count)
        .map(|number| {
            let name = format!("m-{number}");
            let address = Ipv4Addr::new(198, 18, 0, 10 + number);
            let machine =
                Machine::create(state, &network, &rootfs, &name, address, EMPTY_USER_DATA)?;
            machine.boot()?;
            Ok(machine)
        })
        .collect::<Result<Vec<_>>>()?;
    let options = Options {
        listen: IpAddr::V4(SEED),
        netns: Some(netns),
        ..Options::default()
    };
    Seed::start_blocking(state, &options)?;
    machines
        .iter()
        .try_for_each(|machine| machine.wait_booted(BOOT_LIMIT))?;
    progress.done();
    Ok(())
}

/// Does blocking `work` on `state`; if it fails or this program is asked to end meanwhile, takes
/// everything down again.
pub fn until_interrupted(state: &StateDir, work: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    let runtime = Runtime::new()?;
    let result = std::thread::scope(|scope| {
        let (finished, outcome) = tokio::sync::oneshot::channel();
        scope.spawn(move || {
            // The receiver is gone only after an interrupt, when the outcome no longer matters.
            let _ = finished.send(work());
        });
        let result = runtime.block_on(async {
            let interrupt = interrupted()?;
            tokio::select! {
                result = outcome => result.context("the work panicked").flatten(),
                signal = interrupt => Err(signal),
            }
        });
        if result.is_err() {
            // Ends what the work waits for, so that it fails soon and its thread ends.
            process::refuse_new();
            state.down()?;
        }
        result
    });
    if result.is_err() {
        // What was under way during the first time.
        state.down()?;
    }
    result.context("nothing is left running")
}

/// Ready when this program is asked to end. From this call on, such a request does nothing else.
pub fn interrupted() -> Result<impl Future<Output = Error>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        anyhow!("interrupted")
    })
}
