//! `EtcdCluster`: founded once, then asked every few seconds; the record of who belongs to it.
//!
//! One answer a reconcile: observe, plan, act, status. There is no `resolve` yet, because the
//! ControlPlane that owns the cluster has resolved everything.

mod act;
mod observe;
mod plan;
mod status;

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;

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
    let observed = observe::observe(cluster, turn, context).await?;
    let plan = plan::plan(&observed);
    act::act(&observed, &plan, context).await?;
    let said = status::status(&observed, &plan, now);
    // The ledger must never go back to an older copy.
    let read = &*observed.cluster;
    report(
        read,
        read.status.as_ref(),
        &said,
        Fence::ResourceVersion,
        context,
    )
    .await?;
    let changed = read.status.as_ref() != Some(&said.0);
    let uid = read.uid().unwrap_or_default();
    let quiet = context
        .changes
        .quiet(&uid, changed, context.clock.monotonic());
    Ok(plan.pause(quiet))
}
