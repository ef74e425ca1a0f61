//! The EtcdCluster that a stacked ControlPlane owns. Pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::controllers::names;
use crate::crd::{self, EtcdCluster, EtcdClusterSpec};
use crate::domain::{self, Founding, InitialClusterState, Member};

/// The object as it shall be. Machines that serve come first: the founding takes them in order.
pub fn desired(
    object: &crd::ControlPlane,
    resolved: &domain::ControlPlane,
    owner: OwnerReference,
) -> EtcdCluster {
    let spec = &object.spec;
    let stacked = spec.etcd.clone().unwrap_or_default();
    let in_order = resolved.machines.iter().chain(&resolved.spares);
    let machine = |wanted: &domain::Machine| {
        spec.machines
            .iter()
            .find(|machine| machine.name == wanted.name.as_str())
            .cloned()
    };
    let release = crate::versions::release(resolved.version);
    let mut cluster = EtcdCluster::new(
        &resolved.name,
        EtcdClusterSpec {
            version: release
                .map(|release| release.etcd_version().to_owned())
                .unwrap_or_default(),
            size: spec.replicas,
            machines: in_order.filter_map(machine).collect(),
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
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    };
    cluster
}

/// The founding as the ledger holds it; `None` until it is recorded.
pub fn founding(cluster: &EtcdCluster) -> Option<Founding> {
    let status = cluster.status.as_ref()?;
    let ledger = status.ledger.as_ref()?;
    let recorded = ledger.founding.as_ref()?;
    let started = |name: &str| {
        ledger
            .slots
            .iter()
            .any(|slot| slot.machine == name && slot.started)
    };
    let members = recorded.members.iter().map(|member| Member {
        name: member.name.clone(),
        peer_url: member.peer_url.clone(),
        started: started(&member.name),
    });
    Some(Founding {
        token: recorded.token.clone(),
        members: members.collect(),
        state: match status.cluster_id {
            None => InitialClusterState::New,
            Some(_) => InitialClusterState::Existing,
        },
    })
}
