//! One scenario: a ControlPlane of its own in a namespace of its own, with an operator, machines,
//! and a checker of its own.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use seedbed::crd::ControlPlane;
use serde_json::{Value, json};

use crate::checker::{Checker, Credentials, all_there};
use crate::host::{Host, Place};
use crate::journal::Journal;
use crate::operator::Operator;
use crate::operator_ground::{Ground, Space};
use crate::proxy::{Late, Proxy};
use crate::sight::Sight;
use crate::testbed::build::{self, Component};
use crate::user_data;

#[path = "waits.rs"]
mod waits;

/// Name of the ControlPlane in each namespace.
pub const NAME: &str = "c";
/// Where operators are on the network (`operator_ground`).
pub const SEED: Ipv4Addr = Ipv4Addr::new(198, 18, 255, 1);
const CLIENTS: Ipv4Addr = Ipv4Addr::new(198, 18, 255, 2);
/// What connections say would be most of the log, and of the work.
const LOG: [&str; 2] = ["--log-filter", "info,seedbed=debug"];
const POLL: Duration = Duration::from_millis(100);

/// What all scenarios share.
pub struct Field {
    pub ground: Ground,
    clients: String,
    next: AtomicU8,
}

impl Field {
    pub fn new() -> Result<Self> {
        for component in [Component::Etcd, Component::Etcd36] {
            build::ensure(component)?;
        }
        let ground = Ground::bare("live")?;
        let clients = ground.network.attach("clients", CLIENTS)?;
        let netns = ground.seed.netns().context("a netns")?;
        crate::testbed::netns::inside(netns, || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                crate::operator_ground::install(&ground.seed.client().await?).await
            })
        })?;
        Ok(Self {
            ground,
            clients,
            next: AtomicU8::new(128),
        })
    }
}

/// Which etcd a scenario runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V36,
    V37,
}

impl Version {
    /// As the table says it.
    pub fn minor(self) -> &'static str {
        match self {
            Self::V36 => "3.6",
            Self::V37 => "3.7",
        }
    }
}

pub struct Trial<'f> {
    field: &'f Field,
    pub space: Space<'f>,
    version: Version,
    subnet: u8,
    pub sight: Sight,
    pub hosts: BTreeMap<String, Host>,
    pub proxies: BTreeMap<String, Proxy>,
    pub operators: Vec<Operator>,
    pub journal: Arc<Journal>,
    credentials: Option<Credentials>,
    checker: Option<Checker>,
}

impl<'f> Trial<'f> {
    pub async fn new(field: &'f Field, id: &str, version: Version) -> Result<Self> {
        let space = Space::new(&field.ground, id).await?;
        let sight = Sight::new();
        let kind = GroupVersionKind::gvk("seedbed.dev", "v1alpha1", "EtcdCluster");
        let resource = ApiResource::from_gvk(&kind);
        let etcds: Api<DynamicObject> =
            Api::namespaced_with(space.client.clone(), &space.name, &resource);
        Ok(Self {
            field,
            version,
            subnet: field.next.fetch_add(1, Ordering::Relaxed),
            journal: Arc::new(Journal::start(etcds, &sight)),
            space,
            sight,
            hosts: BTreeMap::new(),
            proxies: BTreeMap::new(),
            operators: Vec::new(),
            credentials: None,
            checker: None,
        })
    }

