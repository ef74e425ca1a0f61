//! `EtcdCluster`: founded once, then asked every few seconds; the record of who belongs to it, and
//! at most one change of that at a time.
//!
//! One answer a reconcile: observe, plan, act, status. A change is recorded by the status first;
//! only when that is stored is everybody asked again, the call made, and the list read that tells
//! what became of it.
//!
//! The ControlPlane that owns a stacked cluster resolves its spec and writes the Secrets of its
//! machines. For a cluster on machines of its own, `resolve` and `machines` do so here.

mod act;
mod ask;
mod machines;
mod mirror;
mod observe;
mod plan;
pub mod resolve;
mod status;

pub use machines::Expiries;
pub use mirror::MirrorRecord;
pub use observe::{Mark, marked, owner};
pub use plan::membership::words as operation_in_words;

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;

use self::machines::Machines;
use self::observe::Observed;
use self::plan::Plan;
use super::context::Context;
use super::error::Error;
use super::ledger;
use super::report::{Fence, report};
use super::turn::Turn;
use crate::crd::EtcdCluster;

/// A cluster that nothing is done for is looked at again after this time.
const IDLE_PERIOD: Duration = Duration::from_secs(600);
/// Machine configs follow a founding that has just been recorded.
const AT_ONCE: Duration = Duration::from_millis(10);
/// What only a person can help, or the garbage collector, is looked at again after this time.
const HELD_PERIOD: Duration = Duration::from_secs(10);

/// Looks at one EtcdCluster; answers when to look again.
pub async fn reconcile(
    cluster: Arc<EtcdCluster>,
    turn: &mut Turn,
    context: &Context,
) -> Result<Duration, Error> {
    let now = context.clock.now();
    let stored = cluster.status.as_ref();
    if cluster.spec.paused == Some(true) {
        let said = status::paused(&cluster, now);
        report(&*cluster, stored, &said, Fence::ResourceVersion, context).await?;
        return Ok(IDLE_PERIOD);
    }
    let mut observed = observe::observe(cluster, turn, context).await?;
    let machines = match observe::owner(&observed.cluster) {
        Some(_) => None,
        None => Some(machines::look_after(&observed.cluster, context).await?),
    };
    let machines = machines.as_ref();
    if let Some(machines) = machines.filter(|machines| machines.holds_membership()) {
        let cluster = &*observed.cluster;
        let said = status::own::held(cluster, machines, context.clock.now());
        let stored = cluster.status.as_ref();
        report(cluster, stored, &said, Fence::ResourceVersion, context).await?;
        return Ok(HELD_PERIOD);
    }
    let mut memory = context.memories.rounds(&observed.cluster);
    let mut plan = plan::plan(&observed, &mut memory, context.clock.now());
    context.memories.keep(&observed.cluster, memory);
    let (mut stored, mut changed) = tell(&observed, &plan, machines, context).await?;
    if let Some(membership) = plan.membership.as_mut() {
        if membership.wants_snapshot {
            act::verify_snapshot(&observed, &membership.facts, turn, context).await?;
        } else if let Some(operation) = membership.make.take() {
            // It is on record now, in the version that was read or not at all.
            (observed, plan) = act::make(&operation, stored, observed, turn, context).await?;
            let after = tell(&observed, &plan, machines, context).await?;
            (stored, changed) = (after.0, true);
        }
    }
    let awaited = machines.is_some_and(Machines::awaits_founding);
    if awaited && ledger::founded(Some(&stored)).is_some() {
        return Ok(AT_ONCE);
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
    machines: Option<&Machines>,
    context: &Context,
) -> Result<(EtcdCluster, bool), Error> {
    if plan.mirror_is_new {
        act::act(observed, plan, context).await?;
    }
    let said = status::status(observed, plan, machines, context.clock.now());
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
