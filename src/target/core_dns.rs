//! CoreDNS as kubeadm's `addon/coredns` phase makes it.

use serde_json::{Value, json};

use super::desired::{BuildError, Desired, Stage};
use super::rbac::{cluster_role, cluster_role_binding, service_account};
use crate::domain::ControlPlane;
use crate::manifests::dns_address;
use crate::versions::{self, Component};

/// ServiceAccount, rights, Corefile, Deployment and Service.
///
/// A Corefile that was edited stays, and so does the number of replicas: kubeadm takes both over
/// from the cluster, and there is no field of the spec for them.
pub(super) fn objects(control_plane: &ControlPlane) -> Result<Vec<Desired>, BuildError> {
    Ok(vec![
        Desired::new(
            Stage::Foundation,
            json!({
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": "coredns", "namespace": "kube-system"},
            }),
        ),
        cluster_role(
            "system:coredns",
            json!([
                {
                    "apiGroups": [""],
                    "resources": ["endpoints", "services", "pods", "namespaces"],
                    "verbs": ["list", "watch"],
                },
                {
                    "apiGroups": ["discovery.k8s.io"],
                    "resources": ["endpointslices"],
                    "verbs": ["list", "watch"],
                },
            ]),
        ),
        cluster_role_binding(
            Stage::Foundation,
            "system:coredns",
            "system:coredns",
            &[service_account("coredns")],
        ),
        Desired {
            live_wins: &["/data/Corefile"],
            ..Desired::new(Stage::Foundation, corefile(&control_plane.dns_domain))
        },
        Desired {
            live_wins: &["/spec/replicas"],
            ..Desired::new(
                Stage::Addons,
                deployment(&versions::image(control_plane, Component::CoreDns)?),
            )
        },
        Desired::new(Stage::Addons, service(control_plane)?),
    ])
}

fn corefile(domain: &str) -> Value {
    let corefile = format!(
        ".:53 {{
    errors
    health {{
       lameduck 5s
    }}
    ready
    kubernetes {domain} in-addr.arpa ip6.arpa {{
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }}
    prometheus :9153
    forward . /etc/resolv.conf {{
       max_concurrent 1000
    }}
    cache 30 {{
       disable success {domain}
       disable denial {domain}
    }}
    loop
    reload
    loadbalance
}}
"
    );
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "coredns", "namespace": "kube-system"},
        "data": {"Corefile": corefile},
    })
}

fn deployment(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "labels": {"k8s-app": "kube-dns"},
            "name": "coredns",
            "namespace": "kube-system",
        },
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"k8s-app": "kube-dns"}},
            "strategy": {"rollingUpdate": {"maxUnavailable": 1}, "type": "RollingUpdate"},
            "template": {
                "metadata": {"labels": {"k8s-app": "kube-dns"}},
                "spec": pod_spec(image),
            },
        },
    })
}

fn pod_spec(image: &str) -> Value {
    json!({
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
            "podAffinityTerm": {
                "labelSelector": {"matchExpressions": [
                    {"key": "k8s-app", "operator": "In", "values": ["kube-dns"]},
                ]},
                "topologyKey": "kubernetes.io/hostname",
            },
            "weight": 100,
        }]}},
        "containers": [container(image)],
        "dnsPolicy": "Default",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "priorityClassName": "system-cluster-critical",
        "serviceAccountName": "coredns",
        "tolerations": [
            {"key": "CriticalAddonsOnly", "operator": "Exists"},
            {"effect": "NoSchedule", "key": "node-role.kubernetes.io/control-plane"},
        ],
        "volumes": [{
            "configMap": {
                "items": [{"key": "Corefile", "path": "Corefile"}],
                "name": "coredns",
            },
            "name": "config-volume",
        }],
    })
}

fn container(image: &str) -> Value {
    json!({
        "args": ["-conf", "/etc/coredns/Corefile"],
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "livenessProbe": {
            "failureThreshold": 5,
            "httpGet": {"path": "/health", "port": "liveness-probe", "scheme": "HTTP"},
            "initialDelaySeconds": 60,
            "successThreshold": 1,
            "timeoutSeconds": 5,
        },
        "name": "coredns",
        "ports": [
            {"containerPort": 53, "name": "dns", "protocol": "UDP"},
            {"containerPort": 53, "name": "dns-tcp", "protocol": "TCP"},
            {"containerPort": 9153, "name": "metrics", "protocol": "TCP"},
            {"containerPort": 8080, "name": "liveness-probe", "protocol": "TCP"},
            {"containerPort": 8181, "name": "readiness-probe", "protocol": "TCP"},
        ],
        "readinessProbe": {
            "httpGet": {"path": "/ready", "port": "readiness-probe", "scheme": "HTTP"},
        },
        "resources": {
            "limits": {"memory": "170Mi"},
            "requests": {"cpu": "100m", "memory": "70Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"add": ["NET_BIND_SERVICE"], "drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
        },
        "volumeMounts": [
            {"mountPath": "/etc/coredns", "name": "config-volume", "readOnly": true},
        ],
    })
}

/// The Service at the tenth address of the first service range, which kubelets hand to pods.
fn service(control_plane: &ControlPlane) -> Result<Value, BuildError> {
    let address = dns_address(control_plane)?;
    let port = |name: &str, port: u16, protocol: &str| json!({"name": name, "port": port, "protocol": protocol, "targetPort": port});
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "annotations": {"prometheus.io/port": "9153", "prometheus.io/scrape": "true"},
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "CoreDNS",
            },
            "name": "kube-dns",
            "namespace": "kube-system",
        },
        "spec": {
            "clusterIP": address,
            "ports": [
                port("dns", 53, "UDP"),
                port("dns-tcp", 53, "TCP"),
                port("metrics", 9153, "TCP"),
            ],
            "selector": {"k8s-app": "kube-dns"},
        },
    }))
}
