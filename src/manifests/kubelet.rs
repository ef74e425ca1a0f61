//! Configuration and flags of the kubelet (kubeadm `phases/kubelet`, `componentconfigs`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Taint;
use serde_json::{Value, json};

use super::ManifestError;
use super::args::{BaseArgs, command_args};
use super::patches;
use crate::crd::Arg;
use crate::domain::{ControlPlane, EtcdCluster, KubeletPatch, Machine, Worker};
use crate::yaml::to_yaml;

/// What a kubelet has of its own, on any kind of machine.
#[derive(Clone, Copy)]
pub(super) struct Host<'a> {
    /// `None`: the operating system's hostname is the Node's name.
    name: Option<&'a str>,
    hostname: Option<&'a str>,
    pub(super) cri_socket: &'a str,
    resolv_conf: Option<&'a str>,
    extra_args: &'a [Arg],
    /// Taints that the Node registers with.
    register_with: &'a [Taint],
    patches: &'a [KubeletPatch],
}

impl<'a> From<&'a Machine> for Host<'a> {
    /// Taints of control planes are put on through the API, as kubeadm does.
    fn from(machine: &'a Machine) -> Self {
        Self {
            name: Some(machine.name.as_str()),
            hostname: machine.hostname.as_deref(),
            cri_socket: &machine.cri_socket,
            resolv_conf: machine.resolv_conf.as_deref(),
            extra_args: &machine.kubelet_extra_args,
            register_with: &[],
            patches: &machine.kubelet_patches,
        }
    }
}

impl<'a> From<&'a Worker> for Host<'a> {
    fn from(worker: &'a Worker) -> Self {
        Self {
            name: worker.name.as_ref().map(|name| name.as_str()),
            hostname: worker.hostname.as_deref(),
            cri_socket: &worker.cri_socket,
            resolv_conf: worker.resolv_conf.as_deref(),
            extra_args: &worker.kubelet_extra_args,
            register_with: &worker.taints,
            patches: &worker.kubelet_patches,
        }
    }
}

/// The configuration that all kubelets of the cluster share, as ConfigMap `kubelet-config` holds
/// it: kubeadm's defaults with the user's fields over them. What belongs to one machine only
/// (`containerRuntimeEndpoint`, `resolvConf`) is not in it unless the user put it there.
pub fn kubelet_configuration(control_plane: &ControlPlane) -> Result<Value, ManifestError> {
    let mut config = defaults(control_plane)?;
    overlay_all(&mut config, &control_plane.kubelet.config);
    // Not the user's: kubeadm cannot tell an explicit false from an absent one and sets true.
    config["rotateCertificates"] = Value::Bool(true);
    config["apiVersion"] = "kubelet.config.k8s.io/v1beta1".into();
    config["kind"] = "KubeletConfiguration".into();
    Ok(config)
}

/// `/var/lib/kubelet/config.yaml` of one machine.
pub(super) fn config_file(
    control_plane: &ControlPlane,
    host: Host<'_>,
) -> Result<String, ManifestError> {
    let mut config = kubelet_configuration(control_plane)?;
    if let Some(resolv_conf) = host.resolv_conf {
        config["resolvConf"] = resolv_conf.into();
    }
    patches::apply(&mut config, host.patches)?;
    // kubeadm applies the instance configuration after the user's patches.
    config["containerRuntimeEndpoint"] = host.cri_socket.into();
    Ok(to_yaml(&config)?)
}

/// `/var/lib/kubelet/config.yaml` of a machine that runs static pods and has no API server, as
/// kubeadm's guide to such machines has it: the kubelet answers on loopback only, and nobody who asks
/// is known to it. The user's fields stand over that.
pub(super) fn standalone_config_file(
    cluster: &EtcdCluster,
    host: Host<'_>,
) -> Result<String, ManifestError> {
    let mut config = json!({
        "address": "127.0.0.1",
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": false},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "systemd",
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": 10248,
        "readOnlyPort": 0,
        "staticPodPath": "/etc/kubernetes/manifests",
    });
    overlay_all(&mut config, &cluster.kubelet.config);
    config["apiVersion"] = "kubelet.config.k8s.io/v1beta1".into();
    config["kind"] = "KubeletConfiguration".into();
    if let Some(resolv_conf) = host.resolv_conf {
        config["resolvConf"] = resolv_conf.into();
    }
    patches::apply(&mut config, host.patches)?;
    config["containerRuntimeEndpoint"] = host.cri_socket.into();
    Ok(to_yaml(&config)?)
}

/// Whether the kubelet of such a machine leaves cgroups to systemd.
pub(super) fn uses_systemd_cgroups(cluster: &EtcdCluster) -> bool {
    let mut driver = json!({"cgroupDriver": "systemd"});
    overlay_all(&mut driver, &cluster.kubelet.config);
    driver["cgroupDriver"] == "systemd"
}

