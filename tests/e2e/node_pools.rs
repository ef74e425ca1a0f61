//! Workers of node pools on real machines: they boot from their Secrets, join, run pods, and are
//! taken out again.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::{Cluster, soon};
use crate::pods;
use crate::site::{self, MACHINES_LIMIT, SEED_LIMIT, Site, soak, tell};
use crate::testbed::machine::Machine;
use crate::testbed::stage::{NAMESPACE, condition_of, wait};
use crate::user_data;

const NAME: &str = "pools";
/// Listed workers. Their pods' addresses go by the number at the end, as in `examples/ha.yaml`.
const LISTED: [(&str, Ipv4Addr); 3] = [
    ("w-11", Ipv4Addr::new(198, 18, 0, 21)),
    ("w-12", Ipv4Addr::new(198, 18, 0, 22)),
    ("w-13", Ipv4Addr::new(198, 18, 0, 23)),
];
const OPEN: (&str, Ipv4Addr) = ("o-14", Ipv4Addr::new(198, 18, 0, 24));
const LATE: (&str, Ipv4Addr) = ("l-15", Ipv4Addr::new(198, 18, 0, 25));

#[test]
fn workers_join_run_pods_and_leave() {
    site::run(workers);
}

fn workers(site: &Site) -> Result<()> {
    let operator = site.stage.operator("seedbed-0")?;
    let cluster = site.apply(NAME)?;
    let names: Vec<Value> = LISTED
        .iter()
        .map(|(name, _)| json!({"name": name}))
        .collect();
    // Applied with the control plane: they wait for it.
    pool(
        site,
        "listed",
        json!({"machines": names, "labels": {"tier": "web"}, "serverTLSBootstrap": true}),
    )?;
    pool(site, "open", json!({"maxNodes": 2, "token": {"ttl": "2m"}}))?;
    let late = json!({"machines": [{"name": LATE.0}], "token": {"ttl": "1m"}});
    pool(site, "late", late)?;
    let machines = cluster.machines()?;
    for machine in &machines {
        machine.boot()?;
    }
    cluster.wait_ready()?;

    let published = Instant::now();
    let mut workers = Vec::new();
    for (name, address) in LISTED {
        workers.push(worker(site, name, name, address)?);
    }
    workers.push(worker(site, "open", OPEN.0, OPEN.1)?);
    let replayed = site.stage.user_data(NAME, LISTED[0].0)?;
    // It has its user data now, and is switched on much later.
    let late = worker(site, LATE.0, LATE.0, LATE.1)?;
    for worker in &workers {
        worker.boot()?;
    }
    for name in ["listed", "open"] {
        wait_pool(site, name, "NodesReady")?;
    }
    wait(MACHINES_LIMIT, || {
        let open = status(site, "open")?;
        ensure!(open["readyReplicas"] == 1, "{open:#}");
        Ok(())
    })?;
    let took = published.elapsed().as_secs_f64();
    tell(
        NAME,
        &format!("four workers Ready {took:.1} s after power-on"),
    );
    check_workers(&cluster, &workers)?;
    tell(
        NAME,
        &site.stage.kubectl(&["-n", NAMESPACE, "get", "nodepools"])?,
    );
    tell(NAME, &cluster.kubectl(&["get", "nodes"])?);
    pods::check_service_by_name(&cluster, &workers)?;
    tell(NAME, "a pod has run on each worker");
    nothing_is_left_of_the_join(site, &workers)?;
    replay_is_refused(site, &cluster, &replayed)?;
    taken_out(site, &cluster, &workers)?;
    if soak() {
        // The kernel's limit of inotify instances is that of all machines together.
        for worker in &workers[2..] {
            worker.power_off()?;
        }
        comes_late(site, &cluster, &late, published)?;
    }
    for name in ["listed", "open", "late"] {
        site.stage.kubectl(&[
            "-n",
            NAMESPACE,
            "delete",
            "nodepool",
            name,
            "--timeout=120s",
        ])?;
    }
    let left = cluster.kubectl(&["get", "nodes", "-l", "seedbed.dev/node-pool", "-o", "name"])?;
    ensure!(left.is_empty(), "left: {left}");
    workers.iter().try_for_each(|worker| worker.power_off())?;
    late.power_off()?;
    operator.process().stop()
}

/// Applies a pool whose machines get their network plugin as those of `examples/ha.yaml` do.
fn pool(site: &Site, name: &str, spec: Value) -> Result<()> {
    let example = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/ha.yaml");
    let example: Value = serde_saphyr::from_str(&std::fs::read_to_string(example)?)?;
    let mut spec = spec;
    spec["controlPlaneRef"] = json!({"name": NAME});
    spec["machineConfig"] = example["spec"]["machineConfig"].clone();
    let object = json!({
        "apiVersion": "seedbed.dev/v1alpha1",
        "kind": "NodePool",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    });
    let file = site.stage.state.join(format!("pool-{name}.json"));
    std::fs::write(&file, object.to_string())?;
    let file = file.to_str().context("the path is not UTF-8")?;
    site.stage.kubectl(&["apply", "-f", file]).map(drop)
}

/// A machine that is off, with the user data of a Secret: its own, or that of an open pool.
fn worker(site: &Site, secret: &str, name: &str, address: Ipv4Addr) -> Result<Arc<Machine>> {
    let user_data = wait(SEED_LIMIT, || site.stage.user_data(NAME, secret))?;
    let machine = site.stage.machine_from(name, address, &user_data)?;
    Ok(Arc::new(machine))
}

