//! kube-apiserver (kubeadm `getAPIServerCommand`).

use k8s_openapi::api::core::v1::Pod;

use super::ManifestError;
use super::args::{BaseArgs, command_args, last_value};
use super::etcd::loopback;
use super::pod::{Probes, StaticPod, merge_envs, probe_host};
use super::volumes::Volumes;
use crate::domain::{ControlPlane, Etcd, ExternalEtcd, HostPort, Machine};
use crate::versions::{self, Component};

/// Annotation by which kubeadm finds the API server's address.
const ENDPOINT_ANNOTATION: &str = "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint";

/// The API server's static pod on one machine.
pub(super) fn pod(control_plane: &ControlPlane, machine: &Machine) -> Result<Pod, ManifestError> {
    let component = &control_plane.api_server.component;
    let mut volumes = Volumes::default()
        .folder("k8s-certs", &control_plane.certificates_dir, true)
        .ca_certificates(&machine.ca_directories);
    if let Etcd::External(external) = &control_plane.etcd {
        volumes = volumes.files_of("etcd-certs", &files(external));
    }
    let volumes = volumes.extra(&component.extra_volumes);
    let pod = StaticPod {
        name: "kube-apiserver",
        image: versions::image(control_plane, Component::ApiServer)?,
        args: command_args(
            base_args(control_plane, machine),
            component.extra_args.iter(),
        ),
        annotation: Some((ENDPOINT_ANNOTATION, machine.api_endpoint().to_string())),
        envs: merge_envs(&component.extra_envs),
        probes: Probes {
            host: probe_host(&machine.address.to_string()),
            port: machine.bind_port,
            scheme: "HTTPS",
            liveness: "/livez",
            readiness: Some("/readyz"),
            startup: "/livez",
        },
        requests: &[("cpu", "250m")],
        volumes: volumes.volumes(),
        mounts: volumes.mounts(),
    };
    Ok(pod.into_pod())
}

fn base_args(control_plane: &ControlPlane, machine: &Machine) -> BaseArgs {
    let file = |name: &str| format!("{}/{name}", control_plane.certificates_dir);
    let mut args = vec![
        ("advertise-address", machine.address.to_string()),
        ("allow-privileged", "true".to_owned()),
        ("client-ca-file", file("ca.crt")),
        ("enable-admission-plugins", "NodeRestriction".to_owned()),
        ("enable-bootstrap-token-auth", "true".to_owned()),
        (
            "kubelet-client-certificate",
            file("apiserver-kubelet-client.crt"),
        ),
        ("kubelet-client-key", file("apiserver-kubelet-client.key")),
        (
            "kubelet-preferred-address-types",
            "InternalIP,ExternalIP,Hostname".to_owned(),
        ),
        ("proxy-client-cert-file", file("front-proxy-client.crt")),
        ("proxy-client-key-file", file("front-proxy-client.key")),
        (
            "requestheader-allowed-names",
            "front-proxy-client".to_owned(),
        ),
        ("requestheader-client-ca-file", file("front-proxy-ca.crt")),
        (
            "requestheader-extra-headers-prefix",
            "X-Remote-Extra-".to_owned(),
        ),
        ("requestheader-group-headers", "X-Remote-Group".to_owned()),
        ("requestheader-username-headers", "X-Remote-User".to_owned()),
        ("secure-port", machine.bind_port.to_string()),
        (
            "service-account-issuer",
            format!(
                "https://kubernetes.default.svc.{}",
                control_plane.dns_domain
            ),
        ),
        ("service-account-key-file", file("sa.pub")),
        ("service-account-signing-key-file", file("sa.key")),
        ("service-cluster-ip-range", service_ranges(control_plane)),
        ("tls-cert-file", file("apiserver.crt")),
        ("tls-private-key-file", file("apiserver.key")),
    ];
    args.extend(etcd(control_plane, machine));
    // The two flags exclude each other; a file given by the user says it all.
    let extra_args = &control_plane.api_server.component.extra_args;
    if last_value(extra_args, "authorization-config").is_none() {
        args.push(("authorization-mode", "Node,RBAC".to_owned()));
    }
    args
}

/// Where the state is, and what the API server shows there. With stacked etcd, the member on the
/// same machine; kubeadm lets `advertise-client-urls` of etcd replace it.
fn etcd(control_plane: &ControlPlane, machine: &Machine) -> BaseArgs {
    let members = match &control_plane.etcd {
        Etcd::Stacked(members) => members,
        Etcd::External(external) => return external_etcd(external),
    };
    let file = |name: &str| format!("{}/{name}", control_plane.certificates_dir);
    let servers = match last_value(&members.extra_args, "advertise-client-urls") {
        Some(urls) => urls.to_owned(),
        None => {
            let local = HostPort {
                host: loopback(machine).to_owned(),
                port: 2379,
            };
            format!("https://{local}")
        }
    };
    vec![
        ("etcd-cafile", file("etcd/ca.crt")),
        ("etcd-certfile", file("apiserver-etcd-client.crt")),
        ("etcd-keyfile", file("apiserver-etcd-client.key")),
        ("etcd-servers", servers),
    ]
}

fn external_etcd(external: &ExternalEtcd) -> BaseArgs {
    let mut args = vec![("etcd-servers", external.endpoints.join(","))];
    if let Some(ca) = &external.ca_file {
        args.push(("etcd-cafile", ca.clone()));
    }
    if let Some(client) = &external.client {
        args.push(("etcd-certfile", client.certificate.clone()));
        args.push(("etcd-keyfile", client.key.clone()));
    }
    args
}

/// The files that the API server reads to reach an etcd elsewhere.
fn files(external: &ExternalEtcd) -> Vec<&str> {
    let client = external.client.iter();
    let client = client.flat_map(|client| [&client.certificate, &client.key]);
    let files = external.ca_file.iter().chain(client);
    files.map(String::as_str).collect()
}

/// Service ranges as flags take them: joined by commas.
pub(super) fn service_ranges(control_plane: &ControlPlane) -> String {
    join(&control_plane.service_cidrs)
}

/// Pod ranges as flags take them; empty when there are none.
pub(super) fn pod_ranges(control_plane: &ControlPlane) -> String {
    join(&control_plane.pod_cidrs)
}

fn join(ranges: &[crate::domain::Cidr]) -> String {
    let texts: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    texts.join(",")
}
