//! `NodePool`: machines that join a control plane as workers, and leave it in good order.
//!
//! The driver below is the only place where the stages meet: observe (the seed, then the target),
//! resolve, plan, act (again and again, until nothing is left to write), then the Nodes, then
//! status. `resolve`, `plan` and `secrets` are pure. Which token lives how long and which request
//! is granted is decided in the room `tokens`; nothing is decided from a cache.

mod act;
mod finalize;
mod nodes;
mod observe;
mod pace;
mod plan;
pub mod resolve;
mod secrets;
mod status;
mod target;

pub use self::plan::InPlace as WorkerConfigs;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;

use self::observe::Observed;
use self::plan::{Facts, Members, Next};
use self::resolve::Inputs;
use self::status::{Live, Progress};
use super::conditions::Reason;
use super::context::Context;
use super::error::Error;
use super::fields::{Problem, ProblemReason, show};
use super::report::{Fence, report};
use super::turn::Turn;
use crate::crd::NodePool;
use crate::domain;
use crate::kube_ext::apply::CallError;
use crate::kube_ext::owner::{controller_reference, is_of_predecessor};
use crate::pki::{Ca, secret_names};
use crate::tokens::{SHARED, Stored};

/// Batches in one reconcile: store, make, publish, answer, revoke, forget, and some to spare.
const MOST_BATCHES: usize = 10;

/// Looks at one NodePool; answers when to look again.
pub async fn reconcile(
    object: Arc<NodePool>,
    turn: &mut Turn,
    context: &Context,
) -> Result<Duration, Error> {
    if object.metadata.deletion_timestamp.is_some() {
        return finalize::finalize(object, turn, context).await;
    }
    if object.spec.paused == Some(true) {
        return tell(&object, None, &Progress::Paused, context).await;
    }
    let (seen, now) = (&context.watches.node_pools, context.clock.monotonic());
    if let Some(rest) = context.looks.rest(&object, seen, now) {
        return Ok(rest);
    }
    context.looks.begins(&object);
    let mut observed = observe::observe(Arc::clone(&object), context).await?;
    let wait = look(&mut observed, turn, context).await?;
    let due = context.clock.monotonic() + wait;
    context.looks.ended(&object, &observed.secrets, due);
    Ok(wait)
}

async fn look(
    observed: &mut Observed,
    turn: &mut Turn,
    context: &Context,
) -> Result<Duration, Error> {
    let object = Arc::clone(&observed.object);
    let pool = match resolved(observed) {
        Ok(pool) => pool,
        Err(problems) => {
            return tell(&object, None, &Progress::Stalled(problems), context).await;
        }
    };
    let progress = match ready_to_act(observed, &pool, context).await? {
        Err(progress) => progress,
        Ok(ready) => {
            let first = object.finalizers().is_empty();
            act::set_finalizer(&object, true, context).await?;
            let connected = target::connect(observed, &pool, turn, context).await?;
            // What is made for a pool that is gone would be left behind.
            if first && !act::is_still_wanted(&object, context).await? {
                return Ok(finalize::GONE);
            }
            match connected {
                Err(text) => unreachable_target(ready, text),
                Ok(client) => carry_out(observed, &pool, ready, client, turn, context).await?,
            }
        }
    };
    // The delete that was under way may have come through only now.
    if object.finalizers().is_empty() && !act::is_still_wanted(&object, context).await? {
        return finalize::take_back(observed, &pool, turn, context).await;
    }
    tell(&object, Some(&pool), &progress, context).await
}

fn resolved(observed: &mut Observed) -> Result<domain::NodePool, Vec<Problem>> {
    let inputs = Inputs {
        control_plane: observed.control_plane.as_ref(),
        contents: std::mem::take(&mut observed.contents),
    };
    resolve::resolve(&observed.object, &inputs)
}

/// What a pool acts with.
struct Ready {
    /// Certificate of the cluster CA.
    ca_pem: String,
    stored: Stored,
    /// Slots whose Secret belongs to somebody else. Some slot has a token.
    claimed: BTreeMap<String, Problem>,
}

fn unreachable_target(ready: Ready, text: String) -> Progress {
    if ready.claimed.is_empty() {
        Progress::Awaiting(Reason::AwaitingControlPlane, text)
    } else {
        Progress::Stalled(ready.claimed.into_values().collect())
    }
}