fn overlay_all(config: &mut Value, user: &BTreeMap<String, Value>) {
    if let Value::Object(fields) = config {
        for (name, value) in user {
            overlay(fields.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// `/var/lib/kubelet/instance-config.yaml`: what a later `kubeadm upgrade node` keeps of this
/// machine when it writes `config.yaml` anew.
pub(super) fn instance_config_file(host: Host<'_>) -> String {
    format!("containerRuntimeEndpoint: {}\n", go_quote(host.cri_socket))
}

/// `/var/lib/kubelet/kubeadm-flags.env`: one variable that the drop-in hands to the kubelet.
/// `shared` are the arguments of all machines; `pause` is the image of sandboxes, for kubelets that
/// still take it as a flag.
pub(super) fn flags_file(shared: &[Arg], pause: Option<String>, host: Host<'_>) -> String {
    let mut base: BaseArgs = Vec::new();
    base.extend(pause.map(|image| ("pod-infra-container-image", image)));
    if let (Some(name), Some(hostname)) = (host.name, host.hostname)
        && name != hostname
    {
        base.push(("hostname-override", name.to_owned()));
    }
    if !host.register_with.is_empty() {
        let taints: Vec<String> = host.register_with.iter().map(taint).collect();
        base.push(("register-with-taints", taints.join(",")));
    }
    // A machine's own argument replaces the cluster's of its name, as that replaces a default.
    let own = host.extra_args;
    let shared = shared.iter();
    let shared = shared.filter(|arg: &&Arg| !own.iter().any(|o| o.name == arg.name));
    let args = command_args(base, shared.chain(own));
    format!("KUBELET_KUBEADM_ARGS={}\n", go_quote(&args.join(" ")))
}

/// `key=value:effect`, without an empty value (`Taint.ToString`).
fn taint(taint: &Taint) -> String {
    match taint.value.as_deref().unwrap_or_default() {
        "" => format!("{}:{}", taint.key, taint.effect),
        value => format!("{}={value}:{}", taint.key, taint.effect),
    }
}

/// The zero values are what Go's serializer writes; the kubelet takes each as its default.
fn defaults(control_plane: &ControlPlane) -> Result<Value, ManifestError> {
    Ok(json!({
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"cacheTTL": "0s", "enabled": true},
            "x509": {"clientCAFile": format!("{}/ca.crt", control_plane.certificates_dir)},
        },
        "authorization": {
            "mode": "Webhook",
            "webhook": {"cacheAuthorizedTTL": "0s", "cacheUnauthorizedTTL": "0s"},
        },
        "cgroupDriver": "systemd",
        "clusterDNS": [dns_address(control_plane)?],
        "clusterDomain": control_plane.dns_domain,
        "containerRuntimeEndpoint": "",
        "cpuManagerReconcilePeriod": "0s",
        "crashLoopBackOff": {},
        "evictionPressureTransitionPeriod": "0s",
        "fileCheckFrequency": "0s",
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": 10248,
        "httpCheckFrequency": "0s",
        "imageMaximumGCAge": "0s",
        "imageMinimumGCAge": "0s",
        "logging": {
            "flushFrequency": 0,
            "options": {
                "json": {"infoBufferSize": "0"},
                "text": {"infoBufferSize": "0"},
            },
            "verbosity": 0,
        },
        "memorySwap": {},
        "nodeStatusReportFrequency": "0s",
        "nodeStatusUpdateFrequency": "0s",
        "runtimeRequestTimeout": "0s",
        "shutdownGracePeriod": "0s",
        "shutdownGracePeriodCriticalPods": "0s",
        "staticPodPath": "/etc/kubernetes/manifests",
        "streamingConnectionIdleTimeout": "0s",
        "syncFrequency": "0s",
        "volumeStatsAggPeriod": "0s",
    }))
}

/// The tenth address of the first service range (kubeadm `GetDNSIP`).
pub(crate) fn dns_address(control_plane: &ControlPlane) -> Result<String, ManifestError> {
    let range = control_plane.service_cidrs.first();
    range
        .and_then(|range| range.nth_address(10))
        .map(|address| address.to_string())
        .ok_or_else(|| ManifestError::NoDnsAddress {
            range: range.map(ToString::to_string).unwrap_or_default(),
        })
}

/// Puts the user's value over a default: objects field by field, anything else whole. Null and an
/// empty string count as not given where there is a default, as Go's defaulting sees them.
pub(crate) fn overlay(default: &mut Value, user: &Value) {
    match (default, user) {
        (Value::Object(fields), Value::Object(given)) => {
            for (name, value) in given {
                overlay(fields.entry(name).or_insert(Value::Null), value);
            }
        }
        (Value::String(default), Value::String(given))
            if given.is_empty() && !default.is_empty() => {}
        (default, Value::Null) if !default.is_null() => {}
        (default, user) => *default = user.clone(),
    }
}

/// Go's `%q`, which kubeadm writes these files with.
fn go_quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            c if c < ' ' || c == '\x7f' => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
