//! `NodePool`: workers, a later capability.
//!
//! Answers what its conditions say until then: that it is stalled, and why. Never makes a token or
//! a Secret. The stages of the other controllers get their files here when it does.

use std::sync::Arc;
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::FIELD_MANAGER;
use super::conditions::{Conditions, PAUSED, READY, RECONCILING, Reason, STALLED};
use super::context::Context;
use super::error::Error;
use crate::crd::{NodePool, NodePoolStatus};

/// Nothing changes by itself.
const PERIOD: Duration = Duration::from_secs(3600);

/// Looks at one NodePool; answers when to look again.
pub async fn reconcile(pool: Arc<NodePool>, context: &Context) -> Result<Duration, Error> {
    let stored = pool.status.clone().unwrap_or_default();
    let why = "node pools are not supported by this release of Seedbed yet; join workers with \
               kubeadm join";
    let mut conditions = Conditions::unknown(&[READY, RECONCILING, STALLED, PAUSED]);
    conditions.set(STALLED, true, Reason::NotYetSupported, why);
    conditions.set(RECONCILING, false, Reason::Blocked, why);
    conditions.set_ready(&[]);
    let news = conditions.news(&stored.conditions);
    let generation = pool.metadata.generation;
    let status = NodePoolStatus {
        observed_generation: generation,
        conditions: conditions.merged(&stored.conditions, generation, context.clock.now()),
        ..stored
    };
    if pool.status.as_ref() != Some(&status) {
        let api: Api<NodePool> = context.api(&*pool);
        let body = json!({
            "apiVersion": "seedbed.dev/v1alpha1",
            "kind": "NodePool",
            "metadata": { "name": pool.name_any() },
            "status": status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        api.patch_status(&pool.name_any(), &params, &Patch::Apply(body))
            .await
            .map_err(Error::api("writing the status of the NodePool"))?;
    }
    for event in &news {
        context.events.publish(&*pool, event).await;
    }
    Ok(PERIOD)
}
