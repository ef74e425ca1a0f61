//! Three machines that boot at the same time become a control plane; then it is left alone, and
//! at last let go.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::{Cluster, soon};
use crate::kstatus::{Verdict, verdict};
use crate::site::{self, MACHINES_LIMIT, Site, tell};
use crate::testbed::machine::Machine;
use crate::testbed::stage::{condition_of, wait};
use crate::watch::Watch;
use crate::{converged, deletion, etcd, pods, worker};

const NAME: &str = "bring-up";

#[test]
fn three_machines_that_boot_together_become_a_control_plane() {
    site::run(bring_up);
}

fn bring_up(site: &Site) -> Result<()> {
    let before = deletion::objects(site)?;
    let watch = Watch::begin(site, "seedbed.dev", "v1alpha1", "ControlPlane")?;
    let operator = site.stage.operator("seedbed-0")?;
    let cluster = site.apply(NAME)?;
    let machines = cluster.machines()?;
    let booted_from = machines
        .iter()
        .map(|machine| site.stage.user_data(NAME, machine.name()))
        .collect::<Result<Vec<_>>>()?;
    let power_on = Instant::now();
    for machine in &machines {
        machine.boot()?;
    }
    cluster.wait_ready()?;
    let ready = power_on.elapsed().as_secs_f64();

    // At once and without a second try: Ready means all of this.
    check_what_ready_means(&cluster, &machines)?;
    tell(NAME, &format!("Ready {ready:.1} s after power-on"));
    check_never_ready_early(&watch)?;

    let worker = worker::boot(site)?;
    soon(|| etcd::check_three_voters(&cluster, &machines).map(drop))?;
    check_nodes_become_ready(&cluster, &machines)?;
    pods::wait_addons(&cluster)?;
    pods::check_service_by_name(&cluster, &machines)?;
    tell(NAME, "nodes, addons and pods work");
    worker::join(&cluster, &worker)?;
    tell(NAME, "a worker has joined by kubeadm");
    worker.power_off()?;
    for machine in &machines {
        machine.wait_booted(MACHINES_LIMIT)?;
    }

    converged::settle(&cluster, &operator)?;
    converged::check_secrets_say_existing(&cluster, &machines, &booted_from)?;
    let _operator = converged::check_no_writes(&cluster, &machines, operator)?;
    check_nothing_was_refused(site)?;
    deletion::check(&cluster, &machines, &before)
}

/// The chart's Roles allow everything that the operator asks for.
fn check_nothing_was_refused(site: &Site) -> Result<()> {
    let mut refused = site.audit.requests()?;
    refused.retain(|request| request.user == site.stage.release.user() && request.code == 403);
    ensure!(refused.is_empty(), "{refused:#?}");
    Ok(())
}

/// Each API server at its own address, three voters, three Nodes with their marks, kubeadm's
/// objects.
fn check_what_ready_means(cluster: &Cluster<'_>, machines: &[Arc<Machine>]) -> Result<()> {
    let members = etcd::members(&machines[0])?;
    ensure!(members.len() == 3, "Ready with {members:?}");
    ensure!(members.iter().all(|member| !member.learner), "{members:?}");
    for machine in machines {
        let answer = cluster.kubectl_at(machine, &["get", "--raw=/readyz"])?;
        ensure!(answer == "ok", "{}: {answer}", machine.name());
        check_marks(cluster, machine)?;
    }
    let objects = |namespace: &str, names: &[&str]| {
        let all = [&["-n", namespace, "get", "-o", "name"], names].concat();
        cluster.kubectl_at(&machines[0], &all).map(drop)
    };
    objects(
        "kube-system",
        &[
            "configmap/kubeadm-config",
            "configmap/kubelet-config",
            "configmap/kube-proxy",
            "configmap/coredns",
            "daemonset/kube-proxy",
            "deployment/coredns",
            "service/kube-dns",
        ],
    )?;
    objects("kube-public", &["configmap/cluster-info"])?;
    objects(
        "",
        &[
            "clusterrolebinding/kubeadm:cluster-admins",
            "clusterrolebinding/kubeadm:kubelet-bootstrap",
            "clusterrolebinding/kubeadm:node-proxier",
        ],
    )
}

