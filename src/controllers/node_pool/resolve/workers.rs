//! The machines of a pool.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Taint;

use crate::controllers::fields::{self, Checker, show};
use crate::crd::{self, NodePoolSpec, rules};
use crate::domain::{ControlPlane, KubeletPatch, NodeName, Worker, Workers, dns_subdomain};
use crate::manifests::ArgOwner;

const CRI_SOCKET: &str = "unix:///run/containerd/containerd.sock";
/// Label of a Node with its failure domain.
const ZONE: &str = "topology.kubernetes.io/zone";

/// Checks all of them; gives those that are used.
pub fn workers(
    checker: &mut Checker,
    pool: &str,
    spec: &NodePoolSpec,
    cluster: Option<&ControlPlane>,
) -> Option<Workers> {
    let labels = fields::labels(checker, "spec.labels", spec.labels.as_ref());
    own_labels(checker, "spec.labels", &labels);
    let taints = spec.taints.clone().unwrap_or_default();
    let taints = fields::taints(checker, "spec.taints", &taints);
    let inherited = Inherited {
        labels,
        taints,
        patches: fields::kubelet_patches(checker, "spec.patches", spec.patches.as_ref()),
    };
    match (&spec.machines, spec.max_nodes) {
        (Some(machines), None) => listed(checker, machines, spec.replicas, inherited, cluster),
        (None, Some(max_nodes)) => {
            if spec.replicas.is_some() {
                let message = "an open pool has none; remove replicas, or list the machines";
                checker.invalid("spec.replicas", message);
            }
            free_name(checker, "metadata.name", pool);
            checker.within("spec.maxNodes", max_nodes.into(), 1, 5000);
            Some(Workers::Open {
                worker: Worker {
                    name: None,
                    hostname: None,
                    cri_socket: CRI_SOCKET.to_owned(),
                    labels: inherited.labels,
                    taints: inherited.taints,
                    resolv_conf: None,
                    kubelet_extra_args: Vec::new(),
                    kubelet_patches: inherited.patches,
                },
                max_nodes: usize::try_from(max_nodes).unwrap_or_default(),
            })
        }
        _ => {
            let message = "list the machines (spec.machines), or say how many Nodes may join by \
                           themselves (spec.maxNodes); give one of the two";
            checker.invalid("spec.machines", message);
            None
        }
    }
}

/// What every machine has from its pool.
struct Inherited {
    labels: BTreeMap<String, String>,
    taints: Vec<Taint>,
    patches: Vec<KubeletPatch>,
}

fn listed(
    checker: &mut Checker,
    machines: &[crd::Worker],
    replicas: Option<i32>,
    inherited: Inherited,
    cluster: Option<&ControlPlane>,
) -> Option<Workers> {
    if !(1..=512).contains(&machines.len()) {
        let message = format!("has {} machines; list 1 to 512", machines.len());
        checker.invalid("spec.machines", message);
    }
    let mut seen = BTreeSet::new();
    let mut workers = Vec::new();
    for machine in machines {
        if !seen.insert(machine.name.as_str()) {
            let message = format!(
                "{} is the name of two machines; rename one",
                show(&machine.name)
            );
            checker.invalid("spec.machines", message);
        }
        workers.extend(worker(checker, machine, &inherited, cluster));
    }
    let count = i64::try_from(machines.len()).unwrap_or(i64::MAX);
    let replicas = replicas.map_or(count, i64::from);
    if !(0..=count).contains(&replicas) {
        let message = format!(
            "{replicas} is not 0 to {count}, the number of spec.machines; add machines or lower \
             replicas"
        );
        checker.invalid("spec.replicas", message);
    }
    workers.truncate(usize::try_from(replicas).unwrap_or_default());
    Some(Workers::Listed(workers))
}

