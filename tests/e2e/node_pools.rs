//! Workers of node pools on real machines: they boot from their Secrets, join, run pods, and are
//! taken out again.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::{Cluster, soon};
use crate::pods;
use crate::scan::Needles;
use crate::site::{self, MACHINES_LIMIT, SEED_LIMIT, Site, soak, tell, until};
use crate::testbed::machine::Machine;
use crate::testbed::release::Replica;
use crate::testbed::stage::{NAMESPACE, condition_of};
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
    let mut operator = site.stage.operator("seedbed-0")?;
    // One machine is enough to join, and leaves the workers room: each machine takes some twenty of
    // the kernel's inotify instances (128 for all), and a kubelet that gets none does not start.
    let cluster = site.apply_with(NAME, |object| {
        object["spec"]["replicas"] = json!(1);
        if let Some(machines) = object["spec"]["machines"].as_array_mut() {
            machines.truncate(1);
        }
    })?;
    let names: Vec<Value> = LISTED
        .iter()
        .map(|(name, _)| json!({"name": name}))
        .collect();
    // Applied with the control plane: they wait for it.
    pool(
        site,
        "listed",
        json!({
            "machines": names,
            "labels": {"tier": "web"},
            "serverTLSBootstrap": true,
            "drain": {"timeout": "20s"},
        }),
    )?;
    let open = json!({"maxNodes": 2, "token": {"ttl": "2m"}, "drain": {"timeout": "20s"}});
    pool(site, "open", open)?;
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
    let mut needles = Needles::default();
    needles.gather(&cluster)?;
    // It has its user data now, and is switched on much later.
    let late = worker(site, LATE.0, LATE.0, LATE.1)?;
    for worker in &workers {
        worker.boot()?;
    }
    for name in ["listed", "open"] {
        wait_pool(site, name, "NodesReady")?;
    }
    until(
        "the open pool's machine to be Ready",
        MACHINES_LIMIT,
        || {
            let open = status(site, "open")?;
            ensure!(open["readyReplicas"] == 1, "{open:#}");
            Ok(())
        },
    )?;
    let took = published.elapsed().as_secs_f64();
    tell(
        NAME,
        &format!("four workers Ready {took:.1} s after power-on"),
    );
    needles.gather(&cluster)?;
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
    needles.gather(&cluster)?;
    let mut booted: Vec<_> = workers.iter().collect();
    if soak() {
        // Their pools can be deleted all the same.
        for worker in &workers[2..] {
            worker.power_off()?;
        }
        tell(NAME, "waiting for three lifetimes of a token");
        std::thread::sleep(Duration::from_secs(200).saturating_sub(published.elapsed()));
        needles.gather(&cluster)?;
        operator.process().kill()?;
        operator = comes_while_nobody_is_there(&cluster, &late)?;
        booted.push(&late);
        needles.gather(&cluster)?;
    }
    needles.check(&cluster, &machines, &booted)?;
    deleted(site, &cluster)?;
    workers.iter().try_for_each(|worker| worker.power_off())?;
    late.power_off()?;
    operator.process().stop()
}

/// Pools go with their Nodes and tokens, also of machines that are off.
fn deleted(site: &Site, cluster: &Cluster<'_>) -> Result<()> {
    for name in ["listed", "open", "late"] {
        tell(NAME, &format!("deleting pool {name}"));
        let delete = ["delete", "nodepool", name, "--timeout=300s"];
        site.stage
            .kubectl(&[&["-n", NAMESPACE], &delete[..]].concat())?;
    }
    let label = "seedbed.dev/node-pool";
    let left = cluster.kubectl(&["get", "nodes", "-l", label, "-o", "name"])?;
    ensure!(left.is_empty(), "left: {left}");
    no_token_is_there(cluster)
}

fn no_token_is_there(cluster: &Cluster<'_>) -> Result<()> {
    let tokens = ["-n", "kube-system", "get", "secrets", "-o", "name"];
    let tokens = cluster.kubectl(&tokens)?;
    ensure!(!tokens.contains("bootstrap-token-"), "alive: {tokens}");
    Ok(())
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
    let what = format!("the user data of {secret}");
    let user_data = until(&what, SEED_LIMIT, || site.stage.user_data(NAME, secret))?;
    site.machine_from(name, address, &user_data)
}

fn status(site: &Site, name: &str) -> Result<Value> {
    Ok(site.stage.get("nodepool", name)?["status"].take())
}