/// The CA and the stored tokens, once nothing in the seed stands in the way; before anything is
/// made.
async fn ready_to_act(
    observed: &Observed,
    pool: &domain::NodePool,
    context: &Context,
) -> Result<Result<Ready, Progress>, Error> {
    let object = &*observed.object;
    let name = &pool.cluster.name;
    let control_plane = observed.control_plane.as_ref();
    if control_plane.is_some_and(|found| found.metadata.deletion_timestamp.is_some()) {
        let text = format!(
            "ControlPlane {}, which is being deleted; delete this pool",
            show(name)
        );
        return Ok(Err(Progress::Awaiting(Reason::AwaitingControlPlane, text)));
    }
    let mut secrets = observed.secrets.values();
    if secrets.any(|secret| is_of_predecessor(&secret.metadata, object)) {
        let text = "the garbage collector to delete what an earlier NodePool of this name owned";
        let waiting = Progress::Awaiting(Reason::AwaitingDeletion, text.to_owned());
        return Ok(Err(waiting));
    }
    let claimed = claimed_by_others(observed, pool, context).await?;
    let tokens = match stored(observed, pool) {
        Ok(stored) => stored,
        Err(problem) => return Ok(Err(Progress::Stalled(vec![problem]))),
    };
    if !claimed.is_empty() && tokens.0.is_empty() {
        return Ok(Err(Progress::Stalled(claimed.into_values().collect())));
    }
    let Some(ca_pem) = &observed.ca_pem else {
        let secret = secret_names::ca(name, Ca::Cluster);
        let text = format!(
            "ControlPlane {} to make its CA (Secret {secret})",
            show(name)
        );
        return Ok(Err(Progress::Awaiting(Reason::AwaitingControlPlane, text)));
    };
    let ca_pem = match ca_pem {
        Ok(ca_pem) => ca_pem.clone(),
        Err(error) => {
            let path = "spec.controlPlaneRef.name";
            let problem = problem(path, ProblemReason::MissingInput, error.to_string());
            return Ok(Err(Progress::Stalled(vec![problem])));
        }
    };
    Ok(Ok(Ready {
        ca_pem,
        stored: tokens,
        claimed,
    }))
}

/// The tokens that the seed remembers.
fn stored(observed: &Observed, pool: &domain::NodePool) -> Result<Stored, Problem> {
    let name = super::names::pool_tokens(&pool.cluster.name, &pool.name);
    let Some(secret) = observed.secrets.get(&name) else {
        return Ok(Stored::default());
    };
    secrets::read_stored(secret).ok_or_else(|| {
        let text = format!("Secret {name} {}", crate::tokens::stored::StoredError);
        problem("metadata.name", ProblemReason::MissingInput, text)
    })
}

/// Names that another pool, or the control plane, has already, by slot. A pool that goes away
/// wants none.
async fn claimed_by_others(
    observed: &Observed,
    pool: &domain::NodePool,
    context: &Context,
) -> Result<BTreeMap<String, Problem>, Error> {
    if observed.object.metadata.deletion_timestamp.is_some() {
        return Ok(BTreeMap::new());
    }
    let cluster = &pool.cluster.name;
    let config = |machine: &str| super::names::worker_config(cluster, machine);
    let path = "metadata.name".to_owned();
    let tokens = super::names::pool_tokens(cluster, &pool.name);
    // The name of this one is no slot's.
    let mut wanted = vec![(tokens.clone(), path.clone(), tokens)];
    match &pool.workers {
        domain::Workers::Open { .. } => {
            wanted.push((SHARED.to_owned(), path, config(&pool.name)));
        }
        domain::Workers::Listed(workers) => {
            let names = workers.iter().filter_map(|worker| worker.name.as_ref());
            wanted.extend(names.map(|name| {
                let path = format!("spec.machines[{name}].name");
                (name.to_string(), path, config(name.as_str()))
            }));
        }
    }
    wanted.retain(|(_, _, secret)| !observed.secrets.contains_key(secret));
    let names = wanted.iter().map(|(_, _, secret)| secret.clone()).collect();
    let occupied = observe::occupied(&observed.object, names, context).await?;
    let problem = |(slot, path, secret): (String, String, String)| {
        let owner = occupied.get(&secret)?;
        let text = format!(
            "Secret {secret} belongs to {owner}: one machine cannot be in two places; choose \
             another name, or take it out there"
        );
        Some((slot, problem(&path, ProblemReason::InvalidSpec, text)))
    };
    Ok(wanted.into_iter().filter_map(problem).collect())
}

