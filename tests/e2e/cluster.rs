//! A control plane under test: its objects in the seed, its machines, and its own API servers.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::audit::{Audit, Request};
use crate::site::{MACHINES_LIMIT, SEED_LIMIT, Site, TARGET_AUDIT, TARGET_USER};
use crate::testbed::machine::Machine;
use crate::testbed::progress;
use crate::testbed::stage::{condition_of, wait};

/// A ControlPlane on the site.
pub struct Cluster<'a> {
    pub site: &'a Site,
    pub name: String,
    kubeconfig: OnceLock<PathBuf>,
}

impl<'a> Cluster<'a> {
    pub fn new(site: &'a Site, name: &str) -> Self {
        Self {
            site,
            name: name.to_owned(),
            kubeconfig: OnceLock::new(),
        }
    }

    /// Waits until machines could boot; returns their names with their addresses.
    pub fn published(&self) -> Result<BTreeMap<String, Ipv4Addr>> {
        self.site
            .stage
            .wait_for_condition(&self.name, "MachineConfigsPublished", SEED_LIMIT)?;
        let inventory = self.site.stage.inventory(&self.name)?;
        ensure!(!inventory.is_empty(), "no machines");
        Ok(inventory.into_iter().collect())
    }

    /// Freshly imaged machines, off, in the order of their names.
    pub fn machines(&self) -> Result<Vec<Arc<Machine>>> {
        let inventory = self.published()?;
        inventory
            .iter()
            .map(|(name, address)| self.site.provision(&self.name, name, *address))
            .collect()
    }

    /// Waits until it is Ready; returns how long that took.
    pub fn wait_ready(&self) -> Result<Duration> {
        let began = Instant::now();
        self.site
            .stage
            .wait_for_condition(&self.name, "Ready", MACHINES_LIMIT)?;
        Ok(began.elapsed())
    }

    /// Its status.
    pub fn status(&self) -> Result<Value> {
        Ok(self.site.stage.get("controlplane", &self.name)?["status"].take())
    }

    /// The status of its EtcdCluster.
    pub fn etcd_status(&self) -> Result<Value> {
        Ok(self.site.stage.get("etcdcluster", &self.name)?["status"].take())
    }

    /// Waits until an EtcdCluster's condition is true.
    pub fn wait_etcd_healthy(&self) -> Result<()> {
        wait(MACHINES_LIMIT, || {
            let object = self.site.stage.get("etcdcluster", &self.name)?;
            let healthy = condition_of(&object, "EtcdHealthy") == Some("True");
            ensure!(healthy, "not healthy: {:#}", object["status"]);
            Ok(())
        })
    }

    /// The administrators' kubeconfig in a file: a copy of the Secret when it was first asked for.
    pub fn kubeconfig(&self) -> Result<&Path> {
        if let Some(file) = self.kubeconfig.get() {
            return Ok(file);
        }
        let file = self.site.stage.target_kubeconfig(&self.name)?;
        Ok(self.kubeconfig.get_or_init(|| file))
    }

    /// kubectl on the target, by the kubeconfig Secret and through the load balancer.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut kubectl = self.site.stage.seed.kubectl()?;
        kubectl.env("KUBECONFIG", self.kubeconfig()?);
        progress::output(kubectl.args(arguments))
    }

    /// The same, but at this machine's own API server.
    pub fn kubectl_at(&self, machine: &Machine, arguments: &[&str]) -> Result<String> {
        let server = format!("--server=https://{}:6443", machine.address());
        self.kubectl(&[&[server.as_str()], arguments].concat())
    }

    /// A list of the target as JSON, at this machine's own API server.
    pub fn list_at(&self, machine: &Machine, arguments: &[&str]) -> Result<Vec<Value>> {
        let get = [&["get", "-o", "json"], arguments].concat();
        let list: Value = serde_json::from_str(&self.kubectl_at(machine, &get)?)?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    /// Everything that the operator has asked any API server of the target.
    pub fn target_requests(&self, machines: &[Arc<Machine>]) -> Result<Vec<Request>> {
        let mut requests = Vec::new();
        for machine in machines {
            let log = machine.file(TARGET_AUDIT);
            if log.exists() {
                requests.extend(Audit::new(&log).requests()?);
            }
        }
        requests.retain(|request| request.user == TARGET_USER);
        Ok(requests)
    }

    /// Changes that the operator has made, or tried to, in the seed, events included.
    pub fn seed_writes(&self) -> Result<Vec<Request>> {
        let stage = &self.site.stage;
        let namespace = crate::testbed::stage::NAMESPACE;
        self.site.audit.writes(&stage.release.user(), namespace)
    }
}

/// Runs a program inside a machine after copying it there, with these arguments.
pub fn run_in(machine: &Machine, program: &Path, arguments: &[&str]) -> Result<String> {
    let name = program
        .file_name()
        .and_then(|name| name.to_str())
        .context("no name")?;
    let inside = format!("/root/{name}");
    let copy = machine.file(&inside);
    if !copy.exists() {
        // The copy keeps the mode.
        std::fs::copy(program, &copy).with_context(|| format!("copy to {}", copy.display()))?;
    }
    machine.exec(&[&[inside.as_str()], arguments].concat())
}

/// Waits a while for what an API server behind the load balancer needs to be taken in.
pub fn soon<T>(attempt: impl FnMut() -> Result<T>) -> Result<T> {
    wait(Duration::from_secs(60), attempt)
}
