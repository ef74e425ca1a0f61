//! Machines: names, addresses, labels, taints.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::Taint;

use super::text::qualified_name;
use super::{Checker, label_value, show};
use crate::crd::rules;
use crate::domain::NodeName;

/// Checks the name of a machine, which is its Node's name and the end of its Secrets' names.
///
/// `prod-ca` is a Secret of the ControlPlane itself, and `-certs` ends the one of a machine's
/// certificates.
pub fn machine_name(checker: &mut Checker, path: &str, text: &str) -> Option<NodeName> {
    let taken = rules::RESERVED_MACHINE_NAMES;
    if taken.contains(&text) || text.ends_with("-certs") {
        let message = format!(
            "{} would give the machine-config Secret a name that Seedbed uses for another Secret; \
             choose a name other than {} and not ending with -certs",
            show(text),
            taken.join(", ")
        );
        checker.invalid(path, message);
    }
    checker.take(path, text.parse::<NodeName>())
}

/// Checks an address at which other machines reach this one.
///
/// kubeadm's rule for `advertiseAddress` (`VerifyAPIServerBindAddress`): a concrete unicast address.
pub fn address(checker: &mut Checker, path: &str, text: &str) -> Option<IpAddr> {
    let Ok(address) = text.parse::<IpAddr>() else {
        let message = format!(
            "{} is not an IP address; write one such as 192.168.10.11",
            show(text)
        );
        checker.invalid(path, message);
        return None;
    };
    let kind = if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        Some("a multicast or broadcast address")
    } else if is_link_local(address) {
        Some("a link-local address")
    } else if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
        Some("an IPv4-mapped address")
    } else {
        None
    };
    if let Some(kind) = kind {
        let message = format!("{text} is {kind}; give the address at which others reach it");
        checker.invalid(path, message);
        return None;
    }
    if address.is_ipv6() {
        checker.not_yet(path, &format!("{text} is IPv6, give an IPv4 address"));
        return None;
    }
    Some(address)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Checks labels of a Node.
pub fn labels(
    checker: &mut Checker,
    path: &str,
    given: Option<&BTreeMap<String, String>>,
) -> BTreeMap<String, String> {
    let given = given.cloned().unwrap_or_default();
    for (key, value) in &given {
        qualified_name(checker, path, key);
        label_value(checker, &format!("{path}[{key}]"), value);
    }
    given
}

/// Checks taints of a Node: core/v1's rules, one of each key and effect.
pub fn taints(checker: &mut Checker, path: &str, given: &[Taint]) -> Vec<Taint> {
    let mut seen = BTreeSet::new();
    for (index, taint) in given.iter().enumerate() {
        let at = format!("{path}[{index}]");
        qualified_name(checker, &format!("{at}.key"), &taint.key);
        if let Some(value) = &taint.value {
            label_value(checker, &format!("{at}.value"), value);
        }
        if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&taint.effect.as_str()) {
            let message = format!(
                "{} is not an effect; use NoSchedule, PreferNoSchedule or NoExecute",
                show(&taint.effect)
            );
            checker.invalid(format!("{at}.effect"), message);
        }
        if taint.time_added.is_some() {
            checker.invalid(
                format!("{at}.timeAdded"),
                "is set by Kubernetes; leave it out",
            );
        }
        if !seen.insert((&taint.key, &taint.effect)) {
            let message = format!(
                "{} has the effect {} twice; keep one",
                show(&taint.key),
                show(&taint.effect)
            );
            checker.invalid(&at, message);
        }
    }
    given.to_vec()
}
