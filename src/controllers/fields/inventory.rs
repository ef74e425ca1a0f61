//! The inventory of a kind whose machines have addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Taint;

use super::{
    Checker, absolute_path, address, allowed_args, args, kubelet_patches, label_value, labels,
    machine_name, show, taints,
};
use crate::crd;
use crate::crd::rules::LISTENING_PORTS;
use crate::domain::{KubeletPatch, Machine, dns_subdomain};
use crate::manifests::ArgOwner;

/// Checks every machine; the ones that parsed, in order. `inherited` are the taints of a machine that
/// has none of its own; its own `patches` come after those of all.
pub fn inventory(
    checker: &mut Checker,
    machines: &[crd::Machine],
    inherited: &[Taint],
    patches: &[KubeletPatch],
) -> Vec<Machine> {
    let count = machines.len();
    if !(1..=64).contains(&count) {
        let message = format!("has {count} machines; list 1 to 64");
        checker.invalid("spec.machines", message);
    }
    unique(checker, machines);
    let machines = machines.iter();
    machines
        .filter_map(|given| machine(checker, given, inherited, patches))
        .collect()
}

/// Splits the inventory into the machines that are used and the others, both in its order. `field` is
/// the one that says how many.
pub fn split(
    checker: &mut Checker,
    field: &str,
    number: i32,
    listed: usize,
    inventory: Vec<Machine>,
) -> Option<(Vec<Machine>, Vec<Machine>)> {
    let path = format!("spec.{field}");
    let count = usize::try_from(number)
        .ok()
        .filter(|count| matches!(count, 1 | 3 | 5 | 7));
    let Some(count) = count else {
        let message = format!(
            "{number} is not 1, 3, 5 or 7; an even number of etcd members survives no more \
             failures than one member less"
        );
        checker.invalid(path, message);
        return None;
    };
    if count > listed {
        let message = format!(
            "{count} is more than the {listed} machines of spec.machines; add machines or lower \
             {field}"
        );
        checker.invalid(path, message);
    }
    if count > inventory.len() {
        return None;
    }
    let domains = inventory
        .iter()
        .map(|machine| machine.failure_domain.as_deref());
    let chosen = spread(domains, count);
    let (used, others): (Vec<_>, Vec<_>) = inventory
        .into_iter()
        .enumerate()
        .partition(|(index, _)| chosen.contains(index));
    let machines = |list: Vec<(usize, Machine)>| list.into_iter().map(|(_, m)| m).collect();
    Some((machines(used), machines(others)))
}

/// Indices of the machines that are used when none has been yet: round after round, the next machine
/// of each failure domain, domains and machines in the order of the inventory. A machine without a
/// failure domain is one of its own.
pub fn spread<'a>(domains: impl Iterator<Item = Option<&'a str>>, count: usize) -> Vec<usize> {
    let mut seen = BTreeMap::<&str, usize>::new();
    let mut order: Vec<(usize, usize)> = domains
        .enumerate()
        .map(|(index, domain)| {
            let round = domain.map_or(0, |domain| {
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

/// Checks that no two machines have one name or one address.
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
    let name = machine_name(checker, &at("name"), &given.name);
    let address = address(checker, &at("address"), &given.address);
    match given.failure_domain.as_deref() {
        Some("") => checker.invalid(
            at("failureDomain"),
            "is empty; name a domain or leave it out",
        ),
        Some(domain) => {
            label_value(checker, &at("failureDomain"), domain);
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
        absolute_path(
            checker,
            &format!("{base}.caDirectories[{index}]"),
            directory,
        );
    }
    if let Some(path) = &given.resolv_conf {
        absolute_path(checker, &at("resolvConf"), path);
    }
    let bind_port = bind_port(checker, &at("bindPort"), given.bind_port);
    let labels = labels(checker, &at("labels"), given.labels.as_ref());
    let taints = match &given.taints {
        Some(own) => taints(checker, &at("taints"), own),
        None => inherited.to_vec(),
    };
    let kubelet_extra_args = args(
        checker,
        &at("kubeletExtraArgs"),
        given.kubelet_extra_args.as_ref(),
    );
    let owner = ArgOwner::Kubelet;
    allowed_args(checker, &at("kubeletExtraArgs"), owner, &kubelet_extra_args);
    let own = kubelet_patches(checker, &at("patches"), given.patches.as_ref());
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
            absolute_path(checker, path, file);
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
