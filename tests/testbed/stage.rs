//! The whole stage: a seed and the operator on one network with machines that boot from the
//! Secrets. Used by the demo, the end-to-end tests and the benchmarks.
//!
//! The operator runs inside the seed's network namespace, where the machines are and nothing else
//! can be reached.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ipnet::Ipv4Net;
use serde_json::Value;

use super::loadbalancer::LoadBalancer;
use super::machine::Machine;
use super::netns;
use super::network::Network;
use super::progress::{self, say};
use super::release::{Release, Replica};
use super::rootfs::{self, Rootfs, Software};
use super::seed::{Options, Seed};
use super::seed_access::Access;
use super::state::StateDir;

/// Where the seed listens and the operator runs.
const SEED: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(200);
/// Namespace of the ControlPlanes.
pub const NAMESPACE: &str = "clusters";

/// A running stage with a seed of its own. It goes away with its state folder.
pub struct Stage {
    pub seed: Seed,
    place: Place,
}

/// A seed, embedded or somebody's own, with the chart installed, and machines if there can be any.
pub struct Place {
    pub state: StateDir,
    access: Access,
    pub release: Release,
    program: PathBuf,
    ground: Option<Ground>,
}

/// What machines stand on.
struct Ground {
    network: Network,
    rootfs: Rootfs,
    // The pods of each machine.
    pod_routes: Mutex<BTreeMap<Ipv4Addr, Ipv4Net>>,
}

/// A machine of a ControlPlane: name and address.
pub type Inventory = Vec<(String, Ipv4Addr)>;

impl Deref for Stage {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Stage {
    /// Builds what is missing, starts network and seed, and installs the chart.
    pub fn start(state: &StateDir) -> Result<Self> {
        Self::start_with(state, Options::default())
    }

    /// The same; the seed writes down every request (`Seed::audit_log`).
    pub fn start_audited(state: &StateDir) -> Result<Self> {
        let options = Options {
            audit_log: true,
            ..Options::default()
        };
        Self::start_with(state, options)
    }

    /// The same with a seed that can be a target: machines can join it.
    pub fn start_joinable(state: &StateDir) -> Result<Self> {
        let options = Options {
            joinable: true,
            ..Options::default()
        };
        Self::start_with(state, options)
    }

    fn start_with(state: &StateDir, options: Options) -> Result<Self> {
        let ground = Ground::prepare(state)?;
        let netns = ground.network.attach("seed", SEED)?;
        let options = Options {
            listen: IpAddr::V4(SEED),
            netns: Some(netns),
            ..options
        };
        let seed = Seed::start_blocking(state, &options)?;
        let place = Place::furnish((*seed).clone(), Some(ground), &[])?;
        Ok(Self { seed, place })
    }

    /// A seed alone, at an address that this network namespace has: no machines.
    pub fn without_machines(state: &StateDir) -> Result<Self> {
        let options = Options {
            listen: IpAddr::V4(SEED),
            ..Options::default()
        };
        let seed = Seed::start_blocking(state, &options)?;
        let place = Place::furnish((*seed).clone(), None, &[])?;
        Ok(Self { seed, place })
    }
}

impl Ground {
    fn prepare(state: &StateDir) -> Result<Self> {
        Ok(Self {
            rootfs: rootfs::prepare(&Software::built()?)?,
            network: Network::create(state)?,
            pod_routes: Mutex::default(),
        })
    }
}

impl Place {
    /// The seed of somebody's own kubeconfig. What is installed there goes away with the state
    /// folder. The operator runs on this machine, which is plugged into the machines' network.
    pub fn on(access: Access, machines: bool) -> Result<Self> {
        let ground = machines
            .then(|| Ground::prepare(access.state()))
            .transpose()?;
        if let Some(ground) = &ground {
            ground.network.attach_host(SEED)?;
        }
        Release::remove_later(&access, &[NAMESPACE])?;
        Self::furnish(access, ground, &["--set", "replicas=0"])
    }

    /// Makes the namespace and installs the chart.
    fn furnish(access: Access, ground: Option<Ground>, values: &[&str]) -> Result<Self> {
        let program = program()?;
        progress::output(access.kubectl()?.args(["create", "namespace", NAMESPACE]))?;
        let release = Release::install(&access, &[NAMESPACE], values)?;
        let established = ["wait", "--for=condition=Established", "--timeout=60s"];
        progress::output(access.kubectl()?.args(established).args(["crd", "--all"]))?;
        Ok(Self {
            state: access.state().clone(),
            access,
            release,
            program,
            ground,
        })
    }

    /// Talking to the seed.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Whether machines can be booted here.
    pub fn has_machines(&self) -> bool {
        self.ground.is_some()
    }

    fn ground(&self) -> Result<&Ground> {
        self.ground
            .as_ref()
            .context("there are no machines here: that needs root")
    }

    /// Starts one replica of the operator, as the chart's Deployment would.
    pub fn operator(&self, replica: &str) -> Result<Replica> {
        self.release.start(&self.program, replica)
    }

    /// Runs a command of the program itself on the seed; also one that answers by its exit code.
    pub fn seedbed(&self, arguments: &[&str]) -> Result<String> {
        let mut command = netns::command(self.access.netns(), &self.program);
        command
            .env("KUBECONFIG", self.access.admin_kubeconfig())
            .args(arguments);
        Ok(String::from_utf8(command.output()?.stdout)?)
    }

