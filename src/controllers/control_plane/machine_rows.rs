//! One row a machine, for the status. Pure.

use super::live::Live;
use crate::crd::{EtcdCluster, MachineStatus};
use crate::domain::{self, Machine};
use crate::pki::secret_names;
use crate::target::Readiness;

/// The row of a machine that serves or is about to.
pub fn row(
    machine: &Machine,
    control_plane: &domain::ControlPlane,
    live: &Live,
    revision: Option<String>,
    etcd: Option<&EtcdCluster>,
) -> MachineStatus {
    let node = live.node(&machine.name);
    let api_server_ready = live.is_ready(&machine.name);
    MachineStatus {
        name: machine.name.to_string(),
        secret_name: Some(secret_names::machine_config(
            &control_plane.name,
            &machine.name,
        )),
        api_server_ready: Some(api_server_ready),
        node_ready: Some(node.is_some_and(|node| node.ready)),
        kubelet_version: node.map(|node| node.kubelet_version.clone()),
        message: awaited(machine, live),
        revision,
        etcd_member_id: member_id(etcd, machine),
        ..MachineStatus::default()
    }
}

/// What a machine lacks, for people.
pub fn awaited(machine: &Machine, live: &Live) -> Option<String> {
    let endpoint = machine.api_endpoint();
    match live.api_servers.get(&machine.name) {
        Some(Some(Readiness::Ready)) => match live.node(&machine.name) {
            None => Some("the kubelet has not registered its Node yet".to_owned()),
            Some(node) if !node.ready => Some("the Node is not Ready".to_owned()),
            Some(_) => None,
        },
        Some(Some(Readiness::NotReady(why))) => Some(format!(
            "the API server at {endpoint} is not ready: {}",
            first_line(why)
        )),
        Some(Some(Readiness::Unreachable(why))) => Some(format!(
            "the API server at {endpoint} does not answer: {}",
            first_line(why)
        )),
        Some(None) | None => Some(format!("nothing listens at {endpoint}")),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn member_id(etcd: Option<&EtcdCluster>, machine: &Machine) -> Option<String> {
    let slots = &etcd?.status.as_ref()?.ledger.as_ref()?.slots;
    slots
        .iter()
        .find(|slot| slot.machine == machine.name.as_str())?
        .member_id
        .clone()
}
