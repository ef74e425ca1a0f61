//! CEL rules of the schema. Each message names the field and the fix; the API server adds the path
//! and the value.
//!
//! `resolve` checks the same again, because objects may be older than a rule. Rules that compare
//! with `oldSelf` on an optional field stand on its parent: on the field itself the API server
//! skips them when the field is added or removed.

use kube::core::Rule;

use crate::versions::{kubelet_minors, supported_minors};

mod change;
mod network;

pub use change::*;
pub use network::*;

/// Endings of Secrets that are not machine configs: `<name>-ca` and so on. No machine may have such
/// a name, nor one that ends with `-certs`.
pub const RESERVED_MACHINE_NAMES: [&str; 5] = ["ca", "etcd", "proxy", "sa", "kubeconfig"];

/// Ports on which other components of a control-plane machine listen: etcd (client, peer, metrics),
/// kubelet (health, API), kube-proxy (metrics, health), controller manager, scheduler.
pub const LISTENING_PORTS: [u16; 9] = [2379, 2380, 2381, 10248, 10249, 10250, 10256, 10257, 10259];

/// `IsDNS1123Subdomain` of apimachinery, without anchors.
const DNS: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";

fn rule(expression: impl Into<String>, message: impl AsRef<str>) -> Rule {
    Rule::new(expression).message(message.as_ref())
}

pub fn arg_name() -> Rule {
    rule(
        "self.matches('^[A-Za-z0-9_.][A-Za-z0-9_.-]*$')",
        "name must be a flag without leading dashes and without '=', for example audit-log-path",
    )
}

pub fn volume_name() -> Rule {
    rule(
        "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
        "name must consist of lower-case letters, digits and '-'",
    )
}

pub fn unique_mount_paths() -> Rule {
    rule(
        "self.all(v, self.exists_one(w, w.mountPath == v.mountPath))",
        "mountPath must differ between the volumes; change one of them",
    )
}

pub fn absolute_path(field: &str) -> Rule {
    rule(
        r"self == '/' || (self.matches('^(/[^/]+)+$') && !self.matches('/\\.\\.?(/|$)'))",
        format!(
            "{field} must be an absolute path without '..', '//' and a trailing '/', for example /etc/example"
        ),
    )
}

pub fn absolute_paths(field: &str) -> Rule {
    rule(
        r"self.all(p, p.matches('^(/[^/]+)+$') && !p.matches('/\\.\\.?(/|$)'))",
        format!(
            "{field} must be absolute paths without '..', '//' and a trailing '/', for example /etc/ssl/certs"
        ),
    )
}

/// A folder of the operator's own, hence not `/`; a trailing slash does no harm.
pub fn folder(field: &str) -> Rule {
    rule(
        r"self.matches('^(/[^/]+)+/?$') && !self.matches('/\\.\\.?(/|$)')",
        format!(
            "{field} must be an absolute path below '/' without '..' and '//', for example /srv/{field}"
        ),
    )
}

pub fn object_name(field: &str) -> Rule {
    rule(
        format!("self.matches('^{DNS}$')"),
        format!(
            "{field} must be the name of an object in the same namespace: lower-case letters, digits, '-' and '.'"
        ),
    )
}

pub fn data_key() -> Rule {
    rule(
        "self.matches('^[-._a-zA-Z0-9]+$')",
        "key must be a key of the object's data: letters, digits, '-', '_' and '.'",
    )
}

pub fn dns_name(field: &str) -> Rule {
    rule(
        format!("self.matches('^{DNS}$')"),
        format!(
            "{field} must be a DNS-1123 subdomain: lower-case letters, digits, '-' and '.', for example prod.example.net"
        ),
    )
}

pub fn node_name() -> Rule {
    rule(
        format!("self.matches('^{DNS}$')"),
        "name must be a Node name, a DNS-1123 subdomain: lower-case letters, digits, '-' and '.', for example cp-1",
    )
}

pub fn free_secret_name() -> Rule {
    let names = RESERVED_MACHINE_NAMES.join("', '");
    rule(
        format!("!(self in ['{names}']) && !self.endsWith('-certs')"),
        format!(
            "name must not be {} or end with -certs, because its machine-config Secret would have the name of another Secret; choose another name",
            RESERVED_MACHINE_NAMES.join(", ")
        ),
    )
}