fn problem(path: &str, reason: ProblemReason, message: String) -> Problem {
    Problem {
        path: path.to_owned(),
        reason,
        message,
    }
}

/// Plans and acts until nothing is left to write, then sees to the Nodes.
async fn carry_out(
    observed: &mut Observed,
    pool: &domain::NodePool,
    ready: Ready,
    client: kube::Client,
    turn: &Turn,
    context: &Context,
) -> Result<Progress, Error> {
    let Ready {
        ca_pem,
        mut stored,
        mut claimed,
    } = ready;
    let owner = controller_reference(&*observed.object)
        .ok_or_else(|| Error::Bug("the NodePool has no UID".to_owned()))?;
    let deleting = observed.object.metadata.deletion_timestamp.is_some();
    let control_plane = observed.control_plane.as_ref();
    let uid = control_plane.and_then(ResourceExt::uid).unwrap_or_default();
    let failed = |error: &CallError| target_failed(&uid, error, context);
    let mut target = match target::look(&uid, client, pool, &stored, observed, context).await? {
        Ok(target) => target,
        Err(error) => return Ok(failed(&error)),
    };
    let own = observed.object.uid().unwrap_or_default();
    let in_place = context.worker_configs.get(&own, context.clock.monotonic());
    for _ in 0..MOST_BATCHES {
        turn.give_way().await;
        let now = context.clock.now();
        let facts = Facts {
            observed,
            pool,
            owner: &owner,
            ca_pem: &ca_pem,
            stored: &stored,
            target: &target,
            claimed: &claimed,
            in_place: in_place.as_deref(),
            deleting,
            now,
        };
        let next = plan::plan(&facts);
        let settled = match next {
            Next::Settled(settled) => settled,
            Next::Stalled(problems) => return Ok(Progress::Stalled(problems)),
            other => {
                let mut actor = act::Actor {
                    observed,
                    target: &mut target,
                    pool,
                    owner: &owner,
                    context,
                    now,
                };
                match batch(other, &mut actor, &mut stored).await {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => return Ok(failed(&error)),
                    // Somebody else was quicker: what was made for this slot is taken back.
                    Err(Error::Occupied { .. }) => {
                        claimed = claimed_by_others(observed, pool, context).await?;
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        let members = Members::of(&facts);
        let nodes = nodes::see_to(&facts, &members, &settled, context).await;
        let live = Live::of(&members, &settled, nodes);
        let now = context.clock.monotonic();
        context
            .worker_configs
            .put(own, Arc::new(settled.configs), now);
        return Ok(Progress::Live(Box::new(live)));
    }
    let text = "the next look".to_owned();
    Ok(Progress::Awaiting(Reason::TargetPending, text))
}

async fn batch(
    next: Next,
    actor: &mut act::Actor<'_>,
    stored: &mut Stored,
) -> Result<Result<(), CallError>, Error> {
    match next {
        Next::Store(change) => *stored = actor.store(stored, change).await?,
        Next::Forget(forget) => {
            actor.write_stored(&forget).await?;
            *stored = forget;
        }
        Next::Publish(publications, purge) => actor.publish(publications, purge).await?,
        Next::Ensure(tokens) => return Ok(actor.ensure(tokens).await),
        Next::Answer(answers) => return Ok(actor.answer(answers).await),
        Next::Revoke(ids) => return Ok(actor.revoke(ids).await),
        Next::Stalled(_) | Next::Settled(_) => {}
    }
    Ok(Ok(()))
}

fn target_failed(uid: &str, error: &CallError, context: &Context) -> Progress {
    context.targets.doubt(uid);
    let text = format!("the target: {error}");
    Progress::Awaiting(Reason::TargetPending, text)
}

async fn tell(
    object: &NodePool,
    pool: Option<&domain::NodePool>,
    progress: &Progress,
    context: &Context,
) -> Result<Duration, Error> {
    let now = context.clock.now();
    let said = status::status(object, pool, progress, now);
    report(object, object.status.as_ref(), &said, Fence::Uid, context).await?;
    let moved = pace::has_moved(object.status.as_ref(), &said.0);
    let before = pace::unmoved_for(&said.0, now);
    let uid = object.uid().unwrap_or_default();
    let quiet = context
        .changes
        .quiet_since(&uid, moved, context.clock.monotonic(), before);
    Ok(pace::requeue(progress, quiet, now))
}
