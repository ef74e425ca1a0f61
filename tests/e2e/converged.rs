//! A converged control plane is left alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use crate::audit::Request;
use crate::cluster::Cluster;
use crate::site::{MACHINES_LIMIT, SEED_LIMIT, tell};
use crate::testbed::machine::Machine;
use crate::testbed::release::Replica;
use crate::testbed::stage::{NAMESPACE, wait};
use crate::user_data;

/// Reconciles of the ControlPlane without a write.
const RECONCILES: u32 = 20;
/// So many of them by an operator that has just started and knows nothing.
const RESTARTS: u32 = 4;

/// Waits for the last words of the bring-up: the control plane is ready, its etcd too, and both
/// have been looked at once more since.
pub fn settle(cluster: &Cluster<'_>, operator: &Replica) -> Result<()> {
    cluster.wait_etcd_healthy()?;
    reconcile(cluster, operator)?;
    reconcile(cluster, operator)
}

/// 20 more reconciles of the ControlPlane, and those of its EtcdCluster meanwhile, change nothing:
/// neither in the seed nor in the target. Returns the replica that runs then.
pub fn check_no_writes(
    cluster: &Cluster<'_>,
    machines: &[Arc<Machine>],
    mut operator: Replica,
) -> Result<Replica> {
    let seed = cluster.seed_writes()?.len();
    let target = cluster.target_requests(machines)?;
    ensure!(
        target.iter().any(Request::changes),
        "the audit log of the target is empty"
    );
    let keys = operator.metric("seedbed_keys_generated_total")?;
    for _ in 0..RECONCILES - RESTARTS {
        reconcile(cluster, &operator)?;
    }
    let generated = operator.metric("seedbed_keys_generated_total")?;
    ensure!(generated == keys, "{generated} keys after {keys}");
    for _ in 0..RESTARTS {
        operator.process().stop()?;
        operator = cluster.site.stage.operator(operator.process().name())?;
        for kind in ["ControlPlane", "EtcdCluster"] {
            wait(SEED_LIMIT, || {
                ensure!(operator.reconciles(kind)? > 0.0, "{kind} is not reconciled");
                Ok(())
            })?;
        }
    }
    let writes = cluster.seed_writes()?;
    ensure!(
        writes.len() == seed,
        "written in the seed: {:#?}",
        &writes[seed..]
    );
    let requests = cluster.target_requests(machines)?;
    ensure!(
        requests.len() > target.len(),
        "the target was not even read"
    );
    let count = |requests: &[Request]| requests.iter().filter(|r| r.changes()).count();
    ensure!(
        count(&requests) == count(&target),
        "written in the target: {:#?}",
        requests.iter().filter(|r| r.changes()).collect::<Vec<_>>()
    );
    tell(
        &cluster.name,
        &format!("{RECONCILES} reconciles without a write"),
    );
    Ok(operator)
}

/// Makes the operator look at the ControlPlane once: somebody annotates one of its Secrets.
fn reconcile(cluster: &Cluster<'_>, operator: &Replica) -> Result<()> {
    let before = operator.reconciles("ControlPlane")?;
    let secret = format!("{}-ca", cluster.name);
    let mark = format!("example.com/looked-at={before}");
    let annotate = [
        "-n",
        NAMESPACE,
        "annotate",
        "--overwrite",
        "secret",
        &secret,
        &mark,
    ];
    cluster.site.stage.kubectl(&annotate)?;
    wait(MACHINES_LIMIT, || {
        let now = operator.reconciles("ControlPlane")?;
        ensure!(now > before, "no reconcile after a change of {secret}");
        Ok(())
    })
}

/// Every machine's Secret now lets its member join what exists, and nothing but that.
pub fn check_secrets_say_existing(
    cluster: &Cluster<'_>,
    machines: &[Arc<Machine>],
    before: &[Vec<u8>],
) -> Result<()> {
    let state = |user_data: &[u8]| -> Result<String> {
        let config = user_data::parse(user_data);
        let etcd = config
            .write_files
            .iter()
            .find(|file| file.path == "/etc/kubernetes/manifests/etcd.yaml")
            .context("no etcd manifest")?;
        let text = String::from_utf8(etcd.bytes())?;
        let flag = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("- --initial-cluster-state="));
        Ok(flag.context("no --initial-cluster-state")?.to_owned())
    };
    let files = |user_data: &[u8]| -> BTreeSet<(String, Vec<u8>)> {
        let config = user_data::parse(user_data);
        let files = config.write_files.iter();
        files
            .map(|file| (file.path.clone(), file.bytes()))
            .collect()
    };
    for (machine, before) in machines.iter().zip(before) {
        let now = cluster
            .site
            .stage
            .user_data(&cluster.name, machine.name())?;
        ensure!(
            state(before)? == "new",
            "{} booted with another state",
            machine.name()
        );
        ensure!(
            state(&now)? == "existing",
            "{} is still a founder",
            machine.name()
        );
        let changed: BTreeSet<String> = files(&now)
            .difference(&files(before))
            .map(|(path, _)| path.clone())
            .collect();
        let expected = BTreeSet::from(["/etc/kubernetes/manifests/etcd.yaml".to_owned()]);
        ensure!(changed == expected, "also changed: {changed:?}");
    }
    Ok(())
}
