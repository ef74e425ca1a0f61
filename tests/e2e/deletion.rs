//! Deleting a ControlPlane takes away what it owns in the seed, and nothing else.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use crate::audit::Request;
use crate::cluster::Cluster;
use crate::site::{SEED_LIMIT, Site, tell};
use crate::testbed::machine::Machine;
use crate::testbed::stage::{NAMESPACE, wait};

/// Names of everything in the namespace that can hold something of ours.
pub fn objects(site: &Site) -> Result<Vec<String>> {
    let kinds = "controlplanes,etcdclusters,nodepools,secrets,configmaps,leases,services,\
                 serviceaccounts,roles,rolebindings";
    let get = ["-n", NAMESPACE, "get", kinds, "-o", "name"];
    let mut names: Vec<String> = site
        .stage
        .kubectl(&get)?
        .lines()
        .map(str::to_owned)
        .collect();
    names.sort();
    Ok(names)
}

/// Of each container of the control plane: which one runs, and how often it was started anew.
fn static_pods(cluster: &Cluster<'_>, machines: &[Arc<Machine>]) -> Result<Vec<String>> {
    let get = ["-n", "kube-system", "pods", "-l", "tier=control-plane"];
    let pods = cluster.list_at(&machines[0], &get)?;
    ensure!(pods.len() == 12, "{} static pods", pods.len());
    let mut running: Vec<String> = pods
        .iter()
        .map(|pod| {
            let container = &pod["status"]["containerStatuses"][0];
            let (id, count) = (&container["containerID"], &container["restartCount"]);
            format!("{} {id} {count}", pod["metadata"]["name"])
        })
        .collect();
    running.sort();
    Ok(running)
}

/// Deletes it: what it owned goes, the machines go on. `before` is what was in the namespace
/// before it was applied.
pub fn check(cluster: &Cluster<'_>, machines: &[Arc<Machine>], before: &[String]) -> Result<()> {
    let owned: Vec<String> = objects(cluster.site)?
        .into_iter()
        .filter(|name| !before.contains(name))
        .collect();
    // Five shared Secrets, two a machine, the EtcdCluster, its ledger, and the ControlPlane.
    ensure!(owned.len() == 14, "{owned:#?}");
    let running = static_pods(cluster, machines)?;
    // Read before the Secret goes.
    cluster.kubeconfig()?;
    let target = cluster.target_requests(machines)?;
    let count = |requests: &[Request]| requests.iter().filter(|r| r.changes()).count();

    let delete = [
        "-n",
        NAMESPACE,
        "delete",
        "controlplane",
        &cluster.name,
        "--wait=true",
    ];
    cluster.site.stage.kubectl(&delete)?;
    wait(SEED_LIMIT, || {
        let left = objects(cluster.site)?;
        ensure!(
            left == before,
            "left behind: {left:#?}, before: {before:#?}"
        );
        Ok(())
    })?;

    // The Secret is gone; the copy that an administrator has keeps working.
    for machine in machines {
        ensure!(machine.is_on(), "{} was switched off", machine.name());
        let answer = cluster.kubectl_at(machine, &["get", "--raw=/readyz"]);
        answer.with_context(|| format!("{} no longer serves", machine.name()))?;
    }
    let still = static_pods(cluster, machines)?;
    ensure!(still == running, "{still:#?}\nwere\n{running:#?}");
    let after = cluster.target_requests(machines)?;
    ensure!(
        count(&after) == count(&target),
        "written in the target after the deletion"
    );
    tell(
        &cluster.name,
        "deleted; everything it owned is gone, the machines still serve",
    );
    Ok(())
}
