//! From the spec of an EtcdCluster on machines of its own to the cluster with every default applied,
//! or to everything that is wrong. Pure.

use std::collections::BTreeSet;

use kube::ResourceExt;

use crate::controllers::fields::{
    self, Checker, ContentRef, Contents, Problem, content_references, show,
};
use crate::controllers::ledger;
use crate::crd::{self, CaKeysOnNodes, EtcdClusterSpec, EtcdSource};
use crate::domain::{EtcdCluster, Machine};
use crate::versions::{self, DEFAULT_REPOSITORY};

/// The keys of Secrets and ConfigMaps that have to be read before [`resolve`].
pub fn references(spec: &EtcdClusterSpec) -> BTreeSet<ContentRef> {
    content_references(spec.machine_config.as_ref())
}

/// Applies every default and checks every value. Once the founding is recorded, the machines are
/// those that have a member.
///
/// # Errors
/// Every problem of the spec, never an empty list.
pub fn resolve(
    object: &crd::EtcdCluster,
    contents: &Contents,
) -> Result<EtcdCluster, Vec<Problem>> {
    let mut checker = Checker::default();
    let resolved = cluster(&mut checker, object, contents);
    let (cluster, _) = checker.conclude(resolved)?;
    Ok(follow(cluster, object))
}

fn cluster(
    checker: &mut Checker,
    object: &crd::EtcdCluster,
    contents: &Contents,
) -> Option<EtcdCluster> {
    let spec = &object.spec;
    let name = fields::object_name(checker, object.metadata.name.as_deref());
    let tag = version(checker, &spec.version).map(|()| format!("{}-0", spec.version));
    let repository = spec.image_repository.as_deref();
    let repository = repository.unwrap_or(DEFAULT_REPOSITORY);
    let members = fields::etcd_members(checker, "spec", &members(spec), repository, tag.as_deref());
    let patches = fields::kubelet_patches(checker, "spec.patches", spec.patches.as_ref());
    let inventory = fields::inventory(checker, &spec.machines, &[], &patches);
    only_etcd(checker, &spec.machines);
    let certificates = fields::certificates(checker, spec.certificates.as_ref());
    no_ca_keys(checker, spec.certificates.as_ref());
    let kubelet = fields::kubelet(checker, spec.kubelet.as_ref());
    let config = fields::machine_config(
        checker,
        "spec.machineConfig",
        spec.machine_config.as_ref(),
        contents,
    );
    let listed = spec.machines.len();
    let (machines, spares) = fields::split(checker, "size", spec.size, listed, inventory)?;
    let (leaf_validity, ca_validity) = certificates.validity?;
    Some(EtcdCluster {
        name,
        namespace: object.namespace().unwrap_or_else(|| "default".to_owned()),
        machines,
        spares,
        members: members?,
        kubelet,
        pause_image: versions::pause_image(repository, versions::newest_kubelet()?),
        key_algorithm: certificates.key_algorithm,
        leaf_validity,
        ca_validity,
        certificates_dir: certificates.directory,
        user_data_format: config.format,
        files: config.files,
        pre_commands: config.pre_commands,
        post_commands: config.post_commands,
        os_preparation: config.os_preparation,
        size_budget_bytes: config.size_budget_bytes,
    })
}

/// The members' settings in the words of a ControlPlane's.
fn members(spec: &EtcdClusterSpec) -> EtcdSource {
    EtcdSource {
        data_dir: spec.data_dir.clone(),
        image_repository: spec.image_repository.clone(),
        image_tag: spec.image_tag.clone(),
        extra_args: spec.extra_args.clone(),
        extra_envs: spec.extra_envs.clone(),
        server_cert_sans: spec.server_cert_sans.clone(),
        peer_cert_sans: spec.peer_cert_sans.clone(),
        node_loss: spec.node_loss.clone(),
        cluster_ref: None,
        external: None,
    }
}

/// The flags that kubeadm renders since 1.36 are those of etcd 3.6 and later.
fn version(checker: &mut Checker, text: &str) -> Option<()> {
    let path = "spec.version";
    let parts: Option<Vec<u32>> = text.split('.').map(|part| part.parse().ok()).collect();
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let Some([major, minor, _]) = parts.as_deref().filter(|_| plain) else {
        let message = format!(
            "{} is not an exact release of etcd; write it as 3.7.0",
            show(text)
        );
        checker.invalid(path, message);
        return None;
    };
    if *major != 3 || *minor < 6 {
        let instead = format!("{text} is not 3.6.0 or later, give such a release");
        checker.not_yet(path, &instead);
        return None;
    }
    Some(())
}

/// Such machines become no Nodes and run no API server: settings of those would do nothing.
fn only_etcd(checker: &mut Checker, machines: &[crd::Machine]) {
    for machine in machines {
        let given = [
            ("labels", machine.labels.is_some()),
            ("taints", machine.taints.is_some()),
            ("caDirectories", machine.ca_directories.is_some()),
            ("bindPort", machine.bind_port.is_some()),
        ];
        for (field, _) in given.into_iter().filter(|(_, given)| *given) {
            let path = format!("spec.machines[{}].{field}", machine.name);
            let message = "does nothing on a machine that becomes no Node and runs no API server; \
                           remove it";
            checker.invalid(path, message);
        }
    }
}

fn no_ca_keys(checker: &mut Checker, given: Option<&crd::Certificates>) {
    let placement = given.and_then(|given| given.ca_keys_on_nodes);
    if placement == Some(CaKeysOnNodes::All) {
        let message = "is All, but machines of an EtcdCluster hold no CA key; remove it";
        checker.invalid("spec.certificates.caKeysOnNodes", message);
    }
}

/// The cluster with the machines that have a member, in the order of the inventory.
fn follow(cluster: EtcdCluster, object: &crd::EtcdCluster) -> EtcdCluster {
    let Some(recorded) = ledger::founded(Some(object)) else {
        return cluster;
    };
    let position = |machine: &Machine| {
        let mut names = object.spec.machines.iter().map(|given| given.name.as_str());
        names.position(|name| name == machine.name.as_str())
    };
    let mut inventory = cluster.machines;
    inventory.extend(cluster.spares);
    inventory.sort_by_key(position);
    let (machines, spares) = inventory
        .into_iter()
        .partition(|machine| ledger::slot(recorded, machine.name.as_str()).is_some());
    EtcdCluster {
        machines,
        spares,
        ..cluster
    }
}

#[cfg(test)]
mod tests;