fn status(site: &Site, name: &str) -> Result<Value> {
    Ok(site.stage.get("nodepool", name)?["status"].take())
}

fn wait_pool(site: &Site, name: &str, condition: &str) -> Result<()> {
    wait(MACHINES_LIMIT, || {
        let object = site.stage.get("nodepool", name)?;
        let yes = condition_of(&object, condition) == Some("True");
        ensure!(yes, "{name} is not {condition}: {:#}", object["status"]);
        Ok(())
    })
}

/// Registered by their own kubelets, labelled through the API, and complete in status.
fn check_workers(cluster: &Cluster<'_>, workers: &[Arc<Machine>]) -> Result<()> {
    for worker in workers {
        let node = cluster.kubectl(&["get", "node", worker.name(), "-o", "json"])?;
        let node: Value = serde_json::from_str(&node)?;
        let labels = &node["metadata"]["labels"];
        ensure!(labels["seedbed.dev/node-pool"].is_string(), "{labels}");
        ensure!(labels["seedbed.dev/revision"].is_string(), "{labels}");
        let taints = node["spec"]["taints"].as_array().map_or(0, Vec::len);
        ensure!(taints == 0, "{:#}", node["spec"]);
    }
    let listed = status(cluster.site, "listed")?;
    ensure!(
        listed["replicas"] == 3 && listed["readyReplicas"] == 3,
        "{listed:#}"
    );
    soon(|| {
        let listed = status(cluster.site, "listed")?;
        ensure!(listed["upToDateReplicas"] == 3, "{listed:#}");
        Ok(())
    })
}

/// The credential is gone: in the target, in the seed, and on the machine.
fn nothing_is_left_of_the_join(site: &Site, workers: &[Arc<Machine>]) -> Result<()> {
    for worker in workers {
        worker.wait_booted(MACHINES_LIMIT)?;
        let file = worker.file("/etc/kubernetes/bootstrap-kubelet.conf");
        ensure!(
            !file.exists(),
            "{} keeps its bootstrap kubeconfig",
            worker.name()
        );
        let key = worker.file("/etc/kubernetes/pki/ca.key");
        ensure!(!key.exists(), "{} has a CA's key", worker.name());
    }
    // The kubelets of the listed pool asked for serving certificates, and got them.
    for worker in &workers[..LISTED.len()] {
        let served = worker.file("/var/lib/kubelet/pki/kubelet-server-current.pem");
        wait(SEED_LIMIT, || {
            let there = std::fs::symlink_metadata(&served).is_ok();
            ensure!(there, "{} has no serving certificate", worker.name());
            Ok(())
        })?;
    }
    for (name, _) in LISTED {
        let config = user_data::parse(&site.stage.user_data(NAME, name)?);
        for file in &config.write_files {
            let credential = file.path == "/etc/kubernetes/bootstrap-kubelet.conf";
            ensure!(!credential, "{name} could join again");
            let text = String::from_utf8_lossy(&file.bytes()).into_owned();
            ensure!(!text.contains("PRIVATE KEY"), "{name} is given a key");
        }
    }
    Ok(())
}

/// What the first worker booted from gets nobody in again.
fn replay_is_refused(site: &Site, cluster: &Cluster<'_>, replayed: &[u8]) -> Result<()> {
    let config = user_data::parse(replayed);
    let mut files = config.write_files.iter();
    let file = files.find(|file| file.path == "/etc/kubernetes/bootstrap-kubelet.conf");
    let stolen = site.stage.state.join("stolen.kubeconfig");
    std::fs::write(&stolen, file.context("a bootstrap kubeconfig")?.bytes())?;
    soon(|| {
        let mut kubectl = site.stage.seed.kubectl()?;
        kubectl.env("KUBECONFIG", &stolen).args(["get", "csr"]);
        let output = kubectl.output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let refused = !output.status.success() && text.contains("Unauthorized");
        ensure!(refused, "{text}");
        Ok(())
    })?;
    tell(cluster.name.as_str(), "replayed user data is refused");
    Ok(())
}

/// A machine that is switched on after more than three lifetimes of the token that it was given.
fn comes_late(
    site: &Site,
    cluster: &Cluster<'_>,
    machine: &Machine,
    published: Instant,
) -> Result<()> {
    std::thread::sleep(Duration::from_secs(200).saturating_sub(published.elapsed()));
    machine.boot()?;
    wait_pool(site, "late", "NodesReady")?;
    tell(
        &cluster.name,
        "a machine joined after three lifetimes of its token",
    );
    Ok(())
}

/// A listed worker is taken out: its pods go elsewhere, then its Node goes.
fn taken_out(site: &Site, cluster: &Cluster<'_>, workers: &[Arc<Machine>]) -> Result<()> {
    let gone = LISTED[2].0;
    let patch = r#"{"spec": {"replicas": 2}}"#;
    site.stage.kubectl(&[
        "-n",
        NAMESPACE,
        "patch",
        "nodepool",
        "listed",
        "--type=merge",
        "-p",
        patch,
    ])?;
    wait(MACHINES_LIMIT, || {
        let nodes = cluster.kubectl(&["get", "nodes", "-o", "name"])?;
        ensure!(!nodes.contains(gone), "{nodes}");
        Ok(())
    })?;
    let found = site.stage.get("secret", &format!("{NAME}-{gone}"));
    ensure!(found.is_err(), "{gone} could boot again");
    let mut on = workers.iter();
    ensure!(on.any(|worker| worker.name() == gone && worker.is_on()));
    tell(&cluster.name, "a worker was drained and its Node deleted");
    Ok(())
}