fn worker(
    checker: &mut Checker,
    given: &crd::Worker,
    inherited: &Inherited,
    cluster: Option<&ControlPlane>,
) -> Option<Worker> {
    let base = format!("spec.machines[{}]", given.name);
    let at = |field: &str| format!("{base}.{field}");
    free_name(checker, &at("name"), &given.name);
    let name = checker.take(at("name"), given.name.parse::<NodeName>());
    if let Some(cluster) = cluster
        && name
            .as_ref()
            .is_some_and(|name| is_control_plane(cluster, name))
    {
        let message = format!(
            "{} is a machine of ControlPlane {}; a worker needs a name of its own",
            show(&given.name),
            show(&cluster.name)
        );
        checker.invalid(at("name"), message);
    }
    if let Some(hostname) = &given.hostname {
        let lower = hostname.to_ascii_lowercase();
        checker.take(at("hostname"), dns_subdomain(&lower).map(drop));
    }
    let cri_socket = given.cri_socket.as_deref().unwrap_or(CRI_SOCKET);
    match cri_socket.strip_prefix("unix://") {
        Some(file) => {
            fields::absolute_path(checker, &at("criSocket"), file);
        }
        None => {
            let message = format!(
                "{} is not a socket; write it as {CRI_SOCKET}",
                show(cri_socket)
            );
            checker.invalid(at("criSocket"), message);
        }
    }
    if let Some(path) = &given.resolv_conf {
        fields::absolute_path(checker, &at("resolvConf"), path);
    }
    let mut labels = inherited.labels.clone();
    let own = fields::labels(checker, &at("labels"), given.labels.as_ref());
    own_labels(checker, &at("labels"), &own);
    labels.extend(own);
    if let Some(domain) = &given.failure_domain {
        fields::label_value(checker, &at("failureDomain"), domain);
        labels.entry(ZONE.to_owned()).or_insert(domain.clone());
    }
    let taints = match &given.taints {
        Some(own) => fields::taints(checker, &at("taints"), own),
        None => inherited.taints.clone(),
    };
    let path = at("kubeletExtraArgs");
    let kubelet_extra_args = fields::args(checker, &path, given.kubelet_extra_args.as_ref());
    fields::allowed_args(checker, &path, ArgOwner::Kubelet, &kubelet_extra_args);
    let mut kubelet_patches = inherited.patches.clone();
    let own = fields::kubelet_patches(checker, &at("patches"), given.patches.as_ref());
    kubelet_patches.extend(own);
    Some(Worker {
        name: Some(name?),
        hostname: given.hostname.clone(),
        cri_socket: cri_socket.to_owned(),
        labels,
        taints,
        resolv_conf: given.resolv_conf.clone(),
        kubelet_extra_args,
        kubelet_patches,
    })
}

/// Whether a control-plane machine, in use or spare, has this name.
pub fn is_control_plane(cluster: &ControlPlane, name: &NodeName) -> bool {
    let mut machines = cluster.machines.iter().chain(&cluster.spares);
    machines.any(|machine| machine.name == *name)
}

/// The machine-config Secret is called `<control plane>-<name>`, as others are.
fn free_name(checker: &mut Checker, path: &str, name: &str) {
    let taken = rules::RESERVED_MACHINE_NAMES;
    let ends = ["-certs", "-tokens", "-etcd-ledger"];
    if taken.contains(&name) || ends.iter().any(|end| name.ends_with(end)) {
        let message = format!(
            "{} would give the machine-config Secret a name that Seedbed uses for something else; \
             choose a name other than {} and not ending with {}",
            show(name),
            taken.join(", "),
            ends.join(", ")
        );
        checker.invalid(path, message);
    }
}

/// Labels by which Seedbed finds its Nodes, and those that only a control plane may have.
fn own_labels(checker: &mut Checker, path: &str, labels: &BTreeMap<String, String>) {
    for key in labels.keys() {
        let control_plane = key == "node-role.kubernetes.io/control-plane";
        if key.starts_with("seedbed.dev/") || control_plane {
            let message = format!("{} is set by Seedbed alone; remove it", show(key));
            checker.invalid(format!("{path}[{key}]"), message);
        }
    }
}
