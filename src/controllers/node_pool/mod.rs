//! `NodePool`: workers, a later capability.
//!
//! Answers what its conditions say until then: that it is stalled, and why. Never makes a token or
//! a Secret. The stages of the other controllers get their files here when it does.

use std::sync::Arc;
use std::time::Duration;

use super::conditions::{PAUSED, READY, RECONCILING, STALLED};
use super::context::Context;
use super::error::Error;
use super::report::{Fence, not_yet_supported, report};
use crate::crd::{NodePool, NodePoolStatus};

/// Nothing changes by itself.
const PERIOD: Duration = Duration::from_secs(3600);
const WHY: &str =
    "node pools are not supported by this release of Seedbed yet; join workers with kubeadm join";

/// Looks at one NodePool; answers when to look again.
pub async fn reconcile(pool: Arc<NodePool>, context: &Context) -> Result<Duration, Error> {
    let stored = pool.status.clone().unwrap_or_default();
    let conditions = not_yet_supported(&[READY, RECONCILING, STALLED, PAUSED], WHY);
    let news = conditions.news(&stored.conditions);
    let generation = pool.metadata.generation;
    let status = NodePoolStatus {
        observed_generation: generation,
        conditions: conditions.merged(&stored.conditions, generation, context.clock.now()),
        ..stored
    };
    report(
        &*pool,
        pool.status.as_ref(),
        &(status, news),
        Fence::None,
        context,
    )
    .await?;
    Ok(PERIOD)
}