    /// Runs kubectl on the seed as admin.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        progress::output(self.access.kubectl()?.args(arguments))
    }

    /// The machines of a ControlPlane as the seed has it.
    pub fn inventory(&self, control_plane: &str) -> Result<Inventory> {
        let object = self.get("controlplane", control_plane)?;
        let machines = object["spec"]["machines"]
            .as_array()
            .context("no machines")?;
        machines
            .iter()
            .map(|machine| {
                let field = |name: &str| machine[name].as_str().context("a machine lacks a field");
                Ok((field("name")?.to_owned(), field("address")?.parse()?))
            })
            .collect()
    }

    /// An object in [`NAMESPACE`].
    pub fn get(&self, kind: &str, name: &str) -> Result<Value> {
        let text = self.kubectl(&["-n", NAMESPACE, "get", kind, name, "-o", "json"])?;
        Ok(serde_json::from_str(&text)?)
    }

    /// The user data of a machine, as the Secret has it.
    pub fn user_data(&self, control_plane: &str, machine: &str) -> Result<Vec<u8>> {
        let secret = self.get("secret", &format!("{control_plane}-{machine}"))?;
        let value = secret["data"]["value"]
            .as_str()
            .context("the Secret has no value")?;
        Ok(BASE64.decode(value)?)
    }

    /// Makes a machine that boots from its Secret, with its pods reachable for the others. It is
    /// off.
    pub fn machine(&self, control_plane: &str, name: &str, address: Ipv4Addr) -> Result<Machine> {
        self.machine_from(name, address, &self.user_data(control_plane, name)?)
    }

    /// The same with any user data.
    pub fn machine_from(&self, name: &str, address: Ipv4Addr, user_data: &[u8]) -> Result<Machine> {
        let Ground {
            network,
            rootfs,
            pod_routes,
        } = self.ground()?;
        let machine = Machine::create(&self.state, network, rootfs, name, address, user_data)?;
        let mut routes = pod_routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.insert(address, pods_of(address)?);
        // All of them: this machine knows none of the others' yet.
        for (via, pods) in &*routes {
            network.route_pods(*pods, *via)?;
        }
        Ok(machine)
    }

    /// Starts the load balancer at `endpoint` in front of all machines.
    pub fn load_balancer(&self, endpoint: Ipv4Addr, machines: &Inventory) -> Result<LoadBalancer> {
        LoadBalancer::start(
            &self.state,
            &self.ground()?.network,
            endpoint,
            6443,
            machines,
        )
    }

    /// Waits until a condition of a ControlPlane is true; the error is its whole status.
    pub fn wait_for_condition(&self, name: &str, condition: &str, limit: Duration) -> Result<()> {
        wait(limit, || {
            let object = self.get("controlplane", name)?;
            if condition_of(&object, condition) == Some("True") {
                return Ok(());
            }
            bail!("{name} is not {condition}: {:#}", object["status"])
        })
    }

    /// Writes the target's kubeconfig to the state folder.
    pub fn target_kubeconfig(&self, control_plane: &str) -> Result<PathBuf> {
        let secret = self.get("secret", &format!("{control_plane}-kubeconfig"))?;
        let value = secret["data"]["value"]
            .as_str()
            .context("the Secret has no value")?;
        let file = self.state.join(format!("{control_plane}.kubeconfig"));
        std::fs::write(&file, BASE64.decode(value)?)?;
        Ok(file)
    }

    /// Runs kubectl on the target through its kubeconfig Secret.
    pub fn target(&self, control_plane: &str, arguments: &[&str]) -> Result<String> {
        let kubeconfig = self.target_kubeconfig(control_plane)?;
        let mut kubectl = self.access.kubectl()?;
        kubectl.env("KUBECONFIG", kubeconfig).args(arguments);
        progress::output(&mut kubectl)
    }
}

/// The addresses of the pods on the machine at this address, as `examples/ha.yaml` hands them out.
pub fn pods_of(machine: Ipv4Addr) -> Result<Ipv4Net> {
    let [first, second, _, last] = machine.octets();
    let number = last
        .checked_sub(10)
        .filter(|number| *number < 64)
        .with_context(|| format!("{machine}: the last number has to be 10 to 73"))?;
    Ok(Ipv4Net::new(
        Ipv4Addr::new(first, second, 64 + number, 0),
        24,
    )?)
}

/// A condition's status.
pub fn condition_of<'a>(object: &'a Value, condition: &str) -> Option<&'a str> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|found| found["type"] == condition)?["status"].as_str()
}

/// Tries until it succeeds or `limit` has passed; then the last error counts.
pub fn wait<T>(limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(error) if began.elapsed() > limit => {
                return Err(error).with_context(|| format!("gave up after {limit:?}"));
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// The operator's program: beside this one, where Cargo puts it.
pub fn program() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own
        .parent()
        .and_then(Path::parent)
        .context("no target folder")?;
    let program = folder.join("seedbed");
    if !program.exists() {
        bail!(
            "{} is missing; run cargo build --bins first",
            program.display()
        );
    }
    Ok(program)
}

/// Says how long something took.
pub fn timed<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    let done = work()?;
    say(&format!("{what}: {:.1} s", began.elapsed().as_secs_f64()));
    Ok(done)
}
