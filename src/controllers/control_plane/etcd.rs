//! The EtcdCluster that a stacked ControlPlane owns, or that another one refers to: what the own one
//! shall be, and what follows from the ledger. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt;

use super::resolve::{Resolved, choose_serving};
use crate::controllers::conditions::STALLED;
use crate::controllers::ledger;
use crate::controllers::names;
use crate::crd::{self, EtcdCluster, EtcdClusterSpec};
use crate::domain::{self, Etcd, EtcdCredentials, NodeName};
use crate::pki::{Ca, secret_names};

/// The object as it shall be. Machines that found come first, whatever became of them since: an
/// order that follows the ledger would be a write for every change of membership.
pub fn desired(
    object: &crd::ControlPlane,
    resolved: &domain::ControlPlane,
    owner: OwnerReference,
) -> EtcdCluster {
    let spec = &object.spec;
    let stacked = spec.etcd.clone().unwrap_or_default();
    let release = crate::versions::release(resolved.version);
    let mut cluster = EtcdCluster::new(
        &resolved.name,
        EtcdClusterSpec {
            version: release
                .map(|release| release.etcd_version().to_owned())
                .unwrap_or_default(),
            size: spec.replicas,
            machines: founders_first(spec, resolved),
            image_repository: stacked
                .image_repository
                .or_else(|| spec.image_repository.clone()),
            image_tag: stacked.image_tag,
            data_dir: stacked.data_dir,
            extra_args: stacked.extra_args,
            extra_envs: stacked.extra_envs,
            server_cert_sans: stacked.server_cert_sans,
            peer_cert_sans: stacked.peer_cert_sans,
            certificates: spec.certificates.clone(),
            node_loss: stacked.node_loss,
            kubelet: None,
            patches: None,
            machine_config: None,
            paused: spec.paused,
        },
    );
    cluster.metadata = ObjectMeta {
        name: Some(resolved.name.clone()),
        namespace: Some(resolved.namespace.clone()),
        labels: Some(names::labels(&resolved.name, None, "etcd-cluster")),
        annotations: reimaged(object),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    cluster
}

fn founders_first(
    spec: &crd::ControlPlaneSpec,
    resolved: &domain::ControlPlane,
) -> Vec<crd::Machine> {
    let known = resolved.machines.iter().chain(&resolved.spares);
    let known: BTreeMap<&str, &domain::Machine> = known
        .map(|machine| (machine.name.as_str(), machine))
        .collect();
    let inventory = spec.machines.iter();
    let inventory: Vec<domain::Machine> = inventory
        .filter_map(|machine| {
            known
                .get(machine.name.as_str())
                .map(|found| (*found).clone())
        })
        .collect();
    let founders = choose_serving(&inventory, usize::try_from(spec.replicas).unwrap_or(0));
    let (first, rest): (Vec<_>, Vec<_>) = spec
        .machines
        .iter()
        .cloned()
        .enumerate()
        .partition(|(index, _)| founders.contains(index));
    first
        .into_iter()
        .chain(rest)
        .map(|(_, machine)| machine)
        .collect()
}

/// The announcement that machines are imaged anew, which the EtcdCluster acts on.
fn reimaged(object: &crd::ControlPlane) -> Option<BTreeMap<String, String>> {
    let announced = object.annotations().get(names::ANNOTATION_REIMAGED)?;
    let key = names::ANNOTATION_REIMAGED.to_owned();
    Some(BTreeMap::from([(key, announced.clone())]))
}

/// Gives the stored object what the desired one wants; `None` when it has all of it.
pub fn restored(stored: &EtcdCluster, desired: EtcdCluster) -> Option<EtcdCluster> {
    let key = names::ANNOTATION_REIMAGED;
    let announced = |cluster: &EtcdCluster| cluster.annotations().get(key).cloned();
    let wanted = announced(&desired);
    // An announcement that somebody made on the EtcdCluster itself stays.
    let annotate = wanted.is_some() && wanted != announced(stored);
    if stored.spec == desired.spec && !annotate {
        return None;
    }
    let mut restored = EtcdCluster {
        spec: desired.spec,
        ..stored.clone()
    };
    if let Some(wanted) = wanted {
        restored.annotations_mut().insert(key.to_owned(), wanted);
    }
    Some(restored)
}

impl Resolved {
    /// The control plane as its etcd makes it ([`follow`]); whether other machines serve than before.
    pub fn follow(&mut self, spec: &crd::ControlPlaneSpec, etcd: Option<&EtcdCluster>) -> bool {
        let names = |control_plane: &domain::ControlPlane| -> Vec<NodeName> {
            let machines = control_plane.machines.iter();
            machines.map(|machine| machine.name.clone()).collect()
        };
        let before = names(&self.control_plane);
        self.control_plane = follow(spec, self.control_plane.clone(), etcd);
        names(&self.control_plane) != before
    }
}

/// The control plane as its etcd makes it, once the founding is recorded. Stacked: the machines that
/// have a member, so that which ones serve is etcd's membership, not the order of the inventory. By
/// reference: the client URLs of the members that vote.
fn follow(
    spec: &crd::ControlPlaneSpec,
    mut control_plane: domain::ControlPlane,
    etcd: Option<&EtcdCluster>,
) -> domain::ControlPlane {
    let Some(ledger) = ledger::founded(etcd) else {
        return control_plane;
    };
    if let Etcd::External(external) = &mut control_plane.etcd {
        if matches!(external.credentials, EtcdCredentials::Issued { .. }) && has_answered(etcd) {
            let voters = ledger::voters(ledger);
            external.endpoints = voters
                .map(|member| names::client_url(&member.peer_url))
                .collect();
        }
        return control_plane;
    }
    let first = ledger
        .founding
        .iter()
        .flat_map(|founding| &founding.members)
        .next();
    let initial_machine = first.and_then(|founder| founder.name.parse().ok());
    let position = |machine: &domain::Machine| {
        let mut names = spec.machines.iter().map(|given| given.name.as_str());
        names.position(|name| name == machine.name.as_str())
    };
    let mut inventory = control_plane.machines;
    inventory.extend(control_plane.spares);
    inventory.sort_by_key(position);
    let (machines, spares) = inventory
        .into_iter()
        .partition(|machine| ledger::slot(ledger, machine.name.as_str()).is_some());
    domain::ControlPlane {
        machines,
        spares,
        initial_machine,
        ..control_plane
    }
}

/// Whether a founder has answered.
fn has_answered(etcd: Option<&EtcdCluster>) -> bool {
    let status = etcd.and_then(|etcd| etcd.status.as_ref());
    status.is_some_and(|status| status.cluster_id.is_some())
}

/// What a ControlPlane waits for before its EtcdCluster can be used, for people. `was_published`:
/// machines have booted from what it was once.
pub fn awaited(
    control_plane: &domain::ControlPlane,
    etcd: Option<&EtcdCluster>,
    was_published: bool,
) -> Option<String> {
    let external = control_plane.etcd.external()?;
    let EtcdCredentials::Issued { cluster } = &external.credentials else {
        return None;
    };
    let namespace = &control_plane.namespace;
    match etcd {
        None if was_published => Some(format!(
            "EtcdCluster {cluster:?}, which is not there any more: the machines run on with what they \
             have, but nobody looks after its members, and no certificate can be issued; restore it \
             and Secret {} from a backup, into namespace {namespace:?}",
            secret_names::ca(cluster, Ca::Etcd)
        )),
        None => Some(format!(
            "EtcdCluster {cluster:?}, which does not exist in namespace {namespace:?}; create it there: \
             a reference never leaves its namespace"
        )),
        Some(etcd) if external.endpoints.is_empty() => {
            let status = etcd.status.as_ref();
            let mut said = status.into_iter().flat_map(|status| &status.conditions);
            let stalled = said.find(|said| said.type_ == STALLED && said.status == "True");
            let why = stalled.map_or_else(
                || "boot its machines, if they are off".to_owned(),
                |stalled| format!("it is stalled: {}", stalled.message),
            );
            Some(format!("EtcdCluster {cluster:?} to be founded; {why}"))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::InitialClusterState;
    use crate::pki::fixture;

    fn cluster(slots: &Value, cluster_id: Option<&str>) -> EtcdCluster {
        let founder = |n: u8| json!({"name": format!("cp-{n}"), "peerURL": format!("https://198.18.0.1{n}:2380")});
        serde_json::from_value(json!({
            "apiVersion": "seedbed.dev/v1alpha1",
            "kind": "EtcdCluster",
            "metadata": {"name": "prod", "namespace": "clusters"},
            "spec": {"version": "3.7.0", "size": 3, "machines": []},
            "status": {
                "clusterID": cluster_id,
                "ledger": {
                    "founding": {"token": "t", "members": [founder(1), founder(2), founder(3)]},
                    "slots": slots,
                },
            },
        }))
        .unwrap()
    }

    fn slot(machine: &str) -> Value {
        json!({"machine": machine, "generation": 0, "started": true})
    }

    fn names(machines: &[domain::Machine]) -> Vec<&str> {
        machines
            .iter()
            .map(|machine| machine.name.as_str())
            .collect()
    }

    /// I15: a new member boots with the list as it is after it was added, under its own name.
    #[test]
    fn the_initial_cluster_is_the_ledger() {
        let added = json!({"machine": "cp-4", "generation": 1, "name": "cp-4_1",
                           "peerURL": "https://198.18.0.14:2380", "started": false});
        let cluster = cluster(&json!([slot("cp-1"), slot("cp-3"), added]), Some("c"));
        let founding = ledger::founding(&cluster).unwrap();
        assert_eq!(founding.state, InitialClusterState::Existing);
        let members: Vec<_> = founding
            .members
            .iter()
            .map(|m| (m.name.as_str(), m.peer_url.as_str(), m.started, m.added))
            .collect();
        assert_eq!(
            members,
            [
                ("cp-1", "https://198.18.0.11:2380", true, false),
                ("cp-3", "https://198.18.0.13:2380", true, false),
                ("cp-4_1", "https://198.18.0.14:2380", false, true),
            ]
        );
    }

    /// Which machines serve is membership, not the order of the inventory; before the founding the
    /// spec decides.
    #[test]
    fn machines_follow_the_ledger() {
        let mut resolved = fixture::control_plane(4);
        resolved.spares = resolved.machines.split_off(3);
        let machine = |name: &str| json!({"name": name, "address": "198.18.0.1"});
        let machines = ["cp-1", "cp-2", "cp-3", "cp-4"].map(machine);
        let spec: crd::ControlPlaneSpec = serde_json::from_value(json!({
            "version": "v1.37.1", "replicas": 3,
            "machines": machines,
        }))
        .unwrap();
        let before = follow(&spec, resolved.clone(), None);
        assert_eq!(names(&before.machines), ["cp-1", "cp-2", "cp-3"]);
        assert!(before.initial_machine.is_none());

        let cluster = cluster(
            &json!([slot("cp-4"), slot("cp-3"), slot("gone")]),
            Some("c"),
        );
        let after = follow(&spec, resolved.clone(), Some(&cluster));
        assert_eq!(names(&after.machines), ["cp-3", "cp-4"]);
        assert_eq!(names(&after.spares), ["cp-1", "cp-2"]);
        assert_eq!(after.initial_machine.unwrap().as_str(), "cp-1");
        // The EtcdCluster's own list does not move with it.
        let order = |resolved: &domain::ControlPlane| founders_first(&spec, resolved);
        assert_eq!(
            order(&before),
            order(&follow(&spec, resolved, Some(&cluster)))
        );
    }
}
