//! Rules of addresses, ranges and the endpoint.

use kube::core::Rule;

use super::{DNS, rule};

pub fn endpoint_host() -> Rule {
    rule(
        format!(
            "isIP(self) ? ip.isCanonical(self) && ip(self).isGlobalUnicast() : self.matches('^{DNS}$') && !self.matches('^[0-9.]+$')"
        ),
        "host must be a lower-case DNS name or an IP address that clients can reach, without port, for example api.example.net",
    )
}

pub fn endpoint_required() -> Rule {
    rule(
        "self.machines.size() <= 1 || has(self.endpoint)",
        "endpoint is required with more than one machine; give the load balancer, virtual IP or DNS name in front of them",
    )
}

pub fn cidrs(field: &str) -> Rule {
    rule(
        "self.all(c, isCIDR(c) && cidr(c) == cidr(c).masked())",
        format!(
            "{field} must be address ranges whose host bits are zero, for example 10.128.0.0/16"
        ),
    )
}

pub fn at_least_one(field: &str) -> Rule {
    rule(
        "self.size() > 0",
        format!("{field} must not be empty; give one range or leave the field out"),
    )
}

pub fn cidr_families(field: &str) -> Rule {
    rule(
        "self.size() != 2 || !self.all(c, isCIDR(c)) || cidr(self[0]).ip().family() != cidr(self[1]).ip().family()",
        format!(
            "{field} must have one range, or one of IPv4 and one of IPv6; remove one of the two"
        ),
    )
}

/// kubeadm: at least 14 addresses; the controller manager: at most 16 bits of nodes of /24.
pub fn pod_cidr_size() -> Rule {
    rule(
        "self.all(c, !isCIDR(c) || (cidr(c).ip().family() == 4 ? cidr(c).prefixLength() >= 8 && cidr(c).prefixLength() <= 28 : cidr(c).prefixLength() <= 124))",
        "podCIDRs must be ranges of /8 to /28 for IPv4 and at most /124 for IPv6; choose another prefix",
    )
}

/// kubeadm: at least 10 addresses and at most 20 host bits.
pub fn service_cidr_size() -> Rule {
    rule(
        "self.all(c, !isCIDR(c) || (cidr(c).ip().family() == 4 ? cidr(c).prefixLength() >= 12 && cidr(c).prefixLength() <= 28 : cidr(c).prefixLength() >= 108 && cidr(c).prefixLength() <= 124))",
        "serviceCIDRs must be ranges of /12 to /28 for IPv4 and of /108 to /124 for IPv6; choose another prefix",
    )
}

/// The default of `serviceCIDRs` is written out, because CEL's cost estimate cannot see the size of
/// a value behind `orValue` or a conditional.
pub fn ranges_apart() -> Rule {
    let apart = |range: &str| {
        format!("!cidr(p).containsCIDR(cidr({range})) && !cidr({range}).containsCIDR(cidr(p))")
    };
    rule(
        format!(
            "!has(self.podCIDRs) || self.podCIDRs.all(p, !isCIDR(p) || (has(self.serviceCIDRs) ? self.serviceCIDRs.all(s, !isCIDR(s) || ({})) : ({})))",
            apart("s"),
            apart("'10.96.0.0/12'")
        ),
        "podCIDRs and serviceCIDRs (default 10.96.0.0/12) must not overlap; use separate ranges",
    )
}

pub fn machines_outside_ranges() -> Rule {
    let outside = |range: &str| {
        format!("self.machines.all(m, !isIP(m.address) || !cidr({range}).containsIP(m.address))")
    };
    let given = |field: &str| format!("has(self.network) && has(self.network.{field})");
    let all = |field: &str| {
        format!(
            "self.network.{field}.all(c, !isCIDR(c) || {})",
            outside("c")
        )
    };
    rule(
        format!(
            "(!({}) || {}) && ({} ? {} : {})",
            given("podCIDRs"),
            all("podCIDRs"),
            given("serviceCIDRs"),
            all("serviceCIDRs"),
            outside("'10.96.0.0/12'"),
        ),
        "machines: address must lie outside network.podCIDRs and network.serviceCIDRs (default 10.96.0.0/12); use separate ranges",
    )
}
