//! An etcd member, stacked or on a machine of its own (kubeadm `GetEtcdPodSpec`).
//!
//! The one place where we differ from kubeadm on purpose: kubeadm starts a cluster of one and adds
//! members, Seedbed founds all at once, so `--initial-cluster` lists every founder and the token
//! keeps two foundings apart. `--strict-reconfig-check` stays at its default, true.

use http::Uri;
use k8s_openapi::api::core::v1::Pod;

use super::ManifestError;
use super::args::{BaseArgs, command_args, last_value};
use super::pod::{Probes, StaticPod, merge_envs};
use super::volumes::Volumes;
use crate::crd::Arg;
use crate::domain::{EtcdMembers, Founding, HostPort, InitialClusterState, Machine, Member};

/// Annotation by which kubeadm finds a member's client URL.
const CLIENT_URLS_ANNOTATION: &str = "kubeadm.kubernetes.io/etcd.advertise-client-urls";

/// Port of metrics and probes.
const METRICS_PORT: u16 = 2381;

/// The member's static pod on one machine.
pub(super) fn pod(
    etcd: &EtcdMembers,
    certificates_dir: &str,
    machine: &Machine,
    founding: &Founding,
) -> Result<Pod, ManifestError> {
    let member = membership(machine, founding)?;
    let volumes = Volumes::default()
        .folder("etcd-certs", &format!("{certificates_dir}/etcd"), false)
        .folder("etcd-data", &etcd.data_dir, false);
    // kubeadm sorts the volumes and lists the mounts in the other order.
    let mut mounts = volumes.mounts();
    mounts.reverse();
    let base = base_args(etcd, certificates_dir, machine, member, founding);
    let pod = StaticPod {
        name: "etcd",
        image: etcd.image.clone(),
        args: command_args(base, etcd.extra_args.iter()),
        annotation: Some((CLIENT_URLS_ANNOTATION, machine.client_url())),
        envs: merge_envs(&etcd.extra_envs),
        probes: probes(&etcd.extra_args, loopback(machine)),
        requests: &[("cpu", "100m"), ("memory", "100Mi")],
        volumes: volumes.volumes(),
        mounts,
    };
    Ok(pod.into_pod())
}

/// The loopback address of the family that the machine's address has.
pub(super) fn loopback(machine: &Machine) -> &'static str {
    if machine.address.is_ipv6() {
        "::1"
    } else {
        "127.0.0.1"
    }
}

/// A member that does not find itself in `--initial-cluster`, under the URL that it advertises,
/// does not start.
fn membership<'a>(machine: &Machine, founding: &'a Founding) -> Result<&'a Member, ManifestError> {
    let name = machine.name.as_str();
    let Some(member) = founding.member_of(&machine.name) else {
        return Err(ManifestError::NotAMember {
            machine: name.to_owned(),
        });
    };
    if member.peer_url != machine.peer_url() {
        return Err(ManifestError::PeerUrlChanged {
            machine: name.to_owned(),
            recorded: member.peer_url.clone(),
            actual: machine.peer_url(),
        });
    }
    Ok(member)
}

fn base_args(
    etcd: &EtcdMembers,
    certificates_dir: &str,
    machine: &Machine,
    member: &Member,
    founding: &Founding,
) -> BaseArgs {
    let file = |name: &str| format!("{certificates_dir}/etcd/{name}");
    let local = |port| HostPort {
        host: loopback(machine).to_owned(),
        port,
    };
    let members: Vec<String> = founding
        .members
        .iter()
        .map(|member| format!("{}={}", member.name, member.peer_url))
        .collect();
    let state = match founding.state {
        InitialClusterState::New => "new",
        InitialClusterState::Existing => "existing",
    };
    vec![
        ("advertise-client-urls", machine.client_url()),
        ("cert-file", file("server.crt")),
        ("client-cert-auth", "true".to_owned()),
        ("data-dir", etcd.data_dir.clone()),
        ("feature-gates", "InitialCorruptCheck=true".to_owned()),
        ("initial-advertise-peer-urls", machine.peer_url()),
        ("initial-cluster", members.join(",")),
        ("initial-cluster-state", state.to_owned()),
        ("initial-cluster-token", founding.token.clone()),
        ("key-file", file("server.key")),
        (
            "listen-client-urls",
            format!("https://{},{}", local(2379), machine.client_url()),
        ),
        (
            "listen-metrics-urls",
            format!("http://{}", local(METRICS_PORT)),
        ),
        ("listen-peer-urls", machine.peer_url()),
        ("name", member.name.clone()),
        ("peer-cert-file", file("peer.crt")),
        ("peer-client-cert-auth", "true".to_owned()),
        ("peer-key-file", file("peer.key")),
        ("peer-trusted-ca-file", file("ca.crt")),
        ("snapshot-count", "10000".to_owned()),
        ("trusted-ca-file", file("ca.crt")),
        ("watch-progress-notify-interval", "5s".to_owned()),
    ]
}

/// Probes go to the first of `listen-metrics-urls`, taken as it stands, or to loopback
/// (kubeadm `GetEtcdProbeEndpoint`).
fn probes(extra_args: &[Arg], loopback: &str) -> Probes {
    let url = last_value(extra_args, "listen-metrics-urls")
        .and_then(|urls| urls.split(',').next())
        .and_then(|url| url.parse::<Uri>().ok())
        .filter(|url| url.scheme_str().is_some());
    let host = url
        .as_ref()
        .and_then(Uri::host)
        .map(|host| host.trim_start_matches('[').trim_end_matches(']'))
        .filter(|host| !host.is_empty())
        .unwrap_or(loopback);
    let https = url
        .as_ref()
        .and_then(Uri::scheme_str)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
    Probes {
        host: Some(host.to_owned()),
        port: url
            .as_ref()
            .and_then(Uri::port_u16)
            .filter(|port| *port != 0)
            .unwrap_or(METRICS_PORT),
        scheme: if https { "HTTPS" } else { "HTTP" },
        liveness: "/livez",
        readiness: Some("/readyz"),
        startup: "/readyz",
    }
}