fn wait_pool(site: &Site, name: &str, condition: &str) -> Result<()> {
    let what = format!("pool {name} to be {condition}");
    until(&what, MACHINES_LIMIT, || {
        let object = site.stage.get("nodepool", name)?;
        let yes = condition_of(&object, condition) == Some("True");
        ensure!(yes, "{name} is not {condition}: {:#}", object["status"]);
        Ok(())
    })
}

/// Registered by their own kubelets, labelled through the API, and complete in status.
fn check_workers(cluster: &Cluster<'_>, workers: &[Arc<Machine>]) -> Result<()> {
    for worker in workers {
        // The node-lifecycle controller takes its taint away a moment after a node has become ready.
        soon(|| {
            let node = cluster.kubectl(&["get", "node", worker.name(), "-o", "json"])?;
            let node: Value = serde_json::from_str(&node)?;
            let labels = &node["metadata"]["labels"];
            ensure!(labels["seedbed.dev/node-pool"].is_string(), "{labels}");
            ensure!(labels["seedbed.dev/revision"].is_string(), "{labels}");
            let taints = node["spec"]["taints"].as_array().map_or(0, Vec::len);
            ensure!(taints == 0, "{:#}", node["spec"]);
            Ok(())
        })?;
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
        let what = format!("a serving certificate of {}", worker.name());
        until(&what, SEED_LIMIT, || {
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

/// A machine that is switched on after more than three lifetimes of the token that it was given,
/// and waits for two more without an operator: its token has expired and is gone. It comes back
/// with the next operator, as the one that the machine has.
fn comes_while_nobody_is_there(cluster: &Cluster<'_>, machine: &Machine) -> Result<Replica> {
    let since = Instant::now();
    machine.boot()?;
    tell(NAME, "waiting for two lifetimes without an operator");
    std::thread::sleep(Duration::from_secs(120).saturating_sub(since.elapsed()));
    // Nor those of the open pool, which live longer.
    soon(|| no_token_is_there(cluster)).context("waiting for all tokens to expire")?;
    let nodes = cluster.kubectl(&["get", "nodes", "-o", "name"])?;
    ensure!(!nodes.contains(LATE.0), "joined by itself: {nodes}");
    let operator = cluster.site.stage.operator("seedbed-0")?;
    let came = Instant::now();
    wait_pool(cluster.site, "late", "NodesReady")?;
    let took = came.elapsed().as_secs_f64();
    tell(
        &cluster.name,
        &format!(
            "a machine that waited for two lifetimes without an operator was Ready {took:.1} s \
             after one came"
        ),
    );
    Ok(operator)
}

/// A listed worker is taken out: its pods go elsewhere, then its Node goes. One that a budget
/// protects stays until the deadline, and no longer.
fn taken_out(site: &Site, cluster: &Cluster<'_>, workers: &[Arc<Machine>]) -> Result<()> {
    let gone = LISTED[2].0;
    pods::run_protected(cluster, gone)?;
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
    let began = Instant::now();
    until("the budget to hold the drain", SEED_LIMIT, || {
        let listed = status(site, "listed")?.to_string();
        let words = "default/protected may not be evicted";
        ensure!(listed.contains(words), "{listed}");
        Ok(())
    })?;
    let leaving = [
        "get",
        "pod",
        "protected",
        "-o",
        "jsonpath={.metadata.deletionTimestamp}",
    ];
    let mut deleted = None;
    until("a drained Node to go", MACHINES_LIMIT, || {
        // No longer there, or with the time of its deletion.
        let leaves = match cluster.kubectl(&leaving) {
            Ok(time) => !time.is_empty(),
            Err(error) => format!("{error:#}").contains("NotFound"),
        };
        if leaves {
            deleted.get_or_insert_with(|| began.elapsed());
        }
        ensure!(deleted.is_some(), "the pod stays");
        let nodes = cluster.kubectl(&["get", "nodes", "-o", "name"])?;
        ensure!(!nodes.contains(gone), "{nodes}");
        Ok(())
    })?;
    let deleted = deleted.context("never seen")?;
    let near = Duration::from_secs(17)..Duration::from_secs(60);
    ensure!(near.contains(&deleted), "deleted after {deleted:?}");
    let found = site.stage.get("secret", &format!("{NAME}-{gone}"));
    ensure!(found.is_err(), "{gone} could boot again");
    let mut on = workers.iter();
    ensure!(on.any(|worker| worker.name() == gone && worker.is_on()));
    let seconds = [deleted, began.elapsed()].map(|time| time.as_secs_f64());
    tell(
        &cluster.name,
        &format!(
            "a worker was drained: its protected pod deleted after {:.1} s (deadline 20 s), its Node \
             after {:.1} s",
            seconds[0], seconds[1]
        ),
    );
    Ok(())
}
