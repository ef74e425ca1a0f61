//! What stands in the way of a control plane, whatever its certificates are.

use kube::ResourceExt;

use super::Facts;
use crate::controllers::conditions::{Reason, STALLED};
use crate::controllers::fields::{Problem, ProblemReason};
use crate::domain::Etcd;
use crate::kube_ext::owner;

/// What an earlier ControlPlane of this name has left behind and the garbage collector will take
/// away: nothing of it may be used.
pub fn left_over(facts: &Facts<'_>) -> Option<String> {
    let object = &*facts.observed.object;
    let secrets = facts.observed.secrets.iter();
    let secrets = secrets.filter(|(_, secret)| owner::is_of_predecessor(&secret.metadata, object));
    let mut left: Vec<String> = secrets.map(|(name, _)| format!("Secret {name}")).collect();
    let etcd = facts.observed.etcd.iter();
    let etcd = etcd.filter(|etcd| owner::is_of_predecessor(&etcd.metadata, object));
    left.extend(etcd.map(|etcd| format!("EtcdCluster {}", etcd.name_any())));
    (!left.is_empty()).then(|| {
        format!(
            "the garbage collector to delete what an earlier ControlPlane of this name owned: {}",
            left.join(", ")
        )
    })
}

/// Its own EtcdCluster found its record missing or contradictory.
pub fn founding_halted(facts: &Facts<'_>) -> Option<Problem> {
    facts.control_plane.etcd.stacked()?;
    let status = facts.observed.etcd.as_ref()?.status.as_ref()?;
    let halted = status.conditions.iter().find(|condition| {
        condition.type_ == STALLED
            && condition.status == "True"
            && condition.reason == Reason::FoundingHalted.as_str()
    })?;
    Some(Problem {
        path: format!("EtcdCluster {}", facts.control_plane.name),
        reason: ProblemReason::FoundingHalted,
        message: halted.message.clone(),
    })
}

/// An EtcdCluster of this name that belongs to somebody else, or one that is referred to and belongs
/// to a ControlPlane.
pub fn foreign_etcd(facts: &Facts<'_>) -> Option<Problem> {
    let cluster = facts.observed.etcd.as_ref()?;
    if let Etcd::External(_) = facts.control_plane.etcd {
        let controller = owner::controller_of(&cluster.metadata)?;
        return Some(Problem {
            path: "spec.etcd.clusterRef.name".to_owned(),
            reason: ProblemReason::InvalidSpec,
            message: format!(
                "EtcdCluster {:?} belongs to {} {:?}, and its members run on machines of that one; \
                 refer to an EtcdCluster on machines of its own",
                cluster.name_any(),
                controller.kind,
                controller.name
            ),
        });
    }
    (!owner::is_controlled_by(&cluster.metadata, &*facts.observed.object)).then(|| Problem {
        path: "metadata.name".to_owned(),
        reason: ProblemReason::InvalidSpec,
        message: format!(
            "an EtcdCluster {:?} exists that does not belong to this ControlPlane; give one of \
             them another name",
            facts.control_plane.name
        ),
    })
}
