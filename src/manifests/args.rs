//! Command lines (kubeadm `ArgumentsToCommand`).

use crate::crd::Arg;

/// The default arguments of a component.
pub(super) type BaseArgs = Vec<(&'static str, String)>;

/// `--name=value` of the defaults, sorted by name and value, then of the user's, in their order. A
/// user's argument drops every default of its name (kubeadm 1.36 and later; the order matters for
/// `--service-account-issuer`, whose first value signs).
pub(super) fn command_args<'a>(
    mut base: BaseArgs,
    overrides: impl Iterator<Item = &'a Arg> + Clone,
) -> Vec<String> {
    base.sort();
    base.retain(|(name, _)| !overrides.clone().any(|arg| arg.name == *name));
    base.iter()
        .map(|(name, value)| flag(name, value))
        .chain(overrides.map(|arg| flag(&arg.name, &arg.value)))
        .collect()
}

/// The value of the last argument of a name: the one that counts where a probe follows a flag.
pub(super) fn last_value<'a>(args: &'a [Arg], name: &str) -> Option<&'a str> {
    args.iter()
        .rev()
        .find(|arg| arg.name == name)
        .map(|arg| arg.value.as_str())
}

fn flag(name: &str, value: &str) -> String {
    format!("--{name}={value}")
}
