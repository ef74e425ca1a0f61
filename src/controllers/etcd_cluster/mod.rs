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

use super::conditions::{Conditions, PAUSED, READY, RECONCILING, Reason, STALLED};
use super::context::Context;
use super::error::Error;
use crate::crd::{EtcdCluster, EtcdClusterStatus};

/// A cluster that only a person can help is looked at again after this time.
const STALLED_PERIOD: Duration = Duration::from_secs(600);

/// Looks at one EtcdCluster; answers when to look again.
pub async fn reconcile(cluster: Arc<EtcdCluster>, context: &Context) -> Result<Duration, Error> {
    if observe::owner(&cluster).is_none() {
        return not_yet(&cluster, context).await;
    }
    let observed = observe::observe(cluster, context).await?;
    let plan = plan::plan(&observed);
    act::act(&observed, &plan, context).await?;
    let (status, news) = status::status(&observed, &plan, context.clock.now());
    status::write(&observed.cluster, &status, context).await?;
    status::tell(&observed.cluster, &news, context).await;
    Ok(plan.requeue)
}

/// An EtcdCluster of its own, without a ControlPlane, is a later capability.
async fn not_yet(cluster: &Arc<EtcdCluster>, context: &Context) -> Result<Duration, Error> {
    let stored = cluster.status.clone().unwrap_or_default();
    let why = "an EtcdCluster on machines of its own is not supported by this release of Seedbed \
               yet; use the stacked etcd of a ControlPlane";
    let mut conditions = Conditions::unknown(&[READY, RECONCILING, STALLED, PAUSED]);
    conditions.set(STALLED, true, Reason::NotYetSupported, why);
    conditions.set(RECONCILING, false, Reason::Blocked, why);
    conditions.set_ready(&[]);
    let news = conditions.news(&stored.conditions);
    let generation = cluster.metadata.generation;
    let status = EtcdClusterStatus {
        observed_generation: generation,
        conditions: conditions.merged(&stored.conditions, generation, context.clock.now()),
        ..stored
    };
    status::write(cluster, &status, context).await?;
    status::tell(cluster, &news, context).await;
    Ok(STALLED_PERIOD)
}
