//! The network of a run: a bridge in a namespace of its own as the switch, and one namespace per
//! machine, for the load balancer and for the seed side, each with `eth0` on that switch.
//!
//! Addresses come from 198.18.0.0/15, the range for benchmarks (RFC 2544), so they clash with no
//! real network. There is no default route and no link to any other network: nothing that runs
//! here can reach the outside. Everything is named after the run and recorded for clean-up before
//! it is made.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::Path,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use ipnet::Ipv4Net;

use super::{progress, state::StateDir};

/// The switch's own address; nothing listens there.
pub const SWITCH: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

const PREFIX: u8 = 15;
const SWITCH_NAME: &str = "switch";

/// A running network. Clones share it; it goes away with the state folder it was made for.
#[derive(Clone)]
pub struct Network {
    state: StateDir,
    attached: Arc<Mutex<BTreeMap<String, Ipv4Addr>>>,
}

impl Network {
    /// Makes the switch. Needs root.
    pub fn create(state: &StateDir) -> Result<Self> {
        let network = Self {
            state: state.clone(),
            attached: Arc::default(),
        };
        network.add_namespace(SWITCH_NAME)?;
        network.ip(
            SWITCH_NAME,
            "link add br0 type bridge forward_delay 0 stp_state 0",
        )?;
        network.ip(SWITCH_NAME, &format!("addr add {SWITCH}/{PREFIX} dev br0"))?;
        network.ip(SWITCH_NAME, "link set br0 up")?;
        Ok(network)
    }

    /// The full name of the namespace that [`Network::attach`] made for `name`, as
    /// `ip netns` and `netns::inside` take it.
    pub fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.state.name())
    }

    /// Plugs a new namespace with the given address into the switch; returns its full name.
    pub fn attach(&self, name: &str, address: Ipv4Addr) -> Result<String> {
        let range = Ipv4Net::new(SWITCH, PREFIX)?.trunc();
        ensure!(
            range.contains(&address) && address != SWITCH,
            "{name}: {address} is not a free address of {range}"
        );
        let port = {
            let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
            ensure!(!attached.contains_key(name), "{name} is attached already");
            if let Some((other, _)) = attached.iter().find(|(_, taken)| **taken == address) {
                anyhow::bail!("{name}: {other} has the address {address} already");
            }
            attached.insert(name.to_owned(), address);
            port(address)
        };
        self.add_namespace(name)?;
        let namespace = self.namespace(name);
        self.ip(
            SWITCH_NAME,
            &format!("link add {port} type veth peer name eth0 netns {namespace}"),
        )?;
        self.ip(SWITCH_NAME, &format!("link set {port} master br0 up"))?;
        self.ip(name, &format!("addr add {address}/{PREFIX} dev eth0"))?;
        self.ip(name, "link set eth0 up")?;
        Ok(namespace)
    }

    /// Plugs this machine itself into the switch, so that programs on it reach the machines. Nothing
    /// is forwarded: the machines reach this address and no other of this machine's networks.
    pub fn attach_host(&self, address: Ipv4Addr) -> Result<()> {
        let port = port(address);
        let namespace = self.namespace(SWITCH_NAME);
        let inside = format!("h{}", &port[1..]);
        self.state.undo_later(&["ip", "link", "delete", &inside])?;
        let host = |arguments: &str| {
            let mut ip = std::process::Command::new("ip");
            progress::output(ip.args(arguments.split(' '))).map(drop)
        };
        host(&format!(
            "link add {inside} type veth peer name {port} netns {namespace}"
        ))?;
        self.ip(SWITCH_NAME, &format!("link set {port} master br0 up"))?;
        host(&format!("addr add {address}/{PREFIX} dev {inside}"))?;
        host(&format!("link set {inside} up"))
    }

    /// Sends the pod addresses `pods` to the machine at `via`, from every namespace but the
    /// machine's own, as a cloud's route controller would.
    pub fn route_pods(&self, pods: Ipv4Net, via: Ipv4Addr) -> Result<()> {
        for (name, address) in self.attached() {
            if address != via {
                self.ip(&name, &format!("route replace {pods} via {via}"))?;
            }
        }
        Ok(())
    }

    /// Pulls the cable of `name`.
    pub fn link_down(&self, name: &str) -> Result<()> {
        self.ip(
            SWITCH_NAME,
            &format!("link set {} down", self.port_of(name)?),
        )
    }

    /// Plugs the cable of `name` in again.
    pub fn link_up(&self, name: &str) -> Result<()> {
        self.ip(SWITCH_NAME, &format!("link set {} up", self.port_of(name)?))
    }

    /// Delays everything sent to `name` by `delay`; zero ends that. Needs a kernel with netem, and
    /// fails where there is none.
    pub fn delay(&self, name: &str, delay: Duration) -> Result<()> {
        let port = self.port_of(name)?;
        let namespace = self.namespace(SWITCH_NAME);
        let mut tc = Command::new("tc");
        tc.args(["-n", &namespace, "qdisc"]);
        if delay.is_zero() {
            tc.args(["delete", "dev", &port, "root"]);
        } else {
            let delay = format!("{}ms", delay.as_millis());
            tc.args(["replace", "dev", &port, "root", "netem", "delay", &delay]);
        }
        progress::output(&mut tc).context("this kernel may lack netem (CONFIG_NET_SCH_NETEM)")?;
        Ok(())
    }

    /// Every attached name with its address.
    pub fn attached(&self) -> BTreeMap<String, Ipv4Addr> {
        self.attached
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn port_of(&self, name: &str) -> Result<String> {
        let attached = self.attached();
        let address = attached
            .get(name)
            .with_context(|| format!("{name} is not attached"))?;
        Ok(port(*address))
    }

    fn add_namespace(&self, name: &str) -> Result<()> {
        let full = self.namespace(name);
        ensure!(
            !Path::new("/run/netns").join(&full).exists(),
            "the network namespace {full} exists already: run `testbed down`"
        );
        self.state.undo_later(&["ip", "netns", "delete", &full])?;
        progress::output(Command::new("ip").args(["netns", "add", &full]))?;
        self.ip(name, "link set lo up")
    }

    fn ip(&self, name: &str, command: &str) -> Result<()> {
        let namespace = self.namespace(name);
        let mut ip = Command::new("ip");
        ip.args(["-n", &namespace]).args(command.split_whitespace());
        progress::output(&mut ip).map(drop)
    }
}

/// A CNI configuration (`/etc/cni/net.d/*.conflist`) that gives pods addresses out of `pods`, the
/// range of one machine: bridge, host-local, portmap. With [`Network::route_pods`] for each
/// machine, pods reach each other.
pub fn cni_conflist(pods: Ipv4Net) -> String {
    let configuration = serde_json::json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isDefaultGateway": true,
                "hairpinMode": true,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": pods.to_string()}]]},
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    format!("{configuration:#}\n")
}

// Interface names are limited to 15 characters; the host part of the address is unique.
fn port(address: Ipv4Addr) -> String {
    let [_, second, third, fourth] = address.octets();
    format!("p{second}-{third}-{fourth}")
}
