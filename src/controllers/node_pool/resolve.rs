//! From the spec and its control plane to the pool with every default applied, or to everything
//! that is wrong. Pure.

mod version;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kube::ResourceExt;

pub use workers::is_control_plane;

use crate::controllers::control_plane::resolve as control_plane;
use crate::controllers::fields::{
    self, Checker, ContentRef, Contents, Problem, content_references,
};
use crate::controllers::names;
use crate::crd;
use crate::domain::{self, ControlPlane, dns_subdomain};
use crate::manifests::overlay;

/// Bounds of `spec.token.ttl`.
const TTL: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));
/// Bounds of `spec.drain.timeout`.
const DRAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));

/// What resolving needs beside the object.
#[derive(Default)]
pub struct Inputs<'a> {
    pub control_plane: Option<&'a crd::ControlPlane>,
    /// Contents of the keys that [`references`] names; what does not exist is left out.
    pub contents: Contents,
}

/// The keys of Secrets and ConfigMaps that have to be read before [`resolve`].
pub fn references(spec: &crd::NodePoolSpec) -> BTreeSet<ContentRef> {
    content_references(spec.machine_config.as_ref())
}

/// Applies every default and checks every value.
///
/// # Errors
/// Every problem of the spec, never an empty list.
pub fn resolve(
    object: &crd::NodePool,
    inputs: &Inputs<'_>,
) -> Result<domain::NodePool, Vec<Problem>> {
    let mut checker = Checker::default();
    let resolved = node_pool(&mut checker, object, inputs);
    Ok(checker.conclude(resolved)?.0)
}

fn node_pool(
    checker: &mut Checker,
    object: &crd::NodePool,
    inputs: &Inputs<'_>,
) -> Option<domain::NodePool> {
    let spec = &object.spec;
    let name = object_name(checker, object.metadata.name.as_deref());
    let cluster = cluster(checker, object, inputs);
    let version = cluster
        .as_ref()
        .and_then(|(cluster, serving)| version::kubelet(checker, spec, cluster.version, *serving));
    let kubelet = fields::kubelet(checker, spec.kubelet.as_ref());
    let workers = workers::workers(
        checker,
        &name,
        spec,
        cluster.as_ref().map(|(cluster, _)| cluster),
    );
    let ttl = spec.token.as_ref().and_then(|token| token.ttl.clone());
    let ttl = checker.or_default("spec.token.ttl", ttl, names::TOKEN_TTL.to_owned());
    let ttl = fields::duration(checker, "spec.token.ttl", &ttl, TTL.0, TTL.1);
    let drain = spec.drain.as_ref().and_then(|drain| drain.timeout.clone());
    let drain = checker.or_default("spec.drain.timeout", drain, "10m".to_owned());
    let drain = fields::duration(checker, "spec.drain.timeout", &drain, DRAIN.0, DRAIN.1);
    let config = fields::machine_config(
        checker,
        "spec.machineConfig",
        spec.machine_config.as_ref(),
        &inputs.contents,
    );
    let server_tls_bootstrap =
        checker.or_default("spec.serverTLSBootstrap", spec.server_tls_bootstrap, false);
    let mut cluster = cluster?.0;
    cluster.version = version?;
    lay_over(&mut cluster.kubelet, kubelet);
    if server_tls_bootstrap {
        let on = serde_json::Value::Bool(true);
        cluster
            .kubelet
            .config
            .insert("serverTLSBootstrap".to_owned(), on);
    }
    cluster.user_data_format = config.format;
    cluster.files = config.files;
    cluster.pre_commands = config.pre_commands;
    cluster.post_commands = config.post_commands;
    cluster.os_preparation = config.os_preparation;
    cluster.size_budget_bytes = config.size_budget_bytes;
    Some(domain::NodePool {
        name,
        namespace: object.namespace().unwrap_or_else(|| "default".to_owned()),
        cluster,
        workers: workers?,
        token_ttl: ttl?,
        drain_timeout: drain?,
        server_tls_bootstrap,
    })
}

fn object_name(checker: &mut Checker, name: Option<&str>) -> String {
    let name = name.unwrap_or_default();
    if name.len() > 63 {
        let message = format!(
            "{} has {} characters; at most 63 are allowed, because the name stands in labels",
            fields::show(name),
            name.len()
        );
        checker.invalid("metadata.name", message);
    } else {
        checker.take("metadata.name", dns_subdomain(name).map(drop));
    }
    name.to_owned()
}

/// The control plane, and the lowest version that it is known to run.
fn cluster(
    checker: &mut Checker,
    object: &crd::NodePool,
    inputs: &Inputs<'_>,
) -> Option<(ControlPlane, Option<domain::KubeVersion>)> {
    let path = "spec.controlPlaneRef.name";
    let name = &object.spec.control_plane_ref.name;
    let Some(found) = inputs.control_plane else {
        let message = format!(
            "there is no ControlPlane {} in namespace {}; create it, or make a pool for another one",
            fields::show(name),
            fields::show(&object.namespace().unwrap_or_default())
        );
        checker.missing(path, message);
        return None;
    };
    // Its own files and commands, and its etcd, are not the pool's business, so that they need not
    // be read.
    let mut found = found.clone();
    found.spec.machine_config = None;
    found.spec.etcd = None;
    match control_plane::resolve(&found, &control_plane::Inputs::default()) {
        Ok(resolved) => {
            let running = found.status.and_then(|status| status.version?.parse().ok());
            Some((resolved.control_plane, running))
        }
        Err(problems) => {
            let first = problems.first().map(ToString::to_string);
            let message = format!(
                "ControlPlane {} cannot be used: {}",
                fields::show(name),
                first.unwrap_or_default()
            );
            checker.missing(path, message);
            None
        }
    }
}

/// The pool's kubelet settings over the cluster's: fields one by one, arguments by name.
fn lay_over(cluster: &mut domain::Kubelet, pool: domain::Kubelet) {
    let mut config: serde_json::Value = std::mem::take(&mut cluster.config).into_iter().collect();
    overlay(&mut config, &pool.config.into_iter().collect());
    if let serde_json::Value::Object(fields) = config {
        cluster.config = fields.into_iter().collect::<BTreeMap<_, _>>();
    }
    let own = &pool.extra_args;
    cluster
        .extra_args
        .retain(|arg| !own.iter().any(|own| own.name == arg.name));
    cluster.extra_args.extend(pool.extra_args);
}

#[cfg(test)]
mod tests;
