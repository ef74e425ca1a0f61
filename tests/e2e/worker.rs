//! A stock `kubeadm join` of a worker, as for any cluster that kubeadm made.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::site::{MACHINES_LIMIT, Site};
use crate::testbed::machine::{Machine, kubeadm};
use crate::testbed::network::cni_conflist;
use crate::testbed::stage::{condition_of, pods_of, wait};
use crate::testbed::{Component, build, netns, progress};

const NAME: &str = "worker";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 31);

/// Switches on a machine that has what every node has, and nothing of Seedbed's.
pub fn boot(site: &Site) -> Result<Machine> {
    let network_plugin = json!({"write_files": [{
        "path": "/etc/cni/net.d/10-pods.conflist",
        "content": cni_conflist(pods_of(ADDRESS)?),
    }]});
    let user_data = format!("#cloud-config\n{network_plugin}\n");
    let machine = site
        .stage
        .machine_from(NAME, ADDRESS, user_data.as_bytes())?;
    machine.boot()?;
    Ok(machine)
}

/// Runs the command that kubeadm prints for this cluster, and waits until the Node is Ready.
pub fn join(cluster: &Cluster<'_>, machine: &Machine) -> Result<()> {
    let program = build::program(Component::Kubernetes, "kubeadm")?;
    let mut token = netns::command(cluster.site.stage.seed.netns(), program);
    token.arg("--kubeconfig").arg(cluster.kubeconfig()?);
    token.args(["token", "create", "--print-join-command"]);
    let command = progress::output(&mut token)?;
    ensure!(
        command.starts_with("kubeadm join 198.18.0.10:6443 --token "),
        "another endpoint: {command}"
    );
    machine.wait_booted(MACHINES_LIMIT)?;
    kubeadm::prepare(machine)?;
    let mut join: Vec<&str> = command.split_whitespace().collect();
    // Its checks of the kernel see the host's, where swap and modules are as they are.
    join.push("--ignore-preflight-errors=all");
    machine
        .exec(&join)
        .with_context(|| machine.journal_tail("kubelet"))?;
    wait(MACHINES_LIMIT, || {
        let node = cluster.kubectl(&["get", "node", NAME, "-o", "json"])?;
        let node: Value = serde_json::from_str(&node)?;
        let ready = condition_of(&node, "Ready") == Some("True");
        ensure!(ready, "{:#}", node["status"]["conditions"]);
        Ok(())
    })
    .with_context(|| machine.journal_tail("kubelet"))
}
