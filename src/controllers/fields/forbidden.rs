//! Arguments that would break membership or the Node's identity; the list is the renderer's.

use k8s_openapi::api::core::v1::EnvVar;

use super::{Checker, show};
use crate::crd::Arg;
use crate::manifests::{ArgOwner, forbidden_arg, forbidden_env};

/// Checks that no argument is one that may not be set.
pub fn allowed_args(checker: &mut Checker, path: &str, owner: ArgOwner, args: &[Arg]) {
    for (index, arg) in args.iter().enumerate() {
        if let Some(entry) = forbidden_arg(owner, arg) {
            let message = format!("{} must not be set: {}", flag(arg), entry.why);
            checker.invalid(format!("{path}[{index}]"), message);
        }
    }
}

/// Checks that no environment variable sets such an argument.
pub fn allowed_envs(checker: &mut Checker, path: &str, owner: ArgOwner, envs: &[EnvVar]) {
    for (index, env) in envs.iter().enumerate() {
        if let Some(entry) = forbidden_env(owner, env) {
            let message = format!("{} must not be set: {}", show(&env.name), entry.why);
            checker.invalid(format!("{path}[{index}]"), message);
        }
    }
}

fn flag(arg: &Arg) -> String {
    show(&format!("{}={}", arg.name, arg.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_the_field_the_argument_and_the_fix() {
        let mut checker = Checker::default();
        let arg = |name: &str, value: &str| Arg {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let args = [
            arg("quota-backend-bytes", "1"),
            arg("strict-reconfig-check", "false"),
        ];
        allowed_args(&mut checker, "spec.etcd.extraArgs", ArgOwner::Etcd, &args);
        let envs = [EnvVar {
            name: "ETCD_NAME".to_owned(),
            value: Some("x".to_owned()),
            value_from: None,
        }];
        allowed_envs(&mut checker, "spec.etcd.extraEnvs", ArgOwner::Etcd, &envs);
        let texts: Vec<String> = checker.finish().0.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 2);
        assert!(texts[0].starts_with(
            "spec.etcd.extraArgs[1]: \"strict-reconfig-check=false\" must not be set: "
        ));
        assert!(texts[0].ends_with("; remove it"));
        assert!(texts[1].starts_with("spec.etcd.extraEnvs[0]: \"ETCD_NAME\" must not be set: "));
    }
}
