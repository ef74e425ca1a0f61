//! `EtcdCluster`: founded once, then asked every few seconds; the record of who belongs to it, and
//! at most one change of that at a time.
//!
//! One answer a reconcile: observe, plan, act, status. A change is recorded by the status first;
//! only when that is stored is everybody asked again, the call made, and the list read that tells
//! what became of it. There is no `resolve` yet, because the ControlPlane that owns the cluster has
//! resolved everything.

mod act;
mod ask;
mod observe;
mod plan;
mod status;

pub use observe::MirrorRecord;
pub use plan::membership::words as operation_in_words;

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;

use self::observe::Observed;
use self::plan::Plan;
use super::conditions::{PAUSED, READY, RECONCILING, STALLED};
use super::context::Context;
use super::error::Error;
use super::report::{Fence, not_yet_supported, report};
use super::turn::Turn;
use crate::crd::EtcdCluster;

/// A cluster that nothing is done for is looked at again after this time.
const IDLE_PERIOD: Duration = Duration::from_secs(600);
const WHY_NOT_YET: &str = "an EtcdCluster on machines of its own is not supported by this release \
                           of Seedbed yet; use the stacked etcd of a ControlPlane";

/// Looks at one EtcdCluster; answers when to look again.
pub async fn reconcile(
    cluster: Arc<EtcdCluster>,
    turn: &mut Turn,
    context: &Context,
) -> Result<Duration, Error> {
    let now = context.clock.now();
    let stored = cluster.status.as_ref();
    if observe::owner(&cluster).is_none() {
        let conditions = not_yet_supported(&[READY, RECONCILING, STALLED, PAUSED], WHY_NOT_YET);
        let said = status::with_conditions(&cluster, conditions, now);
        report(&*cluster, stored, &said, Fence::ResourceVersion, context).await?;
        return Ok(IDLE_PERIOD);
    }
    if cluster.spec.paused == Some(true) {
        let said = status::paused(&cluster, now);
        report(&*cluster, stored, &said, Fence::ResourceVersion, context).await?;
        return Ok(IDLE_PERIOD);
    }
    let mut observed = observe::observe(cluster, turn, context).await?;
    let mut memory = context.memories.rounds(&observed.cluster);
    let mut plan = plan::plan(&observed, &mut memory, context.clock.now());
    context.memories.keep(&observed.cluster, memory);
    let (mut stored, mut changed) = tell(&observed, &plan, context).await?;
    if let Some(membership) = plan.membership.as_mut() {
        if membership.wants_snapshot {
            act::verify_snapshot(&observed, &membership.facts, turn, context).await?;
        } else if let Some(operation) = membership.make.take() {
            // It is on record now, in the version that was read or not at all.
            (observed, plan) = act::make(&operation, stored, observed, turn, context).await?;
            let after = tell(&observed, &plan, context).await?;
            (stored, changed) = (after.0, true);
        }
    }
    let uid = stored.uid().unwrap_or_default();
    let quiet = context
        .changes
        .quiet(&uid, changed, context.clock.monotonic());
    Ok(plan.pause(quiet))
}

/// Writes what is known; the object as it is stored then, and whether that is news. A founding is
/// recorded in the ledger ConfigMap first, which can be created once; later the ConfigMap follows
/// the status, whose version fences off what was decided on an old copy.
async fn tell(
    observed: &Observed,
    plan: &Plan,
    context: &Context,
) -> Result<(EtcdCluster, bool), Error> {
    if plan.mirror_is_new {
        act::act(observed, plan, context).await?;
    }
    let said = status::status(observed, plan, context.clock.now());
    // The ledger must never go back to an older copy.
    let read = &*observed.cluster;
    let stored = read.status.as_ref();
    let written = report(read, stored, &said, Fence::ResourceVersion, context).await?;
    if !plan.mirror_is_new {
        act::act(observed, plan, context).await?;
    }
    let changed = written.is_some();
    Ok((written.unwrap_or_else(|| read.clone()), changed))
}
