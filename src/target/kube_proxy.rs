//! kube-proxy as kubeadm's `addon/kube-proxy` phase makes it.

use serde_json::{Value, json};

use super::config_maps::sign;
use super::desired::{BuildError, Desired, Stage};
use super::rbac::{
    BOOTSTRAP_TOKENS, cluster_role_binding, config_map_readers, group, service_account,
};
use crate::domain::{Cidr, ControlPlane};
use crate::manifests::overlay;
use crate::versions::{self, Component};
use crate::yaml::to_yaml;

/// ServiceAccount, rights, configuration and DaemonSet.
pub(super) fn objects(control_plane: &ControlPlane) -> Result<Vec<Desired>, BuildError> {
    let mut objects = vec![
        Desired::new(
            Stage::Foundation,
            json!({
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": "kube-proxy", "namespace": "kube-system"},
            }),
        ),
        cluster_role_binding(
            Stage::Foundation,
            "kubeadm:node-proxier",
            "system:node-proxier",
            &[service_account("kube-proxy")],
        ),
        Desired::new(Stage::Foundation, config_map(control_plane)?),
        Desired::new(
            Stage::Addons,
            daemon_set(&versions::image(control_plane, Component::KubeProxy)?),
        ),
    ];
    objects.extend(config_map_readers(
        "kube-system",
        "kube-proxy",
        "kube-proxy",
        &[group(BOOTSTRAP_TOKENS)],
    ));
    Ok(objects)
}

fn config_map(control_plane: &ControlPlane) -> Result<Value, BuildError> {
    let endpoint = control_plane
        .public_endpoint()
        .ok_or(BuildError::NoMachine)?;
    let config = to_yaml(&configuration(control_plane)?)?;
    let kubeconfig = format!(
        "apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority: /var/run/secrets/kubernetes.io/serviceaccount/ca.crt
    server: https://{endpoint}
  name: default
contexts:
- context:
    cluster: default
    namespace: default
    user: default
  name: default
current-context: default
users:
- name: default
  user:
    tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token"
    );
    let mut object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "labels": {"app": "kube-proxy"},
            "name": "kube-proxy",
            "namespace": "kube-system",
        },
        // kubeadm's template leaves no newline at the end, and the hash is over these bytes.
        "data": {"config.conf": config.trim_end(), "kubeconfig.conf": kubeconfig},
    });
    if control_plane.kube_proxy.config.is_empty() {
        sign(&mut object);
    }
    Ok(object)
}

/// `KubeProxyConfiguration`: the zero values that Go writes, the user's fields over them, then
/// kubeadm's defaults where a field is still empty.
fn configuration(control_plane: &ControlPlane) -> Result<Value, BuildError> {
    let first = control_plane
        .machines
        .first()
        .ok_or(BuildError::NoMachine)?;
    let mut config = zero_configuration();
    for (field, value) in &control_plane.kube_proxy.config {
        if field != "apiVersion" && field != "kind" {
            overlay(&mut config[field.as_str()], value);
        }
    }
    let bind_address = if first.address.is_ipv6() {
        "::"
    } else {
        "0.0.0.0"
    };
    let pod_cidrs = comma_separated(&control_plane.pod_cidrs);
    let defaults = [
        ("/bindAddress", bind_address),
        ("/clusterCIDR", pod_cidrs.as_str()),
        (
            "/clientConnection/kubeconfig",
            "/var/lib/kube-proxy/kubeconfig.conf",
        ),
        ("/mode", "iptables"),
    ];
    for (pointer, default) in defaults {
        if let Some(value) = config.pointer_mut(pointer)
            && value == ""
        {
            *value = json!(default);
        }
    }
    Ok(config)
}

/// Ranges as Kubernetes flags and kubeadm's configuration take them.
pub(super) fn comma_separated(ranges: &[Cidr]) -> String {
    let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    ranges.join(",")
}

