//! The end of a pool: its machines are taken out as those of a shorter list are, then it goes.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::observe::{Observed, observe};
use super::status::Progress;
use super::{act, carry_out, ready_to_act, resolved, target, tell};
use crate::controllers::conditions::Reason;
use crate::controllers::context::Context;
use crate::controllers::error::Error;
use crate::controllers::names;
use crate::controllers::turn::Turn;
use crate::crd::NodePool;
use crate::domain;
use crate::kube_ext::events::EventSpec;

/// Nothing is left to do for an object without our finalizer.
pub const GONE: Duration = Duration::from_secs(3600);

/// Takes the machines out, then lets the object go.
pub async fn finalize(
    object: Arc<NodePool>,
    turn: &mut Turn,
    context: &Context,
) -> Result<Duration, Error> {
    let ours = |finalizer: &String| finalizer == names::NODE_POOL_FINALIZER;
    if !object.finalizers().iter().any(ours) {
        return Ok(GONE);
    }
    if object.spec.paused == Some(true) {
        let why = "it is paused: its Nodes stay as they are";
        return let_go(&object, Some(why), context).await;
    }
    let mut observed = observe(Arc::clone(&object), context).await?;
    let gone = observed
        .control_plane
        .as_ref()
        .is_none_or(|found| found.metadata.deletion_timestamp.is_some());
    if gone {
        // Its Nodes were the control plane's, and end with it.
        return let_go(&object, None, context).await;
    }
    let pool = match resolved(&mut observed) {
        Ok(pool) => pool,
        Err(problems) => {
            let first = problems.first().map(ToString::to_string);
            let why = format!(
                "its spec cannot be read, so its Nodes stay as they are: {}",
                first.unwrap_or_default()
            );
            return let_go(&object, Some(&why), context).await;
        }
    };
    let progress = take_out(&mut observed, &pool, turn, context).await?;
    match &progress {
        Progress::Live(live) if live.leaving.is_empty() && live.is_empty() => {
            return let_go(&object, None, context).await;
        }
        Progress::Awaiting(_, text) if is_overdue(&object, &pool, context.clock.now()) => {
            let why =
                format!("its Nodes stay as they are, because the target cannot be asked: {text}");
            return let_go(&object, Some(&why), context).await;
        }
        Progress::Stalled(problems) => {
            let first = problems.first().map(ToString::to_string);
            let why = format!("its Nodes stay as they are: {}", first.unwrap_or_default());
            return let_go(&object, Some(&why), context).await;
        }
        Progress::Live(_) | Progress::Awaiting(..) | Progress::Paused => {}
    }
    tell(&object, Some(&pool), &progress, context).await
}

/// Takes back what was made for a pool that the API server let go without our finalizer.
pub async fn take_back(
    observed: &mut Observed,
    pool: &domain::NodePool,
    turn: &mut Turn,
    context: &Context,
) -> Result<Duration, Error> {
    let mut gone = NodePool::clone(&observed.object);
    gone.metadata.deletion_timestamp = Some(Time(context.clock.now()));
    observed.object = Arc::new(gone);
    take_out(observed, pool, turn, context).await?;
    Ok(GONE)
}

async fn take_out(
    observed: &mut Observed,
    pool: &domain::NodePool,
    turn: &mut Turn,
    context: &Context,
) -> Result<Progress, Error> {
    let ready = match ready_to_act(observed, pool, context).await? {
        Ok(ready) => ready,
        Err(progress) => return Ok(progress),
    };
    match target::connect(observed, pool, turn, context).await? {
        Ok(client) => carry_out(observed, pool, ready, client, turn, context).await,
        Err(text) => Ok(Progress::Awaiting(Reason::AwaitingControlPlane, text)),
    }
}

/// A target that never answers does not hold a pool for ever: no longer than a drain may take.
fn is_overdue(object: &NodePool, pool: &domain::NodePool, now: Timestamp) -> bool {
    let limit = SignedDuration::try_from(pool.drain_timeout).unwrap_or(SignedDuration::MAX);
    let asked = object.metadata.deletion_timestamp.as_ref();
    asked.is_some_and(|asked| now.duration_since(asked.0) > limit)
}

async fn let_go(
    object: &NodePool,
    why: Option<&str>,
    context: &Context,
) -> Result<Duration, Error> {
    if let Some(why) = why {
        let event = EventSpec {
            warning: true,
            reason: "NodesLeft",
            action: "Deleting",
            note: format!("NodePool {} is deleted; {why}", object.name_any()),
        };
        context.events.publish(object, &event).await;
    }
    act::set_finalizer(object, false, context).await?;
    Ok(GONE)
}
