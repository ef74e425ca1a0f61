//! The inventory: which machines there are and which of them serve.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Taint;

use crate::controllers::fields::{self, Checker, show};
use crate::crd::rules::LISTENING_PORTS;
use crate::crd::{self, ControlPlaneSpec};
use crate::domain::{KubeletPatch, Machine, dns_subdomain};
use crate::manifests::ArgOwner;

/// Checks every machine; the ones that parsed, in order.
pub fn inventory(checker: &mut Checker, spec: &ControlPlaneSpec) -> Vec<Machine> {
    let count = spec.machines.len();
    if !(1..=64).contains(&count) {
        let message = format!("has {count} machines; list 1 to 64");
        checker.invalid("spec.machines", message);
    }
    let taints = match &spec.taints {
        Some(taints) => fields::taints(checker, "spec.taints", taints),
        None => {
            checker.note_default(
                "spec.taints",
                &"node-role.kubernetes.io/control-plane:NoSchedule",
            );
            vec![Taint {
                key: "node-role.kubernetes.io/control-plane".to_owned(),
                effect: "NoSchedule".to_owned(),
                ..Taint::default()
            }]
        }
    };
    let patches = fields::kubelet_patches(checker, "spec.patches", spec.patches.as_ref());
    unique(checker, &spec.machines);
    let machines = spec.machines.iter();
    machines
        .filter_map(|given| machine(checker, given, &taints, &patches))
        .collect()
}

fn unique(checker: &mut Checker, machines: &[crd::Machine]) {
    let mut names = BTreeMap::<&str, usize>::new();
    let mut addresses = BTreeMap::<IpAddr, &str>::new();
    for machine in machines {
        let count = names.entry(&machine.name).or_default();
        *count += 1;
        if *count == 2 {
            let message = format!(
                "{} is the name of two machines; rename one",
                show(&machine.name)
            );
            checker.invalid("spec.machines", message);
        }
        let Ok(address) = machine.address.parse() else {
            continue;
        };
        if let Some(other) = addresses.insert(address, &machine.name) {
            let path = format!("spec.machines[{}].address", machine.name);
            let message = format!(
                "{address} is also the address of {}; give each machine its own",
                show(other)
            );
            checker.invalid(path, message);
        }
    }
}

fn machine(
    checker: &mut Checker,
    given: &crd::Machine,
    inherited: &[Taint],
    patches: &[KubeletPatch],
) -> Option<Machine> {
    let base = format!("spec.machines[{}]", given.name);
    let at = |field: &str| format!("{base}.{field}");
    let name = fields::machine_name(checker, &at("name"), &given.name);
    let address = fields::address(checker, &at("address"), &given.address);
    match given.failure_domain.as_deref() {
        Some("") => checker.invalid(
            at("failureDomain"),
            "is empty; name a domain or leave it out",
        ),
        Some(domain) => {
            fields::label_value(checker, &at("failureDomain"), domain);
        }
        None => {}
    }
    if let Some(hostname) = &given.hostname {
        checker.take(
            at("hostname"),
            dns_subdomain(&hostname.to_ascii_lowercase()).map(|_| ()),
        );
    }
    let cri_socket = cri_socket(checker, &at("criSocket"), given.cri_socket.clone());
    let ca_directories = given.ca_directories.clone().unwrap_or_default();
    for (index, directory) in ca_directories.iter().enumerate() {
        fields::absolute_path(
            checker,
            &format!("{base}.caDirectories[{index}]"),
            directory,
        );
    }
    if let Some(path) = &given.resolv_conf {
        fields::absolute_path(checker, &at("resolvConf"), path);
    }
    let bind_port = bind_port(checker, &at("bindPort"), given.bind_port);
    let labels = fields::labels(checker, &at("labels"), given.labels.as_ref());
    let taints = match &given.taints {
        Some(own) => fields::taints(checker, &at("taints"), own),
        None => inherited.to_vec(),
    };
    let kubelet_extra_args = fields::args(
        checker,
        &at("kubeletExtraArgs"),
        given.kubelet_extra_args.as_ref(),
    );
    let owner = ArgOwner::Kubelet;
    fields::allowed_args(checker, &at("kubeletExtraArgs"), owner, &kubelet_extra_args);
    let own = fields::kubelet_patches(checker, &at("patches"), given.patches.as_ref());
    Some(Machine {
        name: name?,
        address: address?,
        failure_domain: given.failure_domain.clone(),
        hostname: given.hostname.clone(),
        cri_socket,
        labels,
        taints,
        ca_directories,
        resolv_conf: given.resolv_conf.clone(),
        kubelet_extra_args,
        kubelet_patches: [patches, &own].concat(),
        bind_port: bind_port?,
    })
}

