//! `make demo`: the main job, from nothing to a live control plane, on an embedded seed or on the
//! one that KUBECONFIG names.

use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::runtime::Runtime;

use super::progress::{self, say};
use super::release::Replica;
use super::seed_access::Access;
use super::stage::{NAMESPACE, Place, Stage, timed};
use super::state::StateDir;
use super::{Component, build, up};

/// Longest wait for machine configs.
const PUBLISH_LIMIT: Duration = Duration::from_secs(120);
/// Longest wait from power-on to a ready control plane.
const READY_LIMIT: Duration = Duration::from_secs(600);
const EXAMPLE: &str = "examples/ha.yaml";
const CONTROL_PLANE: &str = "demo";
const ENDPOINT: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 10);
/// Set for the second run of this program, inside a network of its own.
const CONTAINED: &str = "SEEDBED_DEMO_CONTAINED";

/// Where the demo can run.
enum Site {
    /// An embedded seed on a network with machines.
    Machines,
    /// An embedded seed; without root there are no machines.
    SeedOnly,
    /// The seed of this kubeconfig, with machines if this user is root.
    Existing { kubeconfig: String, machines: bool },
}

/// Runs the demo; with `once` everything is taken down at the end instead of staying up.
pub fn demo(name: &str, once: bool) -> Result<()> {
    let site = site()?;
    if matches!(site, Site::SeedOnly) && std::env::var_os(CONTAINED).is_none() {
        return contain();
    }
    StateDir::named(name)?.remove()?;
    let state = StateDir::named(name)?;
    up::until_interrupted(&state, || show(&state, &site))?;
    if !once {
        say("everything stays up; Ctrl-C takes it down");
        Runtime::new()?.block_on(async { anyhow::Ok(up::interrupted()?.await) })?;
    }
    state.remove()
}

fn site() -> Result<Site> {
    let root = progress::output(Command::new("id").arg("-u"))?.trim() == "0";
    let kubeconfig = std::env::var("KUBECONFIG")
        .ok()
        .filter(|path| !path.is_empty());
    Ok(match kubeconfig {
        Some(kubeconfig) => Site::Existing {
            kubeconfig,
            machines: root,
        },
        None if root && std::env::var_os(CONTAINED).is_none() => Site::Machines,
        None => Site::SeedOnly,
    })
}

/// Runs this program again in a user and a network namespace, where an ordinary user may give the
/// loopback device the seed's address and the operator reaches nobody else.
fn contain() -> Result<()> {
    for component in [Component::Kubernetes, Component::Etcd, Component::Helm] {
        build::ensure(component)?;
    }
    let setup = "ip link set lo up && ip addr add 198.18.0.2/15 dev lo && exec \"$0\" \"$@\"";
    let error = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c", setup])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(CONTAINED, "1")
        .exec();
    Err(error).context("cannot run unshare (package util-linux)")
}

fn show(state: &StateDir, site: &Site) -> Result<()> {
    let began = "seed cluster, chart and operator";
    match site {
        Site::Machines | Site::SeedOnly => {
            let (stage, _operator) = timed(began, || {
                let stage = match site {
                    Site::Machines => Stage::start(state)?,
                    _ => Stage::without_machines(state)?,
                };
                let operator = stage.operator("seedbed-0")?;
                Ok((stage, operator))
            })?;
            main_job(&stage)
        }
        Site::Existing {
            kubeconfig,
            machines,
        } => {
            say(&format!("using the seed of KUBECONFIG={kubeconfig}"));
            let (place, _operator): (Place, Replica) = timed(began, || {
                let place = Place::on(Access::existing(state, kubeconfig)?, *machines)?;
                let operator = place.operator("seedbed-0")?;
                Ok((place, operator))
            })?;
            main_job(&place)
        }
    }
}

/// Apply, boot, ready.
fn main_job(place: &Place) -> Result<()> {
    say(&format!("kubectl apply -f {EXAMPLE}"));
    timed("kubectl apply to published machine configs", || {
        place.kubectl(&["apply", "-f", &example()?])?;
        place.wait_for_condition(CONTROL_PLANE, "MachineConfigsPublished", PUBLISH_LIMIT)
    })?;
    if place.has_machines() {
        boot(place)?;
    } else {
        say("no machines are booted: that needs root (try: sudo make demo)");
    }
    tell(place)
}

/// Boots the three machines, all at once, each from its Secret.
fn boot(place: &Place) -> Result<()> {
    let inventory = place.inventory(CONTROL_PLANE)?;
    place.load_balancer(ENDPOINT, &inventory)?;
    timed(
        "power-on of three machines to a ready control plane",
        || {
            for (name, address) in &inventory {
                place.machine(CONTROL_PLANE, name, *address)?.boot()?;
            }
            place.wait_for_condition(CONTROL_PLANE, "Ready", READY_LIMIT)
        },
    )
}

/// `seedbed status`, and how to reach both clusters.
fn tell(place: &Place) -> Result<()> {
    println!("\n$ seedbed status {CONTROL_PLANE} -n {NAMESPACE}");
    println!(
        "{}",
        place.seedbed(&["status", CONTROL_PLANE, "-n", NAMESPACE])?
    );
    let seed = place.access().admin_kubeconfig();
    println!(
        "The seed:    {}",
        reach(place, &seed, "get controlplanes -A")
    );
    if place.has_machines() {
        println!(
            "{}",
            place.target(CONTROL_PLANE, &["get", "nodes", "-o", "wide"])?
        );
        let target = place.target_kubeconfig(CONTROL_PLANE)?;
        println!("The cluster: {}", reach(place, &target, "get pods -A"));
        println!("A machine:   {} shell cp-1", own_command()?);
    }
    println!("Logs:        {} logs seedbed-0\n", own_command()?);
    Ok(())
}

/// A command for another terminal. What runs in a namespace is reached from there only.
fn reach(place: &Place, kubeconfig: &Path, arguments: &str) -> String {
    let kubectl = build::program(Component::Kubernetes, "kubectl").unwrap_or("kubectl".into());
    let inside = match place.access().netns() {
        Some(name) => format!("nsenter --net=/run/netns/{name} "),
        None if std::env::var_os(CONTAINED).is_some() => {
            let own = std::process::id();
            format!("nsenter --target {own} --user --net --preserve-credentials ")
        }
        None => String::new(),
    };
    format!(
        "{inside}{} --kubeconfig {} {arguments}",
        kubectl.display(),
        kubeconfig.display()
    )
}

fn own_command() -> Result<String> {
    let name = std::env::args().skip_while(|arg| arg != "--name").nth(1);
    let own = std::env::current_exe()?;
    Ok(format!(
        "{} --name {}",
        own.display(),
        name.as_deref().unwrap_or("default")
    ))
}

fn example() -> Result<String> {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(EXAMPLE);
    if !path.exists() {
        bail!(
            "{} is missing; run the demo from a checkout",
            path.display()
        );
    }
    Ok(path.to_str().context("the path is not UTF-8")?.to_owned())
}
