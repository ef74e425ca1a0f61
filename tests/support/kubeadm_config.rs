//! A control plane as configuration of the real kubeadm, for comparisons with it.

use std::time::Duration;

use k8s_openapi::api::core::v1::EnvVar;
use seedbed::crd::{Arg, HostPathMount, KeyAlgorithm};
use seedbed::domain::{Cidr, Component, ControlPlane, Etcd, EtcdMembers, ExternalEtcd, Machine};
use seedbed::{versions, yaml};
use serde_json::{Map, Value, json};

/// The documents for `kubeadm init --config` on `machine`: InitConfiguration,
/// ClusterConfiguration and, where the user set fields, the component configurations.
///
/// Written from the control plane's fields alone, not with anything that renders what is compared.
pub fn kubeadm_config(control_plane: &ControlPlane, machine: &Machine) -> String {
    let mut documents = vec![
        init_configuration(control_plane, machine),
        cluster_configuration(control_plane),
    ];
    documents.extend(component_configuration(
        "kubelet.config.k8s.io/v1beta1",
        "KubeletConfiguration",
        &control_plane.kubelet.config,
    ));
    documents.extend(component_configuration(
        "kubeproxy.config.k8s.io/v1alpha1",
        "KubeProxyConfiguration",
        &control_plane.kube_proxy.config,
    ));
    let texts: Vec<String> = documents
        .iter()
        .map(|document| yaml::to_yaml(document).expect("the document has a YAML form"))
        .collect();
    texts.join("---\n")
}

fn init_configuration(control_plane: &ControlPlane, machine: &Machine) -> Value {
    // One list a node in kubeadm: the machine's own arguments replace the cluster's of their name.
    let own = &machine.kubelet_extra_args;
    let shared = control_plane.kubelet.extra_args.iter();
    let kubelet_args: Vec<&Arg> = shared
        .filter(|arg| own.iter().all(|o| o.name != arg.name))
        .chain(own)
        .collect();
    json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        "localAPIEndpoint": {
            "advertiseAddress": machine.address,
            "bindPort": machine.bind_port,
        },
        "nodeRegistration": {
            "name": machine.name.as_str(),
            "criSocket": machine.cri_socket,
            "taints": machine.taints,
            "kubeletExtraArgs": kubelet_args,
        },
    })
}

fn cluster_configuration(control_plane: &ControlPlane) -> Value {
    let mut networking = json!({
        "dnsDomain": control_plane.dns_domain,
        "serviceSubnet": ranges(&control_plane.service_cidrs),
    });
    if !control_plane.pod_cidrs.is_empty() {
        networking["podSubnet"] = ranges(&control_plane.pod_cidrs).into();
    }
    let mut api_server = component(&control_plane.api_server.component);
    api_server["certSANs"] = json!(control_plane.api_server.cert_sans);
    let mut configuration = json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "kubernetesVersion": control_plane.version.to_string(),
        "clusterName": control_plane.cluster_name,
        "certificatesDir": control_plane.certificates_dir,
        "imageRepository": control_plane.image_repository,
        "encryptionAlgorithm": algorithm(control_plane.key_algorithm),
        "certificateValidityPeriod": seconds(control_plane.leaf_validity),
        "caCertificateValidityPeriod": seconds(control_plane.ca_validity),
        "networking": networking,
        "apiServer": api_server,
        "controllerManager": component(&control_plane.controller_manager),
        "scheduler": component(&control_plane.scheduler),
        "etcd": etcd(control_plane),
        "dns": addon(
            control_plane.core_dns.disabled,
            control_plane.core_dns.image_repository.as_deref(),
            control_plane.core_dns.image_tag.as_deref(),
        ),
        "proxy": addon(control_plane.kube_proxy.disabled, None, None),
    });
    if let Some(endpoint) = &control_plane.endpoint {
        configuration["controlPlaneEndpoint"] = endpoint.to_string().into();
    }
    configuration
}

fn component(component: &Component) -> Value {
    let volumes: Vec<Value> = component.extra_volumes.iter().map(volume).collect();
    json!({
        "extraArgs": component.extra_args,
        "extraEnvs": envs(&component.extra_envs),
        "extraVolumes": volumes,
    })
}

fn volume(volume: &HostPathMount) -> Value {
    serde_json::to_value(volume).expect("a volume has a JSON form")
}

fn envs(envs: &[EnvVar]) -> Value {
    serde_json::to_value(envs).expect("environment variables have a JSON form")
}

fn etcd(control_plane: &ControlPlane) -> Value {
    match &control_plane.etcd {
        Etcd::Stacked(members) => json!({"local": local_etcd(control_plane, members)}),
        Etcd::External(external) => json!({"external": external_etcd(external)}),
    }
}

fn external_etcd(external: &ExternalEtcd) -> Value {
    let mut object = json!({"endpoints": external.endpoints});
    if let Some(ca) = &external.ca_file {
        object["caFile"] = json!(ca);
    }
    if let Some(client) = &external.client {
        object["certFile"] = json!(client.certificate);
        object["keyFile"] = json!(client.key);
    }
    object
}

fn local_etcd(control_plane: &ControlPlane, members: &EtcdMembers) -> Value {
    let EtcdMembers {
        data_dir,
        image,
        extra_args,
        extra_envs,
        server_cert_sans,
        peer_cert_sans,
    } = members;
    let mut local = json!({
        "dataDir": data_dir,
        "extraArgs": extra_args,
        "extraEnvs": envs(extra_envs),
        "serverCertSANs": server_cert_sans,
        "peerCertSANs": peer_cert_sans,
    });
    let release = versions::release(control_plane.version).expect("the version is supported");
    if *image != versions::etcd_image(&control_plane.image_repository, None, release) {
        let (repository, tag) = image.rsplit_once("/etcd:").expect("an image named etcd");
        local["imageRepository"] = repository.into();
        local["imageTag"] = tag.into();
    }
    local
}

fn addon(disabled: bool, repository: Option<&str>, tag: Option<&str>) -> Value {
    let mut addon = Map::new();
    if disabled {
        addon.insert("disabled".into(), true.into());
    }
    if let Some(repository) = repository {
        addon.insert("imageRepository".into(), repository.into());
    }
    if let Some(tag) = tag {
        addon.insert("imageTag".into(), tag.into());
    }
    Value::Object(addon)
}

fn component_configuration<'a>(
    api_version: &str,
    kind: &str,
    fields: impl IntoIterator<Item = (&'a String, &'a Value)>,
) -> Option<Value> {
    let mut document: Map<String, Value> = fields
        .into_iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if document.is_empty() {
        return None;
    }
    document.insert("apiVersion".into(), api_version.into());
    document.insert("kind".into(), kind.into());
    Some(Value::Object(document))
}

fn ranges(ranges: &[Cidr]) -> String {
    let texts: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    texts.join(",")
}

fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs())
}

fn algorithm(algorithm: KeyAlgorithm) -> Value {
    serde_json::to_value(algorithm).expect("an algorithm has a JSON form")
}
