//! `ClusterConfiguration` (kubeadm.k8s.io/v1beta4) as kubeadm stores it: defaulted, with the
//! version resolved, without component configurations.

use std::time::Duration;

use k8s_openapi::api::core::v1::EnvVar;
use serde_json::{Map, Value, json};

use super::kube_proxy::comma_separated;
use crate::crd::{Arg, HostPathMount, KeyAlgorithm};
use crate::domain::{Component, ControlPlane, Etcd, EtcdMembers, ExternalEtcd};
use crate::versions;

pub(super) fn cluster_configuration(control_plane: &ControlPlane) -> Value {
    let mut api_server = component(&control_plane.api_server.component);
    let cert_sans: Vec<String> = control_plane
        .api_server
        .cert_sans
        .iter()
        .map(|san| san.to_ascii_lowercase())
        .collect();
    put(&mut api_server, "certSANs", cert_sans);
    let core_dns = &control_plane.core_dns;
    let mut configuration = Map::new();
    configuration.extend(
        [
            ("apiServer", Value::Object(api_server)),
            ("apiVersion", json!("kubeadm.k8s.io/v1beta4")),
            (
                "caCertificateValidityPeriod",
                json!(go_duration(control_plane.ca_validity)),
            ),
            (
                "certificateValidityPeriod",
                json!(go_duration(control_plane.leaf_validity)),
            ),
            ("certificatesDir", json!(control_plane.certificates_dir)),
            ("clusterName", json!(control_plane.cluster_name)),
            (
                "controllerManager",
                Value::Object(component(&control_plane.controller_manager)),
            ),
            (
                "dns",
                image_meta(
                    core_dns.disabled,
                    core_dns.image_repository.as_deref(),
                    core_dns.image_tag.as_deref(),
                ),
            ),
            (
                "encryptionAlgorithm",
                json!(algorithm(control_plane.key_algorithm)),
            ),
            ("etcd", etcd(control_plane)),
            ("imageRepository", json!(control_plane.image_repository)),
            ("kind", json!("ClusterConfiguration")),
            (
                "kubernetesVersion",
                json!(control_plane.version.to_string()),
            ),
            ("networking", networking(control_plane)),
            (
                "proxy",
                image_meta(control_plane.kube_proxy.disabled, None, None),
            ),
            (
                "scheduler",
                Value::Object(component(&control_plane.scheduler)),
            ),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    if let Some(endpoint) = &control_plane.endpoint {
        configuration.insert("controlPlaneEndpoint".into(), json!(endpoint.to_string()));
    }
    Value::Object(configuration)
}

fn networking(control_plane: &ControlPlane) -> Value {
    let mut networking = Map::new();
    networking.insert("dnsDomain".into(), json!(control_plane.dns_domain));
    networking.insert(
        "serviceSubnet".into(),
        json!(comma_separated(&control_plane.service_cidrs)),
    );
    if !control_plane.pod_cidrs.is_empty() {
        networking.insert(
            "podSubnet".into(),
            json!(comma_separated(&control_plane.pod_cidrs)),
        );
    }
    Value::Object(networking)
}

/// `DNS` and `Proxy`: empty fields are left out.
fn image_meta(disabled: bool, repository: Option<&str>, tag: Option<&str>) -> Value {
    let mut meta = Map::new();
    if disabled {
        meta.insert("disabled".into(), json!(true));
    }
    for (name, value) in [("imageRepository", repository), ("imageTag", tag)] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            meta.insert(name.into(), json!(value));
        }
    }
    Value::Object(meta)
}

fn etcd(control_plane: &ControlPlane) -> Value {
    match &control_plane.etcd {
        Etcd::Stacked(members) => json!({"local": local_etcd(control_plane, members)}),
        Etcd::External(external) => json!({"external": external_etcd(external)}),
    }
}

/// `etcd.external`. Empty paths are written, and `httpEndpoints` with its default.
fn external_etcd(external: &ExternalEtcd) -> Value {
    let client = external.client.as_ref();
    json!({
        "caFile": external.ca_file.as_deref().unwrap_or_default(),
        "certFile": client.map_or("", |client| &client.certificate),
        "endpoints": external.endpoints,
        "httpEndpoints": external.endpoints,
        "keyFile": client.map_or("", |client| &client.key),
    })
}

/// `etcd.local`. Repository and tag only where they are the user's: a stored tag tells kubeadm
/// that it must not upgrade etcd.
fn local_etcd(control_plane: &ControlPlane, members: &EtcdMembers) -> Value {
    let EtcdMembers {
        data_dir,
        image,
        extra_args,
        extra_envs,
        server_cert_sans,
        peer_cert_sans,
    } = members;
    let mut local = Map::new();
    local.insert("dataDir".into(), json!(data_dir));
    let (repository, tag) = image.rsplit_once("/etcd:").unwrap_or((image, ""));
    if repository != control_plane.image_repository {
        local.insert("imageRepository".into(), json!(repository));
    }
    let usual = versions::release(control_plane.version).map(|release| release.etcd_tag);
    if !tag.is_empty() && usual != Ok(tag) {
        local.insert("imageTag".into(), json!(tag));
    }
    put(&mut local, "extraArgs", args(extra_args));
    put(&mut local, "extraEnvs", envs(extra_envs));
    put(&mut local, "serverCertSANs", server_cert_sans.clone());
    put(&mut local, "peerCertSANs", peer_cert_sans.clone());
    Value::Object(local)
}

fn component(component: &Component) -> Map<String, Value> {
    let Component {
        extra_args,
        extra_envs,
        extra_volumes,
    } = component;
    let mut object = Map::new();
    put(&mut object, "extraArgs", args(extra_args));
    put(&mut object, "extraEnvs", envs(extra_envs));
    put(
        &mut object,
        "extraVolumes",
        extra_volumes.iter().map(volume).collect(),
    );
    object
}

/// Lists are stored only when they hold something (`omitempty`).
fn put<T: Into<Value>>(object: &mut Map<String, Value>, name: &str, list: Vec<T>) {
    if !list.is_empty() {
        object.insert(name.into(), list.into_iter().map(Into::into).collect());
    }
}

fn args(args: &[Arg]) -> Vec<Value> {
    args.iter()
        .map(|arg| json!({"name": arg.name, "value": arg.value}))
        .collect()
}

/// As Go serialises them: no empty value, and a field reference with its defaulted version.
fn envs(envs: &[EnvVar]) -> Vec<Value> {
    let normal = |env: &EnvVar| {
        let mut env = env.clone();
        env.value = env.value.filter(|value| !value.is_empty());
        let source = env.value_from.as_mut();
        if let Some(field) = source.and_then(|source| source.field_ref.as_mut()) {
            field.api_version.get_or_insert_with(|| "v1".to_owned());
        }
        json!(env)
    };
    envs.iter().map(normal).collect()
}

fn volume(mount: &HostPathMount) -> Value {
    let mut volume = json!({
        "hostPath": mount.host_path,
        "mountPath": mount.mount_path,
        "name": mount.name,
    });
    if let Some(path_type) = mount.path_type {
        volume["pathType"] = json!(path_type.as_str());
    }
    if mount.read_only == Some(true) {
        volume["readOnly"] = json!(true);
    }
    volume
}

fn algorithm(algorithm: KeyAlgorithm) -> Value {
    json!(algorithm)
}

/// Go's `time.Duration.String`, from hours down to seconds: `8760h0m0s`.
fn go_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}