pub fn hostname() -> Rule {
    rule(
        "self.matches('^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$')",
        "hostname must be a host name: letters, digits, '-' and '.', for example node1.example.net",
    )
}

pub fn label_value(field: &str) -> Rule {
    rule(
        "self.matches('^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$')",
        format!(
            "{field} must be a label value: letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
        ),
    )
}

pub fn cri_socket() -> Rule {
    rule(
        "self.matches('^unix://(/[^/]+)+$')",
        "criSocket must be a socket such as unix:///run/containerd/containerd.sock",
    )
}

pub fn machine_address() -> Rule {
    rule(
        "isIP(self) && ip.isCanonical(self) && ip(self).isGlobalUnicast()",
        "address must be an IP address at which others reach the machine, not an unspecified, loopback, multicast or link-local one; write it as 192.168.10.11",
    )
}

pub fn unique_addresses() -> Rule {
    rule(
        "self.all(m, self.exists_one(n, n.address == m.address))",
        "address must differ between machines; give each machine its own",
    )
}

pub fn bind_port() -> Rule {
    let ports = LISTENING_PORTS.map(|port| port.to_string()).join(", ");
    rule(
        format!("!(self in [{ports}])"),
        format!(
            "bindPort must not be a port of another component ({ports}); use 6443 or a free port"
        ),
    )
}

pub fn permissions() -> Rule {
    rule(
        "self.matches('^[0-7]{3,4}$')",
        "permissions must be octal digits in quotes such as \"0644\"",
    )
}

pub fn owner() -> Rule {
    rule(
        "self.matches('^[A-Za-z0-9_.][-A-Za-z0-9_.]*:[A-Za-z0-9_.][-A-Za-z0-9_.]*$')",
        "owner must be user:group such as root:root",
    )
}

/// A Go duration within bounds. The digits are bounded so that CEL's `duration` cannot overflow.
pub fn duration(field: &str, least: &str, most: &str) -> Rule {
    rule(
        format!(
            "self.matches('^([0-9]{{1,6}}h)?([0-9]{{1,8}}m)?([0-9]{{1,9}}s)?$') && duration(self) >= duration('{least}') && duration(self) <= duration('{most}')"
        ),
        format!(
            "{field} must be a duration of {least} to {most} in hours, minutes and seconds such as 24h, 15m or 1h30m"
        ),
    )
}

pub fn image_repository(field: &str) -> Rule {
    rule(
        r"self.matches('^[a-z0-9]([a-z0-9._-]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]([a-z0-9._-]*[a-z0-9])?)*$')",
        format!(
            "{field} must be a registry and path without scheme, tag and trailing '/', such as registry.example.net:5000/kubernetes"
        ),
    )
}

pub fn image_tag() -> Rule {
    rule(
        "self.matches('^[A-Za-z0-9_][A-Za-z0-9_.-]*$')",
        "imageTag must be a tag such as 3.7.0-0: letters, digits, '_', '.' and '-'",
    )
}

pub fn sans(field: &str) -> Rule {
    let upper = DNS.replace("a-z", "A-Za-z");
    let dns = if field == "certSANs" { &upper } else { DNS };
    rule(
        format!(r"self.all(s, isIP(s) || s.matches('^(\\*\\.)?{dns}$'))"),
        format!(
            "{field} must be IP addresses or DNS names such as api.example.net, *.example.net or 10.0.0.1"
        ),
    )
}

/// Exact releases that this build can render; the numbers come from the table of releases.
pub fn kubernetes_version() -> Rule {
    exact_release(&supported_minors())
}

/// The same for kubelets, which may be older.
pub fn kubelet_version() -> Rule {
    exact_release(&kubelet_minors())
}

fn exact_release(minors: &[u32]) -> Rule {
    let minors: Vec<String> = minors.iter().map(u32::to_string).collect();
    let texts: Vec<String> = minors.iter().map(|minor| format!("v1.{minor}.x")).collect();
    let example = minors.last().cloned().unwrap_or_default();
    rule(
        format!(
            r"self.matches('^v1\\.({})\\.(0|[1-9][0-9]{{0,2}})$')",
            minors.join("|")
        ),
        format!(
            "version must be an exact release of {} such as v1.{example}.1",
            texts.join(", ")
        ),
    )
}