    /// The address of the machine with this number.
    pub fn address(&self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.subnet, 10 + number)
    }

    /// An entry of the inventory.
    pub fn machine(&self, name: &str, address: Ipv4Addr) -> Value {
        json!({"name": name, "address": address.to_string()})
    }

    /// Entries `m-<number>`.
    pub fn machines(&self, numbers: &[u8]) -> Value {
        numbers
            .iter()
            .map(|number| self.machine(&format!("m-{number}"), self.address(*number)))
            .collect()
    }

    /// Applies a ControlPlane of so many voters on the machines `m-1` and so on, and starts an
    /// operator.
    pub async fn apply(&mut self, replicas: u8, machines: u8) -> Result<()> {
        let numbers: Vec<u8> = (1..=machines).collect();
        let mut etcd = json!({"nodeLoss": {"timeout": "1m"}});
        if self.version == Version::V36 {
            etcd["imageTag"] = json!(format!("{}-0", Component::Etcd36.version()?));
        }
        let object = json!({
            "apiVersion": "seedbed.dev/v1alpha1",
            "kind": "ControlPlane",
            "metadata": {"name": NAME},
            "spec": {
                "version": "v1.37.1",
                "endpoint": {"host": format!("api.{}.example.net", self.space.name), "port": 6443},
                "replicas": replicas,
                "machines": self.machines(&numbers),
                "network": {"podCIDRs": ["10.244.0.0/16"]},
                "etcd": etcd,
            },
        });
        self.space.control_plane(object).await?;
        self.start_operator("one").await
    }

    /// Another replica, or the same again after [`Trial::kill_operator`].
    pub async fn start_operator(&mut self, replica: &str) -> Result<()> {
        let operator = Operator::start(&self.space, replica, &LOG).await?;
        self.sight.note(format!("operator {replica} started"));
        self.operators.push(operator);
        Ok(())
    }

    /// An operator whose watches come late by so much; the rest of what it asks is answered at once.
    pub async fn start_operator_behind(&mut self, replica: &str, late: Duration) -> Result<Late> {
        let kubeconfig = self.space.service_account(replica).await?;
        let text = std::fs::read_to_string(&kubeconfig)?;
        let server = text.split("https://").nth(1).context("no server")?;
        let server = server.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'));
        let server = server.into_iter().next().context("no server")?.to_owned();
        let late = Late::start(server.parse()?, late).await?;
        let altered = kubeconfig.with_extension("late");
        std::fs::write(&altered, text.replace(&server, &late.address().to_string()))?;
        let operator = Operator::start_by(&self.space, replica, &altered, &LOG)?;
        self.sight
            .note(format!("operator {replica} started, its watches are late"));
        self.operators.push(operator);
        Ok(late)
    }

    /// SIGKILL for every operator; what they held is released, so that nobody has to wait for it.
    pub async fn kill_operator(&mut self) -> Result<()> {
        for operator in self.operators.drain(..) {
            operator.kill()?;
        }
        self.sight.fault("operator killed");
        if self
            .space
            .api::<Lease>()
            .get_opt("seedbed")
            .await?
            .is_some()
        {
            self.space.delete::<Lease>("seedbed").await?;
        }
        Ok(())
    }

    /// A ControlPlane whose machine configs are published, before any machine has booted.
    pub async fn publish(&mut self, replicas: u8, machines: u8) -> Result<()> {
        self.apply(replicas, machines).await?;
        self.space.published(NAME).await
    }

    /// A ControlPlane with its machines booted and every founder a healthy voter, under check.
    pub async fn found(&mut self, replicas: u8, machines: u8) -> Result<()> {
        self.publish(replicas, machines).await?;
        for number in 1..=replicas {
            self.boot(&format!("m-{number}")).await?;
        }
        let names: Vec<String> = (1..=replicas).map(|number| format!("m-{number}")).collect();
        self.settled(&names, 120).await?;
        self.sight.note("founded");
        Ok(())
    }

    /// The machine's entry in the inventory as of now.
    async fn address_of(&self, machine: &str) -> Result<Ipv4Addr> {
        let object = self.space.api::<ControlPlane>().get(NAME).await?;
        let object = serde_json::to_value(&object.spec.machines)?;
        let machines = object.as_array().context("no machines")?;
        let entry = machines.iter().find(|entry| entry["name"] == machine);
        let address = entry.context("not in the inventory")?["address"].as_str();
        Ok(address.context("no address")?.parse()?)
    }

    /// Makes the machine, off and with an empty disk, if there is none.
    pub async fn rack(&mut self, machine: &str) -> Result<Host> {
        if let Some(host) = self.hosts.get(machine) {
            return Ok(host.clone());
        }
        let address = self.address_of(machine).await?;
        let former = self
            .hosts
            .values()
            .find(|host| host.address() == address)
            .cloned();
        let id = format!("{}-{machine}", self.space.name);
        let place = former.as_ref().map_or(Place::New, Place::Of);
        let ground = &self.field.ground;
        let state = ground.seed.state().clone();
        let network = ground.network.clone();
        let host = tokio::task::block_in_place(|| {
            Host::new(&state, &network, &id, machine, address, place)
        })?;
        self.hosts.insert(machine.to_owned(), host.clone());
        Ok(host)
    }

    /// The user data of a machine once it is published.
    pub async fn user_data(&self, machine: &str, seconds: u64) -> Result<Vec<u8>> {
        let there = |secret: &Secret| value(secret).is_some();
        let secret = self
            .machine_config(machine, "a machine config", seconds, there)
            .await?;
        Ok(value(&secret).context("no value")?.to_vec())
    }

    /// Boots a machine for the first time, or for the first time on an emptied disk, from what is
    /// published for it. Whether its boot succeeded.
    pub async fn boot_any(&mut self, machine: &str) -> Result<bool> {
        let user_data = self.user_data(machine, 120).await?;
        let host = self.rack(machine).await?;
        let done = tokio::task::block_in_place(|| host.first_boot(&user_data))?;
        self.sight.fault(format!(
            "{machine} booted, its scripts {}",
            if done { "succeeded" } else { "failed" }
        ));
        self.under_check(&host)?;
        Ok(done)
    }

    /// The same for a boot that has to succeed.
    pub async fn boot(&mut self, machine: &str) -> Result<()> {
        let done = self.boot_any(machine).await?;
        let host = &self.hosts[machine];
        let said = || std::fs::read_to_string(host.file("var/log/runcmd.log"));
        ensure!(done, "{machine} did not boot: {}", said()?);
        Ok(())
    }

    /// Boots a machine again from what is published now, as cloud-init does for a new instance on a
    /// disk that keeps its data.
    pub async fn reboot_anew(&mut self, machine: &str) -> Result<()> {
        self.power_off(machine)?;
        self.boot(machine).await
    }

    /// Waits until another machine config than this one is published.
    pub async fn republished(&self, machine: &str, old: &[u8], seconds: u64) -> Result<()> {
        let other = |secret: &Secret| value(secret).is_some_and(|new| new != old);
        self.machine_config(machine, "another machine config", seconds, other)
            .await
            .map(drop)
    }

    /// Like [`Trial::settled`]; boots these machines as soon as their configs are published.
    pub async fn settled_with(
        &mut self,
        machines: &[&str],
        new: &[&str],
        seconds: u64,
    ) -> Result<Duration> {
        let began = Instant::now();
        let mut waiting: Vec<&str> = new.to_vec();
        while !waiting.is_empty() {
            let mut left = Vec::new();
            for machine in waiting {
                let name = format!("{NAME}-{machine}");
                let secret = self.space.api::<Secret>().get_opt(&name).await?;
                if secret.is_some_and(|s| s.data.is_some_and(|data| data.contains_key("value"))) {
                    self.boot(machine).await?;
                } else {
                    left.push(machine);
                }
            }
            waiting = left;
            self.no_violation()?;
            ensure!(
                began.elapsed() < Duration::from_secs(seconds),
                "no machine configs of {waiting:?} after {seconds} s; voters {:?}, learners {:?}",
                self.voters(),
                self.learners()
            );
            tokio::time::sleep(POLL).await;
        }
        self.settled(machines, seconds).await?;
        Ok(began.elapsed())
    }

    /// Changes of the list so far that contain this text, by their places.
    pub fn changes(&self, text: &str) -> Vec<usize> {
        let seen = self.sight.lock();
        let found = seen
            .changes
            .iter()
            .enumerate()
            .filter(|(_, line)| line.contains(text));
        found.map(|(place, _)| place).collect()
    }

    /// The member that a machine's published config is for; `None` while there is none.
    pub async fn secret_names(&self, machine: &str) -> Result<Option<String>> {
        let name = format!("{NAME}-{machine}");
        let secret = self.space.api::<Secret>().get_opt(&name).await?;
        secret.map_or(Ok(None), |secret| member_of(&secret))
    }

    fn under_check(&mut self, host: &Host) -> Result<()> {
        self.sight.lock().endpoints.insert(host.address());
        if self.checker.is_none() && host.file("etc/kubernetes/pki/etcd/ca.crt").exists() {
            let credentials = Credentials::of(host)?;
            self.checker = Some(Checker::start(
                &self.field.clients,
                &credentials,
                &self.sight,
            ));
            self.credentials = Some(credentials);
        }
        Ok(())
    }

    pub fn credentials(&self) -> Result<&Credentials> {
        self.credentials.as_ref().context("nothing was founded")
    }

    pub fn host(&self, machine: &str) -> Result<&Host> {
        self.hosts
            .get(machine)
            .with_context(|| format!("no machine {machine}"))
    }

    /// Pulls the plug of a machine.
    pub fn power_off(&self, machine: &str) -> Result<()> {
        self.sight.fault(format!("{machine} off"));
        let host = self.host(machine)?.clone();
        tokio::task::block_in_place(|| host.power_off())
    }

    pub fn power_on(&self, machine: &str) -> Result<()> {
        self.sight.fault(format!("{machine} on"));
        let host = self.host(machine)?.clone();
        tokio::task::block_in_place(|| host.power_on())
    }

    /// Off, with an empty disk.
    pub fn wipe(&self, machine: &str) -> Result<()> {
        self.power_off(machine)?;
        self.sight.fault(format!("{machine} wiped"));
        self.host(machine)?.format()
    }

    /// Merges into the ControlPlane's spec.
    pub async fn spec(&self, patch: &Value) -> Result<()> {
        self.sight.fault(format!("spec: {patch}"));
        let patch = json!({"spec": patch});
        self.space
            .patch::<ControlPlane>(NAME, &patch)
            .await
            .map(drop)
    }

    /// `kubectl scale`.
    pub async fn scale(&self, replicas: usize) -> Result<()> {
        self.sight.fault(format!("scale to {replicas}"));
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        let objects = self.space.api::<ControlPlane>();
        let parameters = PatchParams::default();
        objects.patch_scale(NAME, &parameters, &patch).await?;
        Ok(())
    }

    /// Sets the inventory to the machines of these numbers.
    pub async fn inventory(&self, numbers: &[u8]) -> Result<()> {
        self.spec(&json!({"machines": self.machines(numbers)}))
            .await
    }

    /// Annotates the machine-config Secret.
    pub async fn annotate(&self, machine: &str, key: &str, value: &str) -> Result<()> {
        self.sight.fault(format!("{machine}: {key}={value}"));
        let patch = json!({"metadata": {"annotations": {key: value}}});
        let name = format!("{NAME}-{machine}");
        self.space.patch::<Secret>(&name, &patch).await.map(drop)
    }

    /// Somebody confirms that the machine is gone.
    pub async fn confirm_lost(&self, machine: &str) -> Result<()> {
        self.annotate(machine, "seedbed.dev/machine-lost", "powered off")
            .await
    }

    /// Every write that was acknowledged is there, for each member that answers.
    pub async fn writes_are_there(&self, quorum: bool) -> Result<usize> {
        let Some(credentials) = &self.credentials else {
            return Ok(0);
        };
        let members: Vec<Ipv4Addr> = {
            let seen = self.sight.lock();
            let voters = seen.said.iter().filter(|(_, said)| !said.learner);
            voters.map(|(member, _)| *member).collect()
        };
        let count = self.sight.lock().acknowledged.len();
        let mut checked = 0;
        for member in members {
            let check = all_there(credentials, &self.sight, member, quorum);
            // What is lost has been noted; who does not answer is asked no more.
            if let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(10), check).await {
                checked += 1;
            }
        }
        self.no_violation()?;
        ensure!(
            checked > 0 || count == 0,
            "nobody could be asked for the writes"
        );
        Ok(count)
    }

    /// The end of a scenario: every write is there. Returns how many.
    pub async fn end(&mut self, quorum: bool) -> Result<usize> {
        let count = self.writes_are_there(quorum).await?;
        ensure!(count > 0 || self.checker.is_none(), "nothing was written");
        for operator in &self.operators {
            let log = operator.log()?;
            ensure!(!log.contains("panicked at"), "the operator panicked");
        }
        Ok(count)
    }

    /// Ends everything that runs here.
    pub fn clear(&mut self) {
        self.checker = None;
        self.operators.clear();
        for host in self.hosts.values() {
            if let Err(error) = host.scrap() {
                crate::testbed::progress::say(&format!("{}: {error:#}", host.name()));
            }
        }
        self.proxies.clear();
    }

    /// What a person needs to understand a failure.
    pub fn report(&self) -> String {
        let mut text = String::from("timeline:\n");
        for (at, line) in &self.sight.lock().timeline {
            text += &format!("  {:7.2} {line}\n", at.as_secs_f64());
        }
        let status = self.journal.latest();
        for part in ["ledger", "pendingOperation", "decisions", "members"] {
            text += &format!("{part}: {}\n", status[part]);
        }
        for operator in &self.operators {
            text += &operator.process().log_tail();
            text.push('\n');
        }
        for host in self.hosts.values() {
            let on = if host.is_on() { "on" } else { "off" };
            text += &format!(
                "etcd on {}, which is {on}:\n{}\n",
                host.name(),
                host.log_tail(6)
            );
        }
        text
    }
}

/// The user data in a machine-config Secret.
fn value(secret: &Secret) -> Option<&[u8]> {
    Some(&secret.data.as_ref()?.get("value")?.0)
}

/// The member that a machine-config Secret is for; `None` without user data.
pub fn member_of(secret: &Secret) -> Result<Option<String>> {
    let Some(value) = value(secret) else {
        return Ok(None);
    };
    let config = user_data::parse(value);
    let manifest = config
        .write_files
        .iter()
        .find(|file| file.path == "/etc/kubernetes/manifests/etcd.yaml")
        .context("no etcd manifest")?;
    let text = String::from_utf8(manifest.bytes())?;
    let name = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("- --name="));
    Ok(name.map(str::to_owned))
}
