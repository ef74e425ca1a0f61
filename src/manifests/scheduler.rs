//! kube-scheduler (kubeadm `getSchedulerCommand`).

use k8s_openapi::api::core::v1::Pod;

use super::ManifestError;
use super::args::{command_args, last_value};
use super::pod::{Probes, StaticPod, merge_envs, probe_host};
use super::volumes::Volumes;
use crate::domain::ControlPlane;
use crate::versions::{self, Component};

const KUBECONFIG: &str = "/etc/kubernetes/scheduler.conf";

/// The scheduler's static pod, the same on every machine.
pub(super) fn pod(control_plane: &ControlPlane) -> Result<Pod, ManifestError> {
    let component = &control_plane.scheduler;
    let base = vec![
        ("authentication-kubeconfig", KUBECONFIG.to_owned()),
        ("authorization-kubeconfig", KUBECONFIG.to_owned()),
        ("bind-address", "127.0.0.1".to_owned()),
        ("kubeconfig", KUBECONFIG.to_owned()),
        ("leader-elect", "true".to_owned()),
    ];
    let volumes = Volumes::default()
        .file("kubeconfig", KUBECONFIG)
        .extra(&component.extra_volumes);
    let bind_address = last_value(&component.extra_args, "bind-address").unwrap_or("127.0.0.1");
    let pod = StaticPod {
        name: "kube-scheduler",
        image: versions::image(control_plane, Component::Scheduler)?,
        args: command_args(base, component.extra_args.iter()),
        annotation: None,
        envs: merge_envs(&component.extra_envs),
        probes: Probes {
            host: probe_host(bind_address),
            port: 10259,
            scheme: "HTTPS",
            liveness: "/livez",
            readiness: Some("/readyz"),
            startup: "/livez",
        },
        requests: &[("cpu", "100m")],
        volumes: volumes.volumes(),
        mounts: volumes.mounts(),
    };
    Ok(pod.into_pod())
}
