//! Address ranges, DNS domain and endpoint.

use std::net::IpAddr;

use crate::controllers::fields::{self, Checker, show};
use crate::crd::{Arg, ControlPlaneSpec};
use crate::domain::{Cidr, HostPort, Machine, dns_subdomain};

/// The network with its defaults applied.
pub struct Network {
    pub pod_cidrs: Vec<Cidr>,
    pub service_cidrs: Vec<Cidr>,
    pub dns_domain: String,
}

/// Checks the ranges by kubeadm's rules (`ValidateIPNetFromString`, `ValidatePodSubnetNodeMask`)
/// and against each other and the machines.
pub fn network(checker: &mut Checker, spec: &ControlPlaneSpec, inventory: &[Machine]) -> Network {
    let given = spec.network.clone().unwrap_or_default();
    let services_path = "spec.network.serviceCIDRs";
    let service_texts = given.service_cidrs.unwrap_or_else(|| {
        checker.note_default(services_path, &"10.96.0.0/12");
        vec!["10.96.0.0/12".to_owned()]
    });
    if service_texts.is_empty() {
        checker.invalid(
            services_path,
            "is empty; give one range or leave the field out",
        );
    }
    let service_cidrs = ranges(checker, services_path, &service_texts);
    for (index, range) in service_cidrs.iter().enumerate() {
        let path = format!("{services_path}[{index}]");
        size(checker, &path, range, 4, 20);
    }
    let pods_path = "spec.network.podCIDRs";
    let pod_cidrs = ranges(checker, pods_path, &given.pod_cidrs.unwrap_or_default());
    for (index, range) in pod_cidrs.iter().enumerate() {
        let path = format!("{pods_path}[{index}]");
        size(checker, &path, range, 4, 24);
        node_mask(checker, spec, &path, range);
        if let Some(other) = service_cidrs.iter().find(|other| other.overlaps(range)) {
            let message = format!("{range} overlaps serviceCIDRs ({other}); use separate ranges");
            checker.invalid(&path, message);
        }
    }
    for machine in inventory {
        let path = format!("spec.machines[{}].address", machine.name);
        outside(checker, &path, &machine.address, &pod_cidrs, &service_cidrs);
    }
    let domain_path = "spec.network.dnsDomain";
    let dns_domain = checker.or_default(domain_path, given.dns_domain, "cluster.local".to_owned());
    checker.take(domain_path, dns_subdomain(&dns_domain));
    Network {
        pod_cidrs,
        service_cidrs,
        dns_domain,
    }
}

fn ranges(checker: &mut Checker, path: &str, texts: &[String]) -> Vec<Cidr> {
    let parsed: Vec<Cidr> = texts
        .iter()
        .enumerate()
        .filter_map(|(index, text)| checker.take(format!("{path}[{index}]"), text.parse()))
        .collect();
    if texts.len() > 2 {
        let message = format!("has {} ranges; give one", texts.len());
        checker.invalid(path, message);
    } else if let [first, second] = parsed.as_slice() {
        if first.is_ipv6() == second.is_ipv6() {
            checker.invalid(path, "has two ranges of one family; give one range");
        } else {
            checker.not_yet(
                path,
                "dual-stack needs a later release, give one IPv4 range",
            );
        }
    } else if let [only] = parsed.as_slice()
        && only.is_ipv6()
    {
        checker.not_yet(path, &format!("{only} is IPv6, give an IPv4 range"));
    }
    parsed
}

/// kubeadm wants at least 10 service and 14 pod addresses (both need 4 host bits) and at most 20
/// host bits of services.
fn size(checker: &mut Checker, path: &str, range: &Cidr, least_bits: u8, most_bits: u8) {
    let bits = range.host_bits();
    if range.is_ipv6() || (least_bits..=most_bits).contains(&bits) {
        return;
    }
    let message = if bits < least_bits {
        format!(
            "{range} is too small; use a prefix of at most /{}",
            32 - least_bits
        )
    } else {
        format!(
            "{range} is too large; use a prefix of at least /{}",
            32 - most_bits
        )
    };
    checker.invalid(path, message);
}

/// The controller manager cuts one range of `--node-cidr-mask-size` a node out of the pod range:
/// pod prefix <= node prefix <= pod prefix + 16.
fn node_mask(checker: &mut Checker, spec: &ControlPlaneSpec, path: &str, range: &Cidr) {
    if range.is_ipv6() {
        return;
    }
    let args = spec
        .controller_manager
        .as_ref()
        .and_then(|component| component.extra_args.as_deref())
        .unwrap_or_default();
    let last = |name: &str| args.iter().rev().find(|arg: &&Arg| arg.name == name);
    if last("allocate-node-cidrs").is_some_and(|arg| arg.value == "false") {
        return;
    }
    let given = last("node-cidr-mask-size-ipv4").or_else(|| last("node-cidr-mask-size"));
    let node_prefix = match given {
        None => 24,
        Some(arg) => match arg.value.parse::<u8>() {
            Ok(prefix) if prefix <= 32 => prefix,
            _ => {
                let message = format!(
                    "{} is not a prefix length; give {} a number of 0 to 32",
                    show(&arg.value),
                    arg.name
                );
                checker.invalid("spec.controllerManager.extraArgs", message);
                return;
            }
        },
    };
    let pod_prefix = 32 - range.host_bits();
    if !(pod_prefix..=pod_prefix.saturating_add(16)).contains(&node_prefix) {
        let message = format!(
            "{range} cannot be cut into ranges of /{node_prefix} for nodes; use a prefix of /{} to \
             /{node_prefix}, or set node-cidr-mask-size in controllerManager.extraArgs",
            node_prefix.saturating_sub(16)
        );
        checker.invalid(path, message);
    }
}

fn outside(
    checker: &mut Checker,
    path: &str,
    address: &IpAddr,
    pod_cidrs: &[Cidr],
    service_cidrs: &[Cidr],
) {
    for (field, ranges) in [("podCIDRs", pod_cidrs), ("serviceCIDRs", service_cidrs)] {
        if let Some(range) = ranges.iter().find(|range| range.contains(address)) {
            let message = format!("{address} lies in {field} ({range}); use separate ranges");
            checker.invalid(path, message);
        }
    }
}

/// Checks the endpoint: an IP address or a lower-case DNS name, required as soon as a second machine
/// may serve, because the address cannot be changed later.
pub fn endpoint(
    checker: &mut Checker,
    spec: &ControlPlaneSpec,
    network: &Network,
) -> Option<HostPort> {
    let Some(given) = &spec.endpoint else {
        if spec.machines.len() > 1 {
            let message = "is required with more than one machine in spec.machines; give the load \
                           balancer, virtual IP or DNS name in front of them";
            checker.invalid("spec.endpoint", message);
        }
        return None;
    };
    let host_path = "spec.endpoint.host";
    if given.host.parse::<IpAddr>().is_ok() {
        let address = fields::address(checker, host_path, &given.host)?;
        outside(
            checker,
            host_path,
            &address,
            &network.pod_cidrs,
            &network.service_cidrs,
        );
    } else if dns_subdomain(&given.host).is_err()
        || given.host.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    {
        let message = format!(
            "{} is neither an IP address nor a lower-case DNS name; write api.example.net, and the \
             port in endpoint.port",
            show(&given.host)
        );
        checker.invalid(host_path, message);
    }
    let port = checker.or_default("spec.endpoint.port", given.port, 6443);
    let port = checker.port("spec.endpoint.port", port)?;
    Some(HostPort {
        host: given.host.clone(),
        port,
    })
}