fn cri_socket(checker: &mut Checker, path: &str, given: Option<String>) -> String {
    let default = "unix:///run/containerd/containerd.sock";
    let Some(socket) = given else {
        checker.note_default("machines[].criSocket", &default);
        return default.to_owned();
    };
    match socket.strip_prefix("unix://") {
        Some(file) => {
            fields::absolute_path(checker, path, file);
        }
        None => {
            let message = format!("{} is not a socket; write it as {default}", show(&socket));
            checker.invalid(path, message);
        }
    }
    socket
}

fn bind_port(checker: &mut Checker, path: &str, given: Option<i32>) -> Option<u16> {
    let Some(port) = given else {
        checker.note_default("machines[].bindPort", &6443);
        return Some(6443);
    };
    let port = checker.port(path, port)?;
    if LISTENING_PORTS.contains(&port) {
        let message = format!("{port} is taken by another component; use 6443 or a free port");
        checker.invalid(path, message);
        return None;
    }
    Some(port)
}

/// Splits the inventory into machines that serve and spares, both in the order of the inventory.
pub fn split(
    checker: &mut Checker,
    spec: &ControlPlaneSpec,
    inventory: Vec<Machine>,
) -> Option<(Vec<Machine>, Vec<Machine>)> {
    let replicas = spec.replicas;
    let count = usize::try_from(replicas)
        .ok()
        .filter(|count| matches!(count, 1 | 3 | 5 | 7));
    let Some(count) = count else {
        let message = format!(
            "{replicas} is not 1, 3, 5 or 7; an even number of etcd members survives no more \
             failures than one member less"
        );
        checker.invalid("spec.replicas", message);
        return None;
    };
    if count > spec.machines.len() {
        let message = format!(
            "{count} is more than the {} machines of spec.machines; add machines or lower replicas",
            spec.machines.len()
        );
        checker.invalid("spec.replicas", message);
    }
    if count > inventory.len() {
        return None;
    }
    let chosen = choose_serving(&inventory, count);
    let (serving, spares): (Vec<_>, Vec<_>) = inventory
        .into_iter()
        .enumerate()
        .partition(|(index, _)| chosen.contains(index));
    let machines = |list: Vec<(usize, Machine)>| list.into_iter().map(|(_, m)| m).collect();
    Some((machines(serving), machines(spares)))
}

/// Indices of the machines that serve when none has served yet: round after round, the next machine
/// of each failure domain, domains and machines in the order of the inventory. A machine without a
/// failure domain is one of its own.
pub fn choose_serving(inventory: &[Machine], count: usize) -> Vec<usize> {
    let mut seen = BTreeMap::<&str, usize>::new();
    let mut order: Vec<(usize, usize)> = inventory
        .iter()
        .enumerate()
        .map(|(index, machine)| {
            let round = machine.failure_domain.as_deref().map_or(0, |domain| {
                let count = seen.entry(domain).or_default();
                *count += 1;
                *count - 1
            });
            (round, index)
        })
        .collect();
    order.sort_unstable();
    let mut chosen: Vec<usize> = order.into_iter().take(count).map(|(_, i)| i).collect();
    chosen.sort_unstable();
    chosen
}
