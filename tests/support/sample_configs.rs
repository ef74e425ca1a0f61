//! Control planes for comparisons with the real kubeadm: each turns some knobs.

use std::path::Path;

use seedbed::controllers::control_plane::resolve::{Inputs, resolve};
use seedbed::domain::{ControlPlane, Etcd, Founding, HostPort, InitialClusterState, Member};
use serde_json::{Value, json};

use crate::kubeadm::hostname;

/// A resolved control plane and what it is about.
pub struct Sample {
    pub name: String,
    pub control_plane: ControlPlane,
}

/// The founding of all machines at once.
pub fn founding(control_plane: &ControlPlane) -> Founding {
    if control_plane.etcd.stacked().is_none() {
        return Founding::of_nobody();
    }
    Founding {
        token: "prod-3f1b2c".to_owned(),
        members: control_plane.machines.iter().map(Member::founder).collect(),
        state: InitialClusterState::New,
    }
}

/// Every sample, in profile Kubeadm.
pub fn kubeadm_samples() -> Vec<Sample> {
    let hostname = hostname().expect("the hostname");
    let samples = [
        ("defaults", one_machine(json!({}))),
        (
            "rsa",
            one_machine(json!({"certificates": {"keyAlgorithm": "RSA-2048"}})),
        ),
        (
            "p384",
            one_machine(json!({"certificates": {"keyAlgorithm": "ECDSA-P384"}})),
        ),
        ("name-is-hostname", named(one_machine(json!({})), &hostname)),
        ("three-machines", three_machines(json!({}))),
        ("pod-subnet", three_machines(pod_subnet())),
        ("extra-args", three_machines(extra_args())),
        ("authorization-config", one_machine(authorization(false))),
        ("authorization-both", one_machine(authorization(true))),
        ("volumes-and-envs", three_machines(volumes_and_envs())),
        ("cert-sans", three_machines(cert_sans())),
        ("ports", ports()),
        ("kubelet-config", three_machines(kubelet_config())),
        ("images", three_machines(images())),
        ("names-and-folders", three_machines(names_and_folders())),
        ("machine-settings", machine_settings()),
        ("external-etcd", three_machines(external_etcd())),
        (
            "external-etcd-plain",
            one_machine(json!({"etcd": {"external": {
                "endpoints": ["http://198.18.0.41:2379"],
            }}})),
        ),
        (
            "external-etcd-guide",
            one_machine(json!({"etcd": {"external": {
                "endpoints": ["https://198.18.0.41:2379"],
                "caFile": "/etc/kubernetes/pki/etcd/ca.crt",
                "certFile": "/etc/kubernetes/pki/apiserver-etcd-client.crt",
                "keyFile": "/etc/kubernetes/pki/apiserver-etcd-client.key",
            }}})),
        ),
    ];
    samples
        .into_iter()
        .map(|(name, spec)| (name, resolved(spec, &hostname)))
        .chain([
            ("ipv6", ipv6(&hostname)),
            ("etcd-by-reference", by_reference(&hostname)),
        ])
        .map(|(name, control_plane)| Sample {
            name: name.to_owned(),
            control_plane,
        })
        .collect()
}

/// Resolves `spec` in profile Kubeadm. What kubeadm finds out by itself on the machine where it
/// runs, a machine of ours states: the hostname and the folders of CA certificates.
fn resolved(mut spec: Value, hostname: &str) -> ControlPlane {
    spec["profile"] = "Kubeadm".into();
    let folders: Vec<&str> = [
        "/etc/pki/ca-trust",
        "/etc/pki/tls/certs",
        "/etc/ca-certificates",
        "/usr/share/ca-certificates",
        "/usr/local/share/ca-certificates",
    ]
    .into_iter()
    .filter(|folder| Path::new(folder).exists())
    .collect();
    for machine in spec["machines"].as_array_mut().expect("machines") {
        machine["hostname"] = hostname.into();
        machine["caDirectories"] = json!(folders);
    }
    let object = json!({
        "apiVersion": "seedbed.dev/v1alpha1",
        "kind": "ControlPlane",
        "metadata": {"name": "prod", "namespace": "clusters"},
        "spec": spec,
    });
    let object = serde_json::from_value(object).expect("a ControlPlane");
    resolve(&object, &Inputs::default())
        .unwrap_or_else(|problems| panic!("{problems:#?}"))
        .control_plane
}