/// Labels and taints of kubeadm's `mark-control-plane`.
fn check_marks(cluster: &Cluster<'_>, machine: &Machine) -> Result<()> {
    let get = ["get", "node", machine.name(), "-o", "json"];
    let node: Value = serde_json::from_str(&cluster.kubectl_at(machine, &get)?)?;
    let labels = &node["metadata"]["labels"];
    for label in [
        "node-role.kubernetes.io/control-plane",
        "node.kubernetes.io/exclude-from-external-load-balancers",
    ] {
        ensure!(labels[label] == "", "{}: {labels}", machine.name());
    }
    let taints = node["spec"]["taints"].as_array().context("no taints")?;
    let ours = taints.iter().any(|taint| {
        taint["key"] == "node-role.kubernetes.io/control-plane" && taint["effect"] == "NoSchedule"
    });
    ensure!(ours, "{}: {taints:?}", machine.name());
    let address = node["status"]["addresses"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|address| address["type"] == "InternalIP");
    let address = address.context("no InternalIP")?["address"].clone();
    ensure!(address == machine.address().to_string(), "{address}");
    Ok(())
}

/// With the network plugin's configuration in place, nothing keeps a Node from being Ready; then
/// the control-plane taint is the only one.
fn check_nodes_become_ready(cluster: &Cluster<'_>, machines: &[Arc<Machine>]) -> Result<()> {
    wait(MACHINES_LIMIT, || {
        let nodes = cluster.list_at(&machines[0], &["nodes"])?;
        ensure!(nodes.len() == 3, "{} nodes", nodes.len());
        for node in &nodes {
            let ready = condition_of(node, "Ready") == Some("True");
            ensure!(ready, "{:#}", node["status"]["conditions"]);
            let taints = node["spec"]["taints"].as_array().map_or(0, Vec::len);
            ensure!(taints == 1, "{:#}", node["spec"]);
        }
        Ok(())
    })?;
    wait(MACHINES_LIMIT, || {
        let status = cluster.status()?;
        let row = |row: &Value| row["apiServerReady"] == true && row["nodeReady"] == true;
        let rows = status["machines"].as_array().context("no rows")?;
        ensure!(rows.len() == 3 && rows.iter().all(row), "{status:#}");
        ensure!(status["readyReplicas"] == 3, "{status:#}");
        ensure!(status["version"] == "v1.37.1", "{status:#}");
        ensure!(status["etcdMembers"] == "3/3", "{status:#}");
        Ok(())
    })
}

/// In no version of the object was the verdict `Current` before all its parts were said to be in
/// place, and it never went back.
fn check_never_ready_early(watch: &Watch) -> Result<()> {
    let versions = watch.versions_of(NAME);
    let mut verdicts = Vec::new();
    for version in versions
        .iter()
        .filter(|version| !version["status"].is_null())
    {
        let now = verdict(version);
        verdicts.push(now);
        if now != Verdict::Current {
            ensure!(now == Verdict::InProgress, "{:#}", version["status"]);
            ensure!(
                condition_of(version, "Ready") != Some("True"),
                "{:#}",
                version["status"]
            );
            continue;
        }
        for condition in [
            "Ready",
            "Available",
            "EtcdHealthy",
            "MachineConfigsPublished",
        ] {
            let state = condition_of(version, condition);
            ensure!(
                state == Some("True"),
                "{condition}: {:#}",
                version["status"]
            );
        }
        let machines = version["status"]["machines"].as_array();
        let serves = |machine: &Value| machine["apiServerReady"] == true;
        ensure!(machines.is_some_and(|all| all.len() == 3 && all.iter().all(serves)));
    }
    let first = verdicts
        .iter()
        .position(|verdict| *verdict == Verdict::Current);
    let first = first.context("the watch has not seen it become Current")?;
    ensure!(
        first > 3,
        "Current after {first} versions: the watch began too late"
    );
    let stays = verdicts[first..]
        .iter()
        .all(|verdict| *verdict == Verdict::Current);
    ensure!(stays, "{verdicts:?}");
    tell(
        NAME,
        &format!("Current in version {first} of {}", verdicts.len()),
    );
    Ok(())
}
