//! The whole stage: a seed and the operator on one network with machines that boot from the
//! Secrets. Used by the demo, the end-to-end tests and the benchmarks.
//!
//! The operator runs inside the seed's network namespace, where the machines are and nothing else
//! can be reached.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::loadbalancer::LoadBalancer;
use super::machine::Machine;
use super::network::Network;
use super::process::{Process, Spawn};
use super::progress::{self, say};
use super::rootfs::{self, Rootfs, Software};
use super::seed::{Options, Seed};
use super::state::StateDir;

/// Where the seed listens and the operator runs.
const SEED: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(200);
/// Namespace of the ControlPlanes.
pub const NAMESPACE: &str = "clusters";
/// Namespace of the operator.
const OPERATOR_NAMESPACE: &str = "seedbed-system";

/// A running stage. It goes away with its state folder.
pub struct Stage {
    pub state: StateDir,
    pub network: Network,
    pub seed: Seed,
    rootfs: Rootfs,
    program: PathBuf,
}

/// A machine of a ControlPlane: name and address.
pub type Inventory = Vec<(String, Ipv4Addr)>;

impl Stage {
    /// Builds what is missing, and starts network and seed with the CustomResourceDefinitions.
    pub fn start(state: &StateDir) -> Result<Self> {
        let program = program()?;
        let rootfs = rootfs::prepare(&Software::built()?)?;
        let network = Network::create(state)?;
        let netns = network.attach("seed", SEED)?;
        let options = Options {
            listen: IpAddr::V4(SEED),
            netns: Some(netns),
            ..Options::default()
        };
        let seed = Seed::start_blocking(state, &options)?;
        let stage = Self {
            state: state.clone(),
            network,
            seed,
            rootfs,
            program,
        };
        stage.install()?;
        Ok(stage)
    }

    /// The definitions and the namespaces.
    fn install(&self) -> Result<()> {
        let crds = self.state.join("crds.yaml");
        std::fs::write(
            &crds,
            progress::output(Command::new(&self.program).arg("crds"))?,
        )?;
        self.kubectl(&["apply", "-f", &path(&crds)?])?;
        let established = "--for=condition=Established";
        self.kubectl(&["wait", established, "--timeout=60s", "-f", &path(&crds)?])?;
        for namespace in [NAMESPACE, OPERATOR_NAMESPACE] {
            self.kubectl(&["create", "namespace", namespace])?;
        }
        Ok(())
    }

    /// Starts one replica of the operator.
    pub fn operator(&self, replica: &str) -> Result<Process> {
        let mut command = Command::new(&self.program);
        command
            .arg("operator")
            .args(["--watch-namespaces", NAMESPACE])
            .args(["--replica-name", replica])
            .args(["--health-address", "127.0.0.1:0"])
            .env("KUBECONFIG", self.seed.admin_kubeconfig());
        let how = Spawn {
            netns: self.seed.netns().map(str::to_owned),
            ..Spawn::default()
        };
        Process::spawn(&self.state, replica, &command, &how)
    }

    /// Runs kubectl on the seed as admin.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        progress::output(self.seed.kubectl()?.args(arguments))
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
        let user_data = self.user_data(control_plane, name)?;
        let machine = Machine::create(
            &self.state,
            &self.network,
            &self.rootfs,
            name,
            address,
            &user_data,
        )?;
        let [first, second, _, last] = address.octets();
        let pods = Ipv4Addr::new(first, second, 64 + last - 10, 0);
        self.network
            .route_pods(ipnet::Ipv4Net::new(pods, 24)?, address)?;
        Ok(machine)
    }

    /// Starts the load balancer at `endpoint` in front of all machines.
    pub fn load_balancer(&self, endpoint: Ipv4Addr, machines: &Inventory) -> Result<LoadBalancer> {
        LoadBalancer::start(&self.state, &self.network, endpoint, 6443, machines)
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
        let mut kubectl = self.seed.kubectl()?;
        kubectl.env("KUBECONFIG", kubeconfig).args(arguments);
        progress::output(&mut kubectl)
    }
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
fn program() -> Result<PathBuf> {
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

fn path(path: &Path) -> Result<String> {
    Ok(path.to_str().context("the path is not UTF-8")?.to_owned())
}

/// Says how long something took.
pub fn timed<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    let done = work()?;
    say(&format!("{what}: {:.1} s", began.elapsed().as_secs_f64()));
    Ok(done)
}