/// `kubeproxy.config.k8s.io/v1alpha1` as Go serialises an empty value (kube-proxy 1.37).
fn zero_configuration() -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "bindAddress": "",
        "bindAddressHardFail": false,
        "clientConnection": {
            "acceptContentTypes": "", "burst": 0, "contentType": "", "kubeconfig": "", "qps": 0,
        },
        "clusterCIDR": "",
        "configSyncPeriod": "0s",
        "conntrack": {
            "maxPerCore": null, "min": null, "tcpBeLiberal": false,
            "tcpCloseWaitTimeout": null, "tcpEstablishedTimeout": null,
            "udpStreamTimeout": "0s", "udpTimeout": "0s",
        },
        "detectLocal": {"bridgeInterface": "", "interfaceNamePrefix": ""},
        "detectLocalMode": "",
        "enableProfiling": false,
        "healthzBindAddress": "",
        "hostnameOverride": "",
        "iptables": {
            "localhostNodePorts": null, "masqueradeAll": false, "masqueradeBit": null,
            "minSyncPeriod": "0s", "syncPeriod": "0s",
        },
        "ipvs": {
            "excludeCIDRs": null, "minSyncPeriod": "0s", "scheduler": "", "strictARP": false,
            "syncPeriod": "0s", "tcpFinTimeout": "0s", "tcpTimeout": "0s", "udpTimeout": "0s",
        },
        "kind": "KubeProxyConfiguration",
        "logging": {
            "flushFrequency": 0,
            "options": {"json": {"infoBufferSize": "0"}, "text": {"infoBufferSize": "0"}},
            "verbosity": 0,
        },
        "metricsBindAddress": "",
        "mode": "",
        "nftables": {
            "masqueradeAll": false, "masqueradeBit": null,
            "minSyncPeriod": "0s", "syncPeriod": "0s",
        },
        "nodePortAddresses": null,
        "oomScoreAdj": null,
        "portRange": "",
        "showHiddenMetricsForVersion": "",
        "winkernel": {
            "enableDSR": false, "forwardHealthCheckVip": false, "networkName": "",
            "rootHnsEndpointName": "", "sourceVip": "",
        },
    })
}

fn daemon_set(image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "labels": {"k8s-app": "kube-proxy"},
            "name": "kube-proxy",
            "namespace": "kube-system",
        },
        "spec": {
            "selector": {"matchLabels": {"k8s-app": "kube-proxy"}},
            "template": {
                "metadata": {"labels": {"k8s-app": "kube-proxy"}},
                "spec": pod_spec(image),
            },
            "updateStrategy": {"type": "RollingUpdate"},
        },
    })
}

fn pod_spec(image: &str) -> Value {
    json!({
        "containers": [{
            "command": [
                "/usr/local/bin/kube-proxy",
                "--config=/var/lib/kube-proxy/config.conf",
                "--hostname-override=$(NODE_NAME)",
            ],
            "env": [{
                "name": "NODE_NAME",
                "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}},
            }],
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "name": "kube-proxy",
            "securityContext": {"privileged": true},
            "volumeMounts": [
                {"mountPath": "/var/lib/kube-proxy", "name": "kube-proxy"},
                {"mountPath": "/run/xtables.lock", "name": "xtables-lock"},
                {"mountPath": "/lib/modules", "name": "lib-modules", "readOnly": true},
            ],
        }],
        "hostNetwork": true,
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "priorityClassName": "system-node-critical",
        "serviceAccountName": "kube-proxy",
        "tolerations": [{"operator": "Exists"}],
        "volumes": [
            {"configMap": {"name": "kube-proxy"}, "name": "kube-proxy"},
            {
                "hostPath": {"path": "/run/xtables.lock", "type": "FileOrCreate"},
                "name": "xtables-lock",
            },
            {"hostPath": {"path": "/lib/modules"}, "name": "lib-modules"},
        ],
    })
}