fn one_machine(more: Value) -> Value {
    let spec = json!({
        "version": "v1.37.1",
        "replicas": 1,
        "machines": [{"name": "cp-1", "address": "198.18.0.11"}],
    });
    merged(spec, more)
}

fn three_machines(more: Value) -> Value {
    let spec = json!({
        "version": "v1.37.1",
        "endpoint": {"host": "api.prod.example.net"},
        "replicas": 3,
        "machines": [
            {"name": "cp-1", "address": "198.18.0.11"},
            {"name": "cp-2", "address": "198.18.0.12"},
            {"name": "cp-3", "address": "198.18.0.13"},
        ],
    });
    merged(spec, more)
}

fn merged(mut spec: Value, more: Value) -> Value {
    if let (Value::Object(spec), Value::Object(more)) = (&mut spec, more) {
        spec.extend(more);
    }
    spec
}

fn named(mut spec: Value, name: &str) -> Value {
    spec["machines"][0]["name"] = name.into();
    spec
}

fn pod_subnet() -> Value {
    json!({"network": {
        "podCIDRs": ["198.18.64.0/18"],
        "serviceCIDRs": ["198.19.0.0/16"],
        "dnsDomain": "prod.example",
    }})
}

/// Repeated names, empty values, names before and behind the defaults, and those that probes
/// follow.
fn extra_args() -> Value {
    json!({
        "apiServer": {"extraArgs": [
            {"name": "service-account-issuer", "value": "https://issuer.example.net"},
            {"name": "v", "value": "3"},
            {"name": "service-account-issuer", "value": "https://kubernetes.default.svc.cluster.local"},
            {"name": "audit-log-path", "value": ""},
            {"name": "authorization-mode", "value": "Node,RBAC,Webhook"},
            {"name": "allow-privileged", "value": "false"},
        ]},
        "controllerManager": {"extraArgs": [
            {"name": "bind-address", "value": "127.0.0.9"},
            {"name": "bind-address", "value": "0.0.0.0"},
            {"name": "controllers", "value": "*"},
            {"name": "secure-port", "value": "10357"},
        ]},
        "scheduler": {"extraArgs": [
            {"name": "bind-address", "value": "198.18.0.99"},
            {"name": "feature-gates", "value": "A=true,B=false"},
        ]},
        "etcd": {"extraArgs": [
            {"name": "listen-metrics-urls", "value": "https://0.0.0.0:2399,http://127.0.0.1:2381"},
            {"name": "advertise-client-urls", "value": "https://198.18.0.50:2379"},
            {"name": "quota-backend-bytes", "value": "8589934592"},
            {"name": "strict-reconfig-check", "value": "true"},
        ]},
        "kubelet": {"extraArgs": [
            {"name": "v", "value": "4"},
            {"name": "node-labels", "value": "a=b"},
            {"name": "node-labels", "value": "c=d"},
            {"name": "image-credential-provider-config", "value": "a \"b\" \\ c"},
        ]},
    })
}

fn authorization(with_mode: bool) -> Value {
    let mut args =
        vec![json!({"name": "authorization-config", "value": "/etc/kubernetes/authz.yaml"})];
    if with_mode {
        args.push(json!({"name": "authorization-mode", "value": "RBAC"}));
    }
    json!({"apiServer": {"extraArgs": args}})
}

