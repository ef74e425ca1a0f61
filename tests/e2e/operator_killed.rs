//! The operator dies again and again during bring-up, and the result is the same: founded once,
//! every key made once, nothing written twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::cluster::{Cluster, soon};
use crate::site::{self, SEED_LIMIT, Site, soak, tell};
use crate::testbed::machine::Machine;
use crate::testbed::release::Replica;
use crate::testbed::stage::{NAMESPACE, condition_of, wait};
use crate::watch::Watch;
use crate::{converged, etcd, kills, pods};

/// The operator is killed so often before it has published everything, once when it just has, and
/// so often after the machines were switched on: ten times.
const KILLS: [u32; 2] = [4, 5];
/// It lives at most so long: its part before the machines takes less than a second, what follows
/// their start some seconds.
const LIVES: [Duration; 2] = [Duration::from_millis(800), Duration::from_secs(10)];

#[test]
fn the_result_is_the_same_however_often_the_operator_is_killed() {
    site::run(|site| {
        kills::seeded("killed", |first| {
            let rounds = if soak() { 5 } else { 1 };
            (first..first + rounds).try_for_each(|seed| {
                site.clear()?;
                killed_ten_times(site, seed).with_context(|| format!("in the round of seed {seed}"))
            })
        })
    });
}

fn killed_ten_times(site: &Site, seed: u64) -> Result<()> {
    let name = format!("killed-{seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let secrets = Watch::begin(site, "", "v1", "Secret")?;
    let etcds = Watch::begin(site, "seedbed.dev", "v1alpha1", "EtcdCluster")?;
    let cluster = site.apply(&name)?;
    let mut live_and_die = |phase: usize, meanwhile: &dyn Fn() -> Result<()>| -> Result<()> {
        let life = LIVES[phase].mul_f64(random.random());
        kills::live_and_die(site, || {
            meanwhile()?;
            std::thread::sleep(life);
            Ok(())
        })?;
        let found = progress(&cluster)?;
        tell(&name, &format!("killed after {life:?}: {found}"));
        Ok(())
    };
    for _ in 0..KILLS[0] {
        live_and_die(0, &|| Ok(()))?;
    }
    kills::live_and_die(site, || cluster.published().map(drop))?;

    let machines = cluster.machines()?;
    for machine in &machines {
        machine.boot()?;
    }
    for kill in 0..KILLS[1] {
        if kill == KILLS[1] / 2 {
            live_and_die(1, &|| restart_api_server(site))?;
        } else {
            live_and_die(1, &|| Ok(()))?;
        }
    }
    let operator = site.stage.operator("seedbed-0")?;
    cluster.wait_ready()?;
    soon(|| etcd::check_three_voters(&cluster, &machines).map(drop))?;
    pods::wait_addons(&cluster)?;
    converged::settle(&cluster, &operator)?;
    check_founded_once(&etcds, &name)?;
    check_made_once(&secrets, &cluster)?;
    check_written_once(&secrets, &cluster, &machines)?;
    check_take_over(&cluster, &machines, operator)
}

/// What a kill has interrupted.
fn progress(cluster: &Cluster<'_>) -> Result<String> {
    let label = format!("--selector=seedbed.dev/control-plane={}", cluster.name);
    let get = [
        "-n",
        NAMESPACE,
        "get",
        "secrets,configmaps,etcdclusters",
        &label,
        "-o",
        "name",
    ];
    let objects = cluster.site.stage.kubectl(&get)?.lines().count();
    let object = cluster.site.stage.get("controlplane", &cluster.name)?;
    let ready = condition_of(&object, "Ready").unwrap_or("unset");
    let etcd = object["status"]["etcdMembers"].as_str().unwrap_or("none");
    Ok(format!(
        "{objects} objects, etcd members: {etcd}, Ready: {ready}"
    ))
}

/// The seed's API server crashes under the running operator, and comes back.
fn restart_api_server(site: &Site) -> Result<()> {
    site.stage.seed.kill_api_server()?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(site.stage.seed.start_api_server())
}

/// One founding token, one cluster ID, in every version that was ever seen.
fn check_founded_once(etcds: &Watch, name: &str) -> Result<()> {
    let versions = etcds.versions_of(name);
    let seen = |pointer: &str| -> BTreeSet<String> {
        let values = versions
            .iter()
            .filter_map(|version| version.pointer(pointer));
        values.map(Value::to_string).collect()
    };
    for pointer in [
        "/status/ledger/founding",
        "/status/clusterID",
        "/metadata/uid",
    ] {
        let values = seen(pointer);
        ensure!(values.len() == 1, "{pointer} had the values {values:#?}");
    }
    let first = versions
        .iter()
        .position(|version| !version["status"]["clusterID"].is_null());
    let lost = versions[first.context("no cluster ID")?..]
        .iter()
        .find(|version| version["status"]["clusterID"].is_null());
    ensure!(lost.is_none(), "the cluster ID was forgotten: {lost:#?}");
    Ok(())
}

/// No key or certificate that was stored was ever replaced.
fn check_made_once(secrets: &Watch, cluster: &Cluster<'_>) -> Result<()> {
    let name = &cluster.name;
    let mut kept: Vec<String> = ["ca", "etcd", "proxy", "sa", "kubeconfig"]
        .map(|secret| format!("{name}-{secret}"))
        .into();
    kept.extend(["cp-1", "cp-2", "cp-3"].map(|machine| format!("{name}-{machine}-certs")));
    for secret in kept {
        let versions = secrets.versions_of(&secret);
        let data: BTreeSet<String> = versions.iter().map(|v| v["data"].to_string()).collect();
        ensure!(
            data.len() == 1,
            "{secret} was there with {} contents",
            data.len()
        );
    }
    Ok(())
}

/// Every object was created once, and every change of a machine config changed something. A write that was
/// stored while operator or API server died may be missing from the audit log.
fn check_written_once(
    secrets: &Watch,
    cluster: &Cluster<'_>,
    machines: &[Arc<Machine>],
) -> Result<()> {
    let writes = cluster.seed_writes()?;
    let of_this = writes.iter().filter(|write| {
        write.name.starts_with(&cluster.name) && write.resource != "events" && write.code < 300
    });
    let mut creations = BTreeMap::<(String, String), u32>::new();
    let mut patches = BTreeMap::<String, usize>::new();
    for write in of_this {
        if write.code == 201 {
            let object = (write.resource.clone(), write.name.clone());
            *creations.entry(object).or_default() += 1;
        }
        if write.resource == "secrets" {
            *patches.entry(write.name.clone()).or_default() += 1;
        }
    }
    // Eleven Secrets, the EtcdCluster and its ledger.
    ensure!(creations.len() <= 13, "{creations:#?}");
    ensure!(
        creations.values().all(|count| *count == 1),
        "{creations:#?}"
    );
    for (secret, writes) in patches {
        let contents: BTreeSet<String> = secrets
            .versions_of(&secret)
            .iter()
            .map(|version| version["data"].to_string())
            .collect();
        ensure!(
            contents.len() >= writes,
            "{secret}: {writes} writes made {} contents",
            contents.len()
        );
    }
    check_target_written_once(cluster, machines)
}

/// In the target: every object was created at most once, and nothing but the Nodes, which the
/// kubelets make, was written again.
fn check_target_written_once(cluster: &Cluster<'_>, machines: &[Arc<Machine>]) -> Result<()> {
    let requests = cluster.target_requests(machines)?;
    let mut writes = BTreeMap::<(String, String, String), Vec<u16>>::new();
    for request in requests.iter().filter(|r| r.changes() && r.code < 300) {
        let object = (
            request.resource.clone(),
            request.namespace.clone(),
            request.name.clone(),
        );
        writes.entry(object).or_default().push(request.code);
    }
    ensure!(writes.len() > 15, "{writes:#?}");
    for ((resource, namespace, name), codes) in &writes {
        let most = if resource == "nodes" { 2 } else { 1 };
        ensure!(
            codes.len() <= most,
            "{resource} {namespace}/{name}: {codes:?}"
        );
    }
    Ok(())
}

/// A second replica waits as long as the first one leads; when that one dies, it takes over by
/// itself, looks at everything, and has nothing to write.
fn check_take_over(cluster: &Cluster<'_>, machines: &[Arc<Machine>], first: Replica) -> Result<()> {
    let second = cluster.site.stage.operator("seedbed-1")?;
    wait(SEED_LIMIT, || second.get("/readyz").map(drop))?;
    ensure!(
        first.leads()? && !second.leads()?,
        "two leaders, or the wrong one"
    );
    let seed = cluster.seed_writes()?.len();
    let changes = || -> Result<usize> {
        let requests = cluster.target_requests(machines)?;
        Ok(requests.iter().filter(|request| request.changes()).count())
    };
    let target = changes()?;
    first.process().kill()?;
    wait(SEED_LIMIT, || {
        ensure!(second.leads()?, "the second replica does not take over");
        for kind in ["ControlPlane", "EtcdCluster"] {
            ensure!(second.reconciles(kind)? > 0.0, "{kind} is not reconciled");
        }
        Ok(())
    })?;
    converged::settle(cluster, &second)?;
    let writes = cluster.seed_writes()?;
    ensure!(
        writes.len() == seed,
        "the second replica wrote {:#?}",
        &writes[seed..]
    );
    ensure!(
        changes()? == target,
        "the second replica wrote in the target"
    );
    // Its own two, for its own certificates towards etcd and the target, are in memory only.
    let keys = second.metric("seedbed_keys_generated_total")?;
    ensure!(keys <= 2.0, "the second replica made {keys} keys");
    tell(
        &cluster.name,
        "the second replica has taken over and written nothing",
    );
    second.process().stop()
}
