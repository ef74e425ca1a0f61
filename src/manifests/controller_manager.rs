//! kube-controller-manager (kubeadm `getControllerManagerCommand`).

use k8s_openapi::api::core::v1::Pod;

use super::ManifestError;
use super::apiserver::{pod_ranges, service_ranges};
use super::args::{BaseArgs, command_args, last_value};
use super::pod::{Probes, StaticPod, merge_envs, probe_host};
use super::volumes::Volumes;
use crate::domain::{ControlPlane, Machine};
use crate::versions::{self, Component};

const KUBECONFIG: &str = "/etc/kubernetes/controller-manager.conf";

/// The controller manager's static pod on one machine.
pub(super) fn pod(control_plane: &ControlPlane, machine: &Machine) -> Result<Pod, ManifestError> {
    let component = &control_plane.controller_manager;
    let volumes = Volumes::default()
        .folder("k8s-certs", &control_plane.certificates_dir, true)
        .file("kubeconfig", KUBECONFIG)
        .ca_certificates(&machine.ca_directories)
        .extra(&component.extra_volumes);
    let bind_address = last_value(&component.extra_args, "bind-address").unwrap_or("127.0.0.1");
    let pod = StaticPod {
        name: "kube-controller-manager",
        image: versions::image(control_plane, Component::ControllerManager)?,
        args: command_args(base_args(control_plane), component.extra_args.iter()),
        annotation: None,
        envs: merge_envs(&component.extra_envs),
        probes: Probes {
            host: probe_host(bind_address),
            port: 10257,
            scheme: "HTTPS",
            liveness: "/healthz",
            readiness: None,
            startup: "/healthz",
        },
        requests: &[("cpu", "200m")],
        volumes: volumes.volumes(),
        mounts: volumes.mounts(),
    };
    Ok(pod.into_pod())
}

fn base_args(control_plane: &ControlPlane) -> BaseArgs {
    let file = |name: &str| format!("{}/{name}", control_plane.certificates_dir);
    let mut args = vec![
        ("authentication-kubeconfig", KUBECONFIG.to_owned()),
        ("authorization-kubeconfig", KUBECONFIG.to_owned()),
        ("bind-address", "127.0.0.1".to_owned()),
        ("client-ca-file", file("ca.crt")),
        ("cluster-name", control_plane.cluster_name.clone()),
        ("cluster-signing-cert-file", file("ca.crt")),
        ("cluster-signing-key-file", file("ca.key")),
        ("controllers", "*,bootstrapsigner,tokencleaner".to_owned()),
        ("kubeconfig", KUBECONFIG.to_owned()),
        ("leader-elect", "true".to_owned()),
        ("requestheader-client-ca-file", file("front-proxy-ca.crt")),
        ("root-ca-file", file("ca.crt")),
        ("service-account-private-key-file", file("sa.key")),
        ("use-service-account-credentials", "true".to_owned()),
    ];
    if !control_plane.pod_cidrs.is_empty() {
        args.push(("allocate-node-cidrs", "true".to_owned()));
        args.push(("cluster-cidr", pod_ranges(control_plane)));
        args.push(("service-cluster-ip-range", service_ranges(control_plane)));
    }
    args
}
