//! How far the cluster is, in words. Pure.

use crate::controllers::conditions::Reason;
use crate::controllers::etcd_cluster::observe::Observed;
use crate::controllers::etcd_cluster::plan::Plan;
use crate::controllers::etcd_cluster::plan::membership::Membership;
use crate::membership::{Freeze, MemberHealth, health, quorum};

/// Every voter is healthy, and there are as many as wanted. A cluster that is being founded has
/// as many as its founding says. And no machine would start its member on an empty disk (I9).
pub fn is_whole(observed: &Observed, plan: &Plan) -> bool {
    let size = usize::try_from(observed.cluster.spec.size).unwrap_or(0);
    let enough = plan.membership.is_none() || plan.voters == size;
    plan.voters > 0 && plan.healthy == plan.voters && enough && plan.unguarded().next().is_none()
}

pub fn trouble(plan: &Plan) -> Option<(Reason, String)> {
    if let Some(why) = &plan.halt {
        return Some((Reason::FoundingHalted, why.clone()));
    }
    let freeze = plan.freeze.as_ref()?;
    let reason = match freeze {
        Freeze::SplitBrain(_) => Reason::SplitBrain,
        Freeze::IdentityMismatch(_) => Reason::IdentityMismatch,
    };
    Some((reason, freeze.message().to_owned()))
}

/// How far the cluster is, with every member that is not healthy and why.
pub fn progress(observed: &Observed, plan: &Plan) -> (Reason, String) {
    if plan.left_over {
        let text = "the ledger ConfigMap of an earlier cluster of this name has yet to be deleted";
        return (Reason::AwaitingDeletion, text.to_owned());
    }
    if let Some(why) = &observed.unasked {
        return (Reason::MissingInput, why.clone());
    }
    let voters = plan.voters;
    if voters == 0 {
        return (
            Reason::AwaitingFounding,
            "the founding has just been recorded".to_owned(),
        );
    }
    let mut text = format!("{} of {voters} voters are healthy", plan.healthy);
    if is_whole(observed, plan) {
        return (Reason::AsDesired, text);
    }
    let size = usize::try_from(observed.cluster.spec.size).unwrap_or(0);
    if plan.membership.is_some() && voters != size {
        text += &format!(", {size} are wanted");
    }
    let snapshot = &observed.snapshot;
    for view in &snapshot.members {
        if let MemberHealth::Unhealthy(why) = health(view, snapshot) {
            let hint = observed.hint(&view.machine);
            text += &format!("; {}: {why}{hint}", view.name);
        }
    }
    text.extend(plan.unguarded().map(|why| format!("; {why}")));
    (progress_reason(plan), text)
}

/// Why the cluster is not whole.
fn progress_reason(plan: &Plan) -> Reason {
    let slots = &plan.ledger.slots;
    let started = slots.iter().filter(|slot| slot.started).count();
    let founding = slots
        .iter()
        .any(|slot| slot.generation == 0 && !slot.started);
    let changing = plan
        .membership
        .as_ref()
        .is_some_and(Membership::is_changing);
    if started == 0 {
        Reason::AwaitingMachines
    } else if founding {
        Reason::MachinesStarting
    } else if plan.healthy < quorum(plan.voters) {
        Reason::QuorumLost
    } else if changing {
        Reason::MembershipChanging
    } else if plan.healthy == plan.voters && plan.unguarded().next().is_some() {
        Reason::MachinesStarting
    } else {
        Reason::Degraded
    }
}
