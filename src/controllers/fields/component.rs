//! Arguments, environment variables and volumes of a component, and free-form configuration.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::EnvVar;

use super::{Checker, absolute_path, allowed_args, show};
use crate::crd::{self, Arg, HostPathMount};
use crate::domain;
use crate::manifests::ArgOwner;

/// Checks the additions to a static pod.
pub fn component(
    checker: &mut Checker,
    path: &str,
    given: Option<&crd::Component>,
) -> domain::Component {
    let Some(given) = given else {
        return domain::Component::default();
    };
    domain::Component {
        extra_args: args(
            checker,
            &format!("{path}.extraArgs"),
            given.extra_args.as_ref(),
        ),
        extra_envs: env_vars(
            checker,
            &format!("{path}.extraEnvs"),
            given.extra_envs.as_ref(),
        ),
        extra_volumes: volumes(
            checker,
            &format!("{path}.extraVolumes"),
            given.extra_volumes.as_ref(),
        ),
    }
}

/// Checks arguments. Repeats are allowed and keep their order.
pub fn args(checker: &mut Checker, path: &str, given: Option<&Vec<Arg>>) -> Vec<Arg> {
    let given = given.cloned().unwrap_or_default();
    for (index, arg) in given.iter().enumerate() {
        let name_ok = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if arg.name.is_empty() || arg.name.starts_with('-') || !arg.name.bytes().all(name_ok) {
            let message = format!(
                "{} is not a flag name; write it without leading dashes and without '=', for \
                 example audit-log-path",
                show(&arg.name)
            );
            checker.invalid(format!("{path}[{index}].name"), message);
        }
        if arg.value.chars().any(char::is_control) {
            let message = format!(
                "the value of {} holds control characters; write it on one line",
                show(&arg.name)
            );
            checker.invalid(format!("{path}[{index}].value"), message);
        }
    }
    given
}

/// Checks environment variables of a static pod, which cannot read other objects.
pub fn env_vars(checker: &mut Checker, path: &str, given: Option<&Vec<EnvVar>>) -> Vec<EnvVar> {
    let given = given.cloned().unwrap_or_default();
    for (index, env) in given.iter().enumerate() {
        let at = format!("{path}[{index}]");
        let printable = |b: u8| (b' '..=b'~').contains(&b) && b != b'=';
        if env.name.is_empty() || !env.name.bytes().all(printable) {
            let message = format!(
                "{} is not the name of a variable; use printable ASCII without '='",
                show(&env.name)
            );
            checker.invalid(format!("{at}.name"), message);
        }
        let Some(source) = &env.value_from else {
            continue;
        };
        if env.value.as_ref().is_some_and(|value| !value.is_empty()) {
            let message = format!("{} has both value and valueFrom; keep one", show(&env.name));
            checker.invalid(&at, message);
        }
        if source.secret_key_ref.is_some()
            || source.config_map_key_ref.is_some()
            || source.file_key_ref.is_some()
        {
            let message = format!(
                "{} reads a Secret, ConfigMap or volume file, which a static pod cannot; use \
                 value, or a file of machineConfig.files and an extra volume",
                show(&env.name)
            );
            checker.invalid(format!("{at}.valueFrom"), message);
        } else if source.field_ref.is_none() && source.resource_field_ref.is_none() {
            checker.invalid(
                format!("{at}.valueFrom"),
                "is empty; give fieldRef or resourceFieldRef, or use value",
            );
        }
    }
    given
}

fn volumes(
    checker: &mut Checker,
    path: &str,
    given: Option<&Vec<HostPathMount>>,
) -> Vec<HostPathMount> {
    let given = given.cloned().unwrap_or_default();
    let mut names = BTreeSet::new();
    let mut mounts = BTreeSet::new();
    for (index, volume) in given.iter().enumerate() {
        let at = format!("{path}[{index}]");
        let label_ok = volume.name.len() <= 63
            && !volume.name.contains('.')
            && domain::dns_subdomain(&volume.name).is_ok();
        if !label_ok {
            let message = format!(
                "{} is not a volume name; use at most 63 lower-case letters, digits and '-'",
                show(&volume.name)
            );
            checker.invalid(format!("{at}.name"), message);
        }
        if !names.insert(volume.name.as_str()) {
            let message = format!(
                "{} is the name of two volumes; rename one",
                show(&volume.name)
            );
            checker.invalid(format!("{at}.name"), message);
        }
        absolute_path(checker, &format!("{at}.hostPath"), &volume.host_path);
        let mount_path = format!("{at}.mountPath");
        if absolute_path(checker, &mount_path, &volume.mount_path)
            && volume.mount_path.contains(':')
        {
            let message = format!(
                "{} holds ':'; choose another path",
                show(&volume.mount_path)
            );
            checker.invalid(&mount_path, message);
        }
        if !mounts.insert(volume.mount_path.as_str()) {
            let message = format!(
                "{} is mounted twice; change one of the mount paths",
                show(&volume.mount_path)
            );
            checker.invalid(&mount_path, message);
        }
    }
    given
}

/// Checks raw configuration of a component: its `apiVersion` and `kind`, if written, must be those
/// that the operator renders.
pub fn free_form(
    checker: &mut Checker,
    path: &str,
    api_version: &str,
    kind: &str,
    given: Option<&BTreeMap<String, serde_json::Value>>,
) -> BTreeMap<String, serde_json::Value> {
    let mut config = given.cloned().unwrap_or_default();
    for (key, expected) in [("apiVersion", api_version), ("kind", kind)] {
        // Left out of the result, so that a renderer can lay the rest over its own object.
        match config.remove(key) {
            None => {}
            Some(serde_json::Value::String(text)) if text == expected => {}
            Some(other) => {
                let message = format!(
                    "{} is not supported; leave it out or write {expected}",
                    show(&other.to_string())
                );
                checker.invalid(format!("{path}.{key}"), message);
            }
        }
    }
    config
}

/// Checks `spec.kubelet`.
pub fn kubelet(checker: &mut Checker, given: Option<&crd::Kubelet>) -> domain::Kubelet {
    let Some(given) = given else {
        return domain::Kubelet::default();
    };
    let path = "spec.kubelet.extraArgs";
    let extra_args = args(checker, path, given.extra_args.as_ref());
    allowed_args(checker, path, ArgOwner::Kubelet, &extra_args);
    domain::Kubelet {
        config: free_form(
            checker,
            "spec.kubelet.config",
            "kubelet.config.k8s.io/v1beta1",
            "KubeletConfiguration",
            given.config.as_ref(),
        ),
        extra_args,
    }
}
