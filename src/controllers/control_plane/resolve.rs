//! From the spec to the control plane with every default applied, or to everything that is wrong.
//!
//! Pure. CEL refuses most mistakes when an object is applied; everything is checked again here,
//! because objects may be older than a rule and because some rules cannot be said in CEL.

mod components;
mod etcd;
mod machines;
mod network;
mod version;

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;

pub use crate::controllers::fields::{
    ContentKind, ContentRef, Contents, Problem, ProblemReason, content_references,
};
pub use machines::choose_serving;

use crate::controllers::fields::{self, Checker};
use crate::crd;
use crate::domain::{self, CaKeyPlacement, Profile, dns_subdomain};
use crate::versions::DEFAULT_REPOSITORY;

/// What resolving needs beside the object.
#[derive(Default)]
pub struct Inputs {
    /// Contents of the keys that [`references`] names; what does not exist is left out.
    pub contents: Contents,
}

/// The control plane as it shall be, and the defaults that were applied.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub control_plane: domain::ControlPlane,
    /// By field path without `spec.`, for `status.resolved`.
    pub defaults: BTreeMap<String, String>,
}

/// The keys of Secrets and ConfigMaps that have to be read before [`resolve`].
pub fn references(spec: &crd::ControlPlaneSpec) -> BTreeSet<ContentRef> {
    let mut references = content_references(spec.machine_config.as_ref());
    references.extend(etcd::references(spec.etcd.as_ref()));
    references
}

/// Applies every default and checks every value.
///
/// # Errors
/// Every problem of the spec, never an empty list.
pub fn resolve(object: &crd::ControlPlane, inputs: &Inputs) -> Result<Resolved, Vec<Problem>> {
    let mut checker = Checker::default();
    let resolved = control_plane(&mut checker, object, inputs);
    let (control_plane, defaults) = checker.conclude(resolved)?;
    Ok(Resolved {
        control_plane,
        defaults,
    })
}

fn control_plane(
    checker: &mut Checker,
    object: &crd::ControlPlane,
    inputs: &Inputs,
) -> Option<domain::ControlPlane> {
    let spec = &object.spec;
    let name = fields::object_name(checker, object.metadata.name.as_deref());
    let cluster_name =
        checker.or_default("spec.clusterName", spec.cluster_name.clone(), name.clone());
    checked_cluster_name(checker, spec.cluster_name.as_deref());
    let version = version::supported(checker, &spec.version);
    let image_repository = image_repository(checker, spec.image_repository.as_deref());
    let inventory = machines::inventory(checker, spec);
    let network = network::network(checker, spec, &inventory);
    let endpoint = network::endpoint(checker, spec, &network);
    let profile = profile(checker, spec.profile);
    let certificates = fields::certificates(checker, spec.certificates.as_ref());
    let ca_keys_on_nodes = ca_keys_on_nodes(checker, spec.certificates.as_ref(), profile);
    let around = etcd::Surroundings {
        release: version.map(|(_, release)| release),
        image_repository: &image_repository,
        certificates_dir: &certificates.directory,
        contents: &inputs.contents,
    };
    let etcd = etcd::etcd(checker, spec.etcd.as_ref(), &around);
    let kubelet = fields::kubelet(checker, spec.kubelet.as_ref());
    let kube_proxy = components::kube_proxy(checker, spec.kube_proxy.as_ref());
    let core_dns = components::core_dns(checker, spec.core_dns.as_ref());
    let api_server = components::api_server(checker, spec.api_server.as_ref());
    let path = "spec.controllerManager";
    let controller_manager = fields::component(checker, path, spec.controller_manager.as_ref());
    let scheduler = fields::component(checker, "spec.scheduler", spec.scheduler.as_ref());
    later_capabilities(checker, spec);
    let given = spec.machine_config.as_ref();
    let config = fields::machine_config(checker, "spec.machineConfig", given, &inputs.contents);
    let listed = spec.machines.len();
    let (machines, spares) = fields::split(checker, "replicas", spec.replicas, listed, inventory)?;
    let (leaf_validity, ca_validity) = certificates.validity?;
    Some(domain::ControlPlane {
        name,
        namespace: object.namespace().unwrap_or_else(|| "default".to_owned()),
        cluster_name,
        version: version?.0,
        endpoint,
        machines,
        spares,
        initial_machine: None,
        pod_cidrs: network.pod_cidrs,
        service_cidrs: network.service_cidrs,
        dns_domain: network.dns_domain,
        etcd: etcd?,
        api_server,
        controller_manager,
        scheduler,
        kubelet,
        kube_proxy,
        core_dns,
        key_algorithm: certificates.key_algorithm,
        leaf_validity,
        ca_validity,
        certificates_dir: certificates.directory,
        ca_keys_on_nodes,
        profile,
        image_repository,
        user_data_format: config.format,
        files: config.files,
        pre_commands: config.pre_commands,
        post_commands: config.post_commands,
        os_preparation: config.os_preparation,
        size_budget_bytes: config.size_budget_bytes,
    })
}

fn image_repository(checker: &mut Checker, given: Option<&str>) -> String {
    let path = "spec.imageRepository";
    let given = given.map(str::to_owned);
    let repository = checker.or_default(path, given, DEFAULT_REPOSITORY.to_owned());
    fields::image_repository(checker, path, &repository);
    repository
}

fn checked_cluster_name(checker: &mut Checker, given: Option<&str>) {
    let Some(name) = given else { return };
    if fields::label_value(checker, "spec.clusterName", name) {
        checker.take("spec.clusterName", dns_subdomain(name));
    }
}

fn profile(checker: &mut Checker, given: Option<crd::Profile>) -> Profile {
    match given {
        None => {
            checker.note_default("spec.profile", &"Standard");
            Profile::Standard
        }
        Some(crd::Profile::Kubeadm) => Profile::Kubeadm,
        Some(crd::Profile::Standard) => Profile::Standard,
        Some(crd::Profile::Hardened) => {
            checker.not_yet("spec.profile", "use Standard instead of Hardened");
            Profile::Standard
        }
    }
}

fn ca_keys_on_nodes(
    checker: &mut Checker,
    given: Option<&crd::Certificates>,
    profile: Profile,
) -> CaKeyPlacement {
    let path = "spec.certificates.caKeysOnNodes";
    match (given.and_then(|given| given.ca_keys_on_nodes), profile) {
        (Some(crd::CaKeysOnNodes::All), _) => CaKeyPlacement::All,
        (Some(crd::CaKeysOnNodes::ClusterCa), _) => CaKeyPlacement::ClusterCa,
        (Some(crd::CaKeysOnNodes::None), _) => {
            checker.not_yet(path, "use ClusterCA instead of None");
            CaKeyPlacement::ClusterCa
        }
        (None, Profile::Kubeadm) => {
            checker.note_default(path, &"All");
            CaKeyPlacement::All
        }
        (None, Profile::Standard) => {
            checker.note_default(path, &"ClusterCA");
            CaKeyPlacement::ClusterCa
        }
    }
}

/// Fields of the API whose capability comes later: refused in words rather than ignored.
fn later_capabilities(checker: &mut Checker, spec: &crd::ControlPlaneSpec) {
    if spec
        .feature_gates
        .as_ref()
        .is_some_and(|gates| !gates.is_empty())
    {
        checker.not_yet("spec.featureGates", "remove the gates");
    }
}

#[cfg(test)]
mod tests;