pub fn etcd_version() -> Rule {
    rule(
        r"self.matches('^3\\.[5-9]\\.(0|[1-9][0-9]{0,2})$')",
        "version must be an exact etcd release of 3.5 or later such as 3.7.0",
    )
}

pub fn odd_count(field: &str) -> Rule {
    rule(
        "self in [1, 3, 5, 7]",
        format!(
            "{field} must be 1, 3, 5 or 7: an even number of etcd members survives no more failures than one member less"
        ),
    )
}

pub fn within_inventory(field: &str) -> Rule {
    rule(
        format!("self.{field} <= self.machines.size()"),
        format!("{field} must not exceed the number of machines; add machines or lower {field}"),
    )
    .field_path(format!(".{field}"))
}

pub fn one_kind_of_etcd() -> Rule {
    let stacked = [
        "dataDir",
        "imageRepository",
        "imageTag",
        "extraArgs",
        "extraEnvs",
        "serverCertSANs",
        "peerCertSANs",
        "nodeLoss",
    ]
    .map(|field| format!("has(self.{field})"))
    .join(" || ");
    rule(
        format!(
            "[has(self.clusterRef), has(self.external), {stacked}].filter(given, given).size() <= 1"
        ),
        "etcd must be of one kind: keep either the stacked fields, clusterRef or external",
    )
}

pub fn client_urls() -> Rule {
    rule(
        "self.all(u, isURL(u) && url(u).getScheme() in ['http', 'https'] && url(u).getHostname() != '')",
        "endpoints must be URLs such as https://10.0.0.5:2379",
    )
}

pub fn external_files() -> Rule {
    rule(
        "has(self.certFile) == has(self.keyFile) && (!has(self.certFile) || has(self.caFile)) && !(has(self.secretName) && has(self.caFile))",
        "external must have certFile and keyFile together, with caFile, or secretName instead of the three",
    )
}

pub fn one_content() -> Rule {
    rule(
        "has(self.content) != has(self.contentFrom)",
        "content or contentFrom must be given, and not both; keep one",
    )
}

pub fn one_source() -> Rule {
    rule(
        "has(self.secretKeyRef) != has(self.configMapKeyRef)",
        "contentFrom must have secretKeyRef or configMapKeyRef, and not both; keep one",
    )
}

pub fn patch_targets(targets: &[&str]) -> Rule {
    rule(
        format!("self.all(p, p.target in ['{}'])", targets.join("', '")),
        format!(
            "patches: target must be {}; remove the others",
            targets.join(" or ")
        ),
    )
}

pub fn name_fits_labels() -> Rule {
    rule(
        "self.metadata.name.size() <= 63",
        "metadata.name must have at most 63 characters, because it stands in labels; choose a shorter name",
    )
}

pub fn one_kind_of_pool() -> Rule {
    rule(
        "has(self.machines) != has(self.maxNodes)",
        "machines (a listed pool) or maxNodes (an open pool) must be given, and not both; keep one",
    )
}

pub fn replicas_of_listed_pool() -> Rule {
    rule(
        "!has(self.replicas) || (has(self.machines) && self.replicas <= self.machines.size())",
        "replicas must not exceed the number of machines, and an open pool has none; add machines, lower or remove replicas",
    )
    .field_path(".replicas")
}

pub fn one_env_source() -> Rule {
    rule(
        "!has(self.valueFrom) || !has(self.value) || self.value == ''",
        "value and valueFrom must not both be given; keep one",
    )
}

pub fn env_name() -> Rule {
    rule(
        "self.matches('^[!-<>-~]([ -<>-~]*[!-<>-~])?$')",
        "name must be the name of a variable: printable characters without '='",
    )
}

pub fn static_pod_source() -> Rule {
    rule(
        "has(self.fieldRef) != has(self.resourceFieldRef)",
        "valueFrom must have fieldRef or resourceFieldRef: a static pod cannot read Secrets and ConfigMaps; use value",
    )
}
