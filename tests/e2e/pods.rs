//! What runs in the target: addons, and pods that resolve names and reach the API.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::{Cluster, soon};
use crate::site::{MACHINES_LIMIT, until};
use crate::testbed::images::content::TOOLS_IMAGE;
use crate::testbed::machine::Machine;
use crate::testbed::stage::condition_of;

/// Waits until every kube-proxy and CoreDNS is as its owner wants it.
pub fn wait_addons(cluster: &Cluster<'_>) -> Result<()> {
    let get = |kind: &str, name: &str| -> Result<Value> {
        let get = ["-n", "kube-system", "get", kind, name, "-o", "json"];
        Ok(serde_json::from_str(&cluster.kubectl(&get)?)?)
    };
    until("the addons", MACHINES_LIMIT, || {
        let proxies = get("daemonset", "kube-proxy")?;
        let ready = proxies["status"]["numberReady"] == 3
            && proxies["status"]["updatedNumberScheduled"] == 3;
        ensure!(ready, "kube-proxy: {:#}", proxies["status"]);
        let dns = get("deployment", "coredns")?;
        let ready = dns["status"]["availableReplicas"] == dns["spec"]["replicas"];
        ensure!(ready, "CoreDNS: {:#}", dns["status"]);
        Ok(())
    })
    .with_context(|| about_pods(cluster))
}

/// What a pod does: asks DNS for the API's name, then the API by that name, under the pod's own
/// service account and trusting only the cluster's own CA.
const SCRIPT: &str = "cd /var/run/secrets/kubernetes.io/serviceaccount
until nslookup kubernetes.default.svc.cluster.local; do sleep 1; done
until curl --silent --show-error --fail --cacert ca.crt \
  --header \"Authorization: Bearer $(cat token)\" https://kubernetes.default.svc/version
do sleep 1; done";

/// A pod on each machine resolves and reaches the `kubernetes` Service by name.
pub fn check_service_by_name(cluster: &Cluster<'_>, machines: &[Arc<Machine>]) -> Result<()> {
    // Nothing can be created in a namespace before its service account is there.
    soon(|| cluster.kubectl(&["get", "serviceaccount", "default"]))?;
    let pods: Vec<Value> = machines.iter().map(|machine| pod(machine.name())).collect();
    let file = cluster.site.stage.state.join("probes.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": pods});
    std::fs::write(&file, list.to_string())?;
    let file = file.to_str().context("the path is not UTF-8")?;
    cluster.kubectl(&["apply", "-f", file])?;
    for machine in machines {
        let name = format!("probe-{}", machine.name());
        until(&format!("{name} to end"), MACHINES_LIMIT, || {
            let phase = ["get", "pod", &name, "-o", "jsonpath={.status.phase}"];
            let phase = cluster.kubectl(&phase)?;
            ensure!(phase == "Succeeded", "{name} is {phase}");
            Ok(())
        })
        .with_context(|| {
            let log = cluster.kubectl(&["logs", &name]);
            let log = log.unwrap_or_else(|error| format!("{error:#}"));
            format!("log of {name}:\n{log}\n{}", about_pods(cluster))
        })?;
        // A kubelet that asks for its serving certificate has it some seconds after it has joined.
        let log = soon(|| cluster.kubectl(&["logs", &name]))?;
        ensure!(
            log.contains("198.19.0.1"),
            "resolves to another address: {log}"
        );
        ensure!(log.contains("\"gitVersion\": \"v1.37.1\""), "{log}");
    }
    Ok(())
}

fn pod(node: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": format!("probe-{node}"), "namespace": "default"},
        "spec": {
            // Not `nodeName`: the scheduler has its part in this.
            "nodeSelector": {"kubernetes.io/hostname": node},
            "tolerations": [
                {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"},
            ],
            "restartPolicy": "Never",
            "containers": [{
                "name": "probe",
                "image": TOOLS_IMAGE,
                "imagePullPolicy": "Never",
                "command": ["sh", "-c", SCRIPT],
            }],
        },
    })
}

/// A pod that runs on this machine and that its budget lets nobody evict.
pub fn run_protected(cluster: &Cluster<'_>, node: &str) -> Result<()> {
    let labels = json!({"app": "protected"});
    let objects = json!([
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "protected", "namespace": "default"},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": labels}},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "protected", "namespace": "default", "labels": labels},
            "spec": {
                "nodeSelector": {"kubernetes.io/hostname": node},
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "sleep",
                    "image": TOOLS_IMAGE,
                    "imagePullPolicy": "Never",
                    "command": ["sleep", "3600"],
                }],
            },
        },
    ]);
    let file = cluster.site.stage.state.join("protected.json");
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    std::fs::write(&file, list.to_string())?;
    let file = file.to_str().context("the path is not UTF-8")?;
    cluster.kubectl(&["apply", "-f", file])?;
    until("the protected pod", MACHINES_LIMIT, || {
        let get = ["get", "pod", "protected", "-o", "json"];
        let pod: Value = serde_json::from_str(&cluster.kubectl(&get)?)?;
        let ready = condition_of(&pod, "Ready") == Some("True");
        ensure!(ready, "{:#}", pod["status"]);
        Ok(())
    })
    .with_context(|| about_pods(cluster))
}

fn about_pods(cluster: &Cluster<'_>) -> String {
    let ask = |arguments: &[&str]| {
        let answer = cluster.kubectl(arguments);
        answer.unwrap_or_else(|error| format!("{error:#}"))
    };
    format!(
        "{}\n{}",
        ask(&["get", "pods,nodes", "-A", "-o", "wide"]),
        ask(&["get", "events", "-A", "--sort-by=.lastTimestamp"])
    )
}