fn volumes_and_envs() -> Value {
    let component = json!({
        "extraVolumes": [
            {"name": "zone", "hostPath": "/srv/zone", "mountPath": "/zone"},
            {"name": "audit", "hostPath": "/srv/audit", "mountPath": "/audit",
             "readOnly": true, "pathType": "DirectoryOrCreate"},
            {"name": "kubeconfig", "hostPath": "/srv/kubeconfig", "mountPath": "/srv/kubeconfig",
             "readOnly": false, "pathType": "File"},
            {"name": "ca-certs", "hostPath": "/srv/certs", "mountPath": "/etc/ssl/certs"},
        ],
        "extraEnvs": [
            {"name": "ZONE", "value": "a"},
            {"name": "EMPTY", "value": ""},
            {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "ZONE", "value": "b"},
            {"name": "LIMIT", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        ],
    });
    json!({
        "apiServer": component,
        "controllerManager": component,
        "scheduler": component,
        "etcd": {"extraEnvs": component["extraEnvs"]},
    })
}

fn cert_sans() -> Value {
    json!({
        "apiServer": {"certSANs": [
            "z.example.net", "*.apps.example.net", "198.18.0.200", "fd00::1", "a.example.net",
            "198.18.0.200", "a.example.net",
        ]},
        "etcd": {
            "serverCertSANs": ["etcd.example.net", "198.18.0.201"],
            "peerCertSANs": ["peer.example.net", "127.0.0.1"],
        },
    })
}

fn ports() -> Value {
    let mut spec = three_machines(json!({
        "endpoint": {"host": "198.18.0.100", "port": 8443},
    }));
    for machine in spec["machines"].as_array_mut().expect("machines") {
        machine["bindPort"] = 7443.into();
    }
    spec
}

fn kubelet_config() -> Value {
    json!({"kubelet": {"config": {
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": false,
        "failSwapOn": false,
        "rotateCertificates": false,
        "nodeStatusUpdateFrequency": "10m",
        "containerRuntimeEndpoint": "unix:///run/other.sock",
        "clusterDNS": ["198.18.0.53", "198.18.0.54"],
        "clusterDomain": "other.example",
        "authentication": {"anonymous": {"enabled": true}},
        "authorization": {"webhook": {"cacheAuthorizedTTL": "30s"}},
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "10%"},
        "logging": {"format": "json", "verbosity": 3, "options": {"json": {"infoBufferSize": "64Ki"}}},
        "featureGates": {"SomeGate": true},
        "healthzPort": 10249,
        "maxPods": 64,
        "memorySwap": {"swapBehavior": "LimitedSwap"},
        "registerWithTaints": [{"key": "a", "effect": "NoSchedule"}],
        "resolvConf": "/etc/resolv.kubelet",
        "serverTLSBootstrap": true,
        "systemReserved": {"cpu": "100m"},
        "tlsMinVersion": "VersionTLS13",
        "unknownToThisKubelet": {"kept": true},
    }}})
}

fn images() -> Value {
    json!({
        "imageRepository": "images.example.net/k8s",
        "etcd": {"imageRepository": "images.example.net/etcd", "imageTag": "3.7.3-0"},
        "coreDNS": {"imageRepository": "registry.k8s.io", "imageTag": "v1.14.7"},
    })
}

fn names_and_folders() -> Value {
    json!({
        "clusterName": "yes",
        "certificates": {
            "directory": "/srv/kubernetes/pki",
            "leafValidity": "2160h",
            "caValidity": "43800h",
        },
        "etcd": {"dataDir": "/srv/etcd"},
        "taints": [],
    })
}

fn machine_settings() -> Value {
    let mut spec = three_machines(json!({
        "taints": [{"key": "example.net/own", "value": "x", "effect": "PreferNoSchedule"}],
        "kubelet": {"extraArgs": [{"name": "v", "value": "2"}, {"name": "max-pods", "value": "50"}]},
    }));
    spec["machines"][1]["criSocket"] = "unix:///run/crio/crio.sock".into();
    spec["machines"][1]["kubeletExtraArgs"] =
        json!([{"name": "node-ip", "value": "198.18.0.12"}, {"name": "v", "value": "5"}]);
    spec["machines"][2]["taints"] = json!([]);
    spec
}

/// Files in folders of their own, one below another.
fn external_etcd() -> Value {
    json!({"etcd": {"external": {
        "endpoints": ["https://198.18.0.41:2379", "https://etcd.example.net:2379"],
        "caFile": "/srv/etcd/tls/ca/ca.crt",
        "certFile": "/srv/etcd/tls/client.crt",
        "keyFile": "/srv/keys/client.key",
    }}})
}

/// An EtcdCluster on machines of its own whose members have answered.
fn by_reference(hostname: &str) -> ControlPlane {
    let spec = three_machines(json!({"etcd": {"clusterRef": {"name": "state"}}}));
    let mut control_plane = resolved(spec, hostname);
    if let Etcd::External(external) = &mut control_plane.etcd {
        let urls = (41..=43).map(|number| format!("https://198.18.0.{number}:2379"));
        external.endpoints = urls.collect();
    }
    control_plane
}

/// The API refuses IPv6 so far; what renders knows its rules already.
fn ipv6(hostname: &str) -> ControlPlane {
    let mut control_plane = resolved(one_machine(json!({})), hostname);
    let parsed = |range: &str| range.parse().expect("a range");
    control_plane.machines[0].address = "fd00::11".parse().expect("an address");
    control_plane.endpoint = Some(HostPort {
        host: "fd00::100".to_owned(),
        port: 6443,
    });
    control_plane.pod_cidrs = vec![parsed("fd00:2::/56")];
    control_plane.service_cidrs = vec![parsed("fd00:1::/112")];
    control_plane
}
