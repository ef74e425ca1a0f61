//! What the four static pods have in common (kubeadm `util/staticpod`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, HTTPGetAction, Pod, PodSecurityContext, PodSpec, Probe,
    ResourceRequirements, SeccompProfile, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::ManifestError;
use crate::yaml::to_yaml;

/// Name of the container port that probes refer to (1.34 and later).
const PROBE_PORT: &str = "probe-port";

/// Priority of class `system-node-critical`.
const NODE_CRITICAL: i32 = 2_000_001_000;

/// Probes of a component. Times are kubeadm's.
pub(super) struct Probes {
    /// `None`: the kubelet takes the pod's own address.
    pub host: Option<String>,
    pub port: u16,
    pub scheme: &'static str,
    pub liveness: &'static str,
    pub readiness: Option<&'static str>,
    pub startup: &'static str,
}

/// A static pod of the control plane.
pub(super) struct StaticPod {
    /// Name of the component, its container and its binary.
    pub name: &'static str,
    pub image: String,
    /// Arguments behind the binary's name.
    pub args: Vec<String>,
    pub annotation: Option<(&'static str, String)>,
    pub envs: Vec<EnvVar>,
    pub probes: Probes,
    /// Resource requests by resource.
    pub requests: &'static [(&'static str, &'static str)],
    pub volumes: Vec<Volume>,
    pub mounts: Vec<VolumeMount>,
}

impl StaticPod {
    pub(super) fn into_pod(self) -> Pod {
        let labels = [("component", self.name), ("tier", "control-plane")];
        let container = Container {
            name: self.name.to_owned(),
            image: Some(self.image),
            image_pull_policy: Some("IfNotPresent".to_owned()),
            command: Some(
                std::iter::once(self.name.to_owned())
                    .chain(self.args)
                    .collect(),
            ),
            env: (!self.envs.is_empty()).then_some(self.envs),
            ports: Some(vec![ContainerPort {
                name: Some(PROBE_PORT.to_owned()),
                container_port: self.probes.port.into(),
                protocol: Some("TCP".to_owned()),
                ..ContainerPort::default()
            }]),
            liveness_probe: Some(self.probes.liveness()),
            readiness_probe: self.probes.readiness(),
            startup_probe: Some(self.probes.startup()),
            resources: Some(ResourceRequirements {
                requests: Some(
                    self.requests
                        .iter()
                        .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
                        .collect(),
                ),
                ..ResourceRequirements::default()
            }),
            volume_mounts: Some(self.mounts),
            ..Container::default()
        };
        Pod {
            metadata: ObjectMeta {
                name: Some(self.name.to_owned()),
                namespace: Some("kube-system".to_owned()),
                labels: Some(
                    labels
                        .map(|(k, v)| (k.to_owned(), v.to_owned()))
                        .into_iter()
                        .collect(),
                ),
                annotations: self
                    .annotation
                    .map(|(name, value)| BTreeMap::from([(name.to_owned(), value)])),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                containers: vec![container],
                host_network: Some(true),
                priority: Some(NODE_CRITICAL),
                priority_class_name: Some("system-node-critical".to_owned()),
                security_context: Some(PodSecurityContext {
                    seccomp_profile: Some(SeccompProfile {
                        type_: "RuntimeDefault".to_owned(),
                        ..SeccompProfile::default()
                    }),
                    ..PodSecurityContext::default()
                }),
                volumes: Some(self.volumes),
                ..PodSpec::default()
            }),
            status: None,
        }
    }
}

impl Probes {
    fn liveness(&self) -> Probe {
        Probe {
            initial_delay_seconds: Some(10),
            period_seconds: Some(10),
            failure_threshold: Some(8),
            ..self.probe(self.liveness)
        }
    }

    /// No initial delay: infrastructure that watches readiness shall not wait for it.
    fn readiness(&self) -> Option<Probe> {
        self.readiness.map(|path| Probe {
            period_seconds: Some(1),
            failure_threshold: Some(3),
            ..self.probe(path)
        })
    }

    /// 24 failures at 10 s: kubeadm's `controlPlaneComponentHealthCheck` of 4 minutes.
    fn startup(&self) -> Probe {
        Probe {
            initial_delay_seconds: Some(10),
            period_seconds: Some(10),
            failure_threshold: Some(24),
            ..self.probe(self.startup)
        }
    }

    fn probe(&self, path: &str) -> Probe {
        Probe {
            timeout_seconds: Some(15),
            http_get: Some(HTTPGetAction {
                host: self.host.clone(),
                path: Some(path.to_owned()),
                port: IntOrString::String(PROBE_PORT.to_owned()),
                scheme: Some(self.scheme.to_owned()),
                ..HTTPGetAction::default()
            }),
            ..Probe::default()
        }
    }
}

/// The host of a probe for a bind address: none for the unspecified one, which cannot be dialled
/// (kubeadm `getProbeAddress`).
pub(super) fn probe_host(bind_address: &str) -> Option<String> {
    (!matches!(bind_address, "" | "0.0.0.0" | "::")).then(|| bind_address.to_owned())
}

/// Environment variables sorted by name, the last of a name winning, in the form that the API
/// server's defaulting and Go's serializer give them (kubeadm `MergeKubeadmEnvVars`).
pub fn merge_envs(envs: &[EnvVar]) -> Vec<EnvVar> {
    let by_name: BTreeMap<&str, &EnvVar> =
        envs.iter().map(|env| (env.name.as_str(), env)).collect();
    by_name.into_values().map(normalized).collect()
}

fn normalized(env: &EnvVar) -> EnvVar {
    let mut env = env.clone();
    env.value = env.value.filter(|value| !value.is_empty());
    if let Some(source) = &mut env.value_from {
        if let Some(field) = &mut source.field_ref {
            field.api_version.get_or_insert_with(|| "v1".to_owned());
        }
        if let Some(resource) = &mut source.resource_field_ref {
            resource
                .divisor
                .get_or_insert_with(|| Quantity("0".to_owned()));
        }
    }
    env
}

/// The manifest's text, with the empty `status` that Go's serializer writes.
pub(super) fn to_manifest(pod: &Pod) -> Result<String, ManifestError> {
    let mut value = serde_json::to_value(pod)?;
    if let Value::Object(fields) = &mut value {
        fields.insert("status".to_owned(), Value::Object(serde_json::Map::new()));
    }
    Ok(to_yaml(&value)?)
}
