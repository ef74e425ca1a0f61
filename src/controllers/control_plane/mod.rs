//! `ControlPlane`: from the spec to machine-config Secrets and a live control plane.
//!
//! The driver below is the only place where the stages meet: observe, resolve, plan, act (again
//! and again, until nothing is left to write), then a look at the machines, then status. `resolve`
//! and `plan` are pure; `etcd` builds the EtcdCluster and follows it; `live` talks to the machines.

mod act;
mod etcd;
mod live;
mod machine_rows;
mod observe;
mod plan;
pub mod resolve;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use self::live::Trust;
use self::plan::{Facts, Plan, Published, Write};
use self::resolve::{Inputs, Problem, ProblemReason, Resolved};
use self::status::Progress;
use super::conditions::Reason;
use super::context::Context;
use super::error::Error;
use super::ledger;
use super::names;
use super::release::{self, Released};
use super::report::{Fence, report};
use super::settled::{Settled, Versions};
use super::turn::Turn;
use crate::crd::ControlPlane;
use crate::domain::{self, NodeName};
use crate::kube_ext::owner::controller_reference;
use crate::pki::secret_names;

/// Plans in one reconcile: for CAs, certificates, machine configs, one that finds nothing left to write,
/// and one after each pause for the founding.
const MOST_PLANS: usize = 4 + FOUNDING_PAUSES.len();

/// Right after certificates were made, the founding is about to be recorded: waiting for it spares a
/// whole look.
const FOUNDING_PAUSES: [Duration; 3] = [
    Duration::from_millis(30),
    Duration::from_millis(100),
    Duration::from_millis(300),
];

/// What later stages need of a control plane in the seed that has nothing left to write.
pub struct InOrder {
    /// Revision of each machine's config.
    revisions: BTreeMap<String, String>,
    /// Machines that are asked to go but serve.
    held: Vec<NodeName>,
    expiries: BTreeMap<String, Timestamp>,
    trust: Trust,
}

/// Looks at one ControlPlane; answers when to look again.
pub async fn reconcile(
    object: Arc<ControlPlane>,
    turn: &mut Turn,
    context: &Context,
) -> Result<Duration, Error> {
    if object.spec.paused == Some(true) {
        act::pause_etcd(&object, context).await?;
        return tell(&object, None, None, &Progress::Paused, context).await;
    }
    let (mut observed, settled) = match observe::unchanged(&object, context).await? {
        Some((observed, settled)) => (observed, Some(settled)),
        None => (observe::observe(Arc::clone(&object), context).await?, None),
    };
    let inputs = Inputs {
        contents: std::mem::take(&mut observed.contents),
    };
    let mut resolved = match resolve::resolve(&object, &inputs) {
        Ok(resolved) => resolved,
        Err(problems) => {
            let progress = Progress::Stalled(problems);
            return tell(&object, None, Some(&observed), &progress, context).await;
        }
    };
    resolved.follow(&object.spec, observed.etcd.as_ref());
    let published = match settled {
        Some(settled) => Ok((settled, Vec::new())),
        None => publish(&mut resolved, &mut observed, &inputs, context).await?,
    };
    let progress = match published {
        Ok((settled, go)) => {
            let live = look(&object, &resolved, &settled.found.trust, &go, turn, context).await?;
            act::release(&object, &live.gone, context).await?;
            Progress::Published {
                live,
                revisions: settled.found.revisions.clone(),
                held: settled.found.held.clone(),
            }
        }
        Err(progress) => progress,
    };
    tell(
        &object,
        Some(&resolved),
        Some(&observed),
        &progress,
        context,
    )
    .await
}

/// Brings everything in the seed in order; what it is then, with the machines that are to be let go
/// now. Keys and user data are not kept while machines are waited for.
async fn publish(
    resolved: &mut Resolved,
    observed: &mut observe::Observed,
    inputs: &Inputs,
    context: &Context,
) -> Result<Result<(Arc<Settled<InOrder>>, Vec<NodeName>), Progress>, Error> {
    let uid = observed.object.uid().unwrap_or_default();
    let published = match carry_out(resolved, observed, context).await? {
        Ok(published) => published,
        Err(progress) => return Ok(Err(progress)),
    };
    let (go, held) = leaving(observed, &resolved.control_plane);
    let versions = Versions::of(
        &*observed.object,
        observed.etcd.as_ref(),
        &observed.secrets,
        &inputs.contents,
        names::LABEL_CONTROL_PLANE,
    );
    observed.secrets.clear();
    let found = InOrder {
        revisions: published.revisions,
        held,
        expiries: observed.expiries.clone(),
        trust: Trust {
            identity: context.target_identity(&uid, &published.pki.ca).await?,
            ca_pem: published.pki.ca.certificate_pem,
        },
    };
    let now = context.clock.monotonic();
    let settled = Arc::new(Settled::new(found, versions, now));
    // While a machine is let go, there is something to do each time.
    if go.is_empty() {
        context.control_planes.put(uid, Arc::clone(&settled), now);
    }
    Ok(Ok((settled, go)))
}

/// Asks the machines, except right after their configs were published for the first time: none can
/// have booted, and who waits for the configs is told at once.
async fn look(
    object: &ControlPlane,
    resolved: &Resolved,
    trust: &Trust,
    go: &[NodeName],
    turn: &mut Turn,
    context: &Context,
) -> Result<live::Live, Error> {
    // These rows are there since it was first said that the configs are published.
    let rows = object.status.as_ref().map(|status| &status.machines[..]);
    if rows.unwrap_or_default().is_empty() {
        return Ok(live::Live::default());
    }
    let uid = object.uid().unwrap_or_default();
    let looking = live::look(&uid, &resolved.control_plane, trust, go, context);
    turn.away(looking).await
}

/// Plans and acts until nothing is left to write.
async fn carry_out(
    resolved: &mut Resolved,
    observed: &mut observe::Observed,
    context: &Context,
) -> Result<Result<Box<Published>, Progress>, Error> {
    let owner = controller_reference(&*observed.object)
        .ok_or_else(|| Error::Bug("the ControlPlane has no UID".to_owned()))?;
    let mut pki = plan::pki_state(observed, &resolved.control_plane);
    observed.expiries = pki.expiries(&resolved.control_plane.machines);
    let mut pauses = [].iter();
    for _ in 0..MOST_PLANS {
        let control_plane = &resolved.control_plane;
        let plan = plan::plan(&Facts {
            observed,
            control_plane,
            pki: &pki,
            owner: &owner,
            now: context.clock.now(),
        });
        match plan {
            Plan::Write(writes) => {
                let changes_pki = writes.iter().any(Write::changes_pki);
                match act::act(writes, observed, control_plane, &owner, context).await {
                    Err(error @ Error::Occupied { .. }) => {
                        return Ok(Err(Progress::Stalled(vec![occupied(&error)])));
                    }
                    done => done?,
                }
                if changes_pki {
                    pki = plan::pki_state(observed, control_plane);
                    observed.expiries = pki.expiries(&control_plane.machines);
                    pauses = FOUNDING_PAUSES.iter();
                }
            }
            Plan::Await(Reason::AwaitingFounding, text) => {
                let Some(pause) = pauses.next() else {
                    return Ok(Err(Progress::Awaiting(Reason::AwaitingFounding, text)));
                };
                // Its turn is kept: whoever waits for one with all these keys costs memory.
                tokio::time::sleep(*pause).await;
                observed.etcd = observe::etcd_cluster(&observed.object, context).await?;
                if resolved.follow(&observed.object.spec, observed.etcd.as_ref()) {
                    pki = plan::pki_state(observed, &resolved.control_plane);
                    observed.expiries = pki.expiries(&resolved.control_plane.machines);
                }
            }
            Plan::Await(reason, text) => return Ok(Err(Progress::Awaiting(reason, text))),
            Plan::Stalled(problems) => return Ok(Err(Progress::Stalled(problems))),
            Plan::Published(published) => return Ok(Ok(published)),
        }
    }
    let text = "the next look".to_owned();
    Ok(Err(Progress::Awaiting(Reason::IssuingCertificates, text)))
}

fn occupied(error: &Error) -> Problem {
    Problem {
        path: "metadata.name".to_owned(),
        reason: ProblemReason::InvalidSpec,
        message: error.to_string(),
    }
}

/// The machines that are to be let go now, and those that are asked to go but serve. Which ones serve
/// is membership with stacked etcd, else the spec.
fn leaving(
    observed: &observe::Observed,
    control_plane: &domain::ControlPlane,
) -> (Vec<NodeName>, Vec<NodeName>) {
    let machines = &control_plane.machines;
    let known = machines.iter().chain(&control_plane.spares);
    let machines_of = Released {
        name: &control_plane.name,
        secrets: &observed.secrets,
        inventory: known.map(|machine| &machine.name).collect(),
    };
    if control_plane.etcd.stacked().is_some() {
        let recorded = observed
            .etcd
            .as_ref()
            .filter(|etcd| ledger::founded(Some(etcd)).is_some());
        let due =
            recorded.map(|etcd| machines_of.due(|machine| release::has_member(etcd, machine)));
        return (due.unwrap_or_default(), Vec::new());
    }
    let serves = |name: &NodeName| machines.iter().any(|machine| machine.name == *name);
    let is_asked = |machine: &&NodeName| {
        let config = secret_names::machine_config(&control_plane.name, machine);
        observed
            .secrets
            .get(&config)
            .is_some_and(release::is_requested)
    };
    let held = machines.iter().map(|machine| &machine.name);
    (
        machines_of.due(serves),
        held.filter(is_asked).cloned().collect(),
    )
}

async fn tell(
    object: &ControlPlane,
    resolved: Option<&Resolved>,
    observed: Option<&observe::Observed>,
    progress: &Progress,
    context: &Context,
) -> Result<Duration, Error> {
    let facts = status::Facts {
        object,
        resolved,
        etcd: observed.and_then(|observed| observed.etcd.as_ref()),
        expiries: observed.map(|observed| &observed.expiries),
        progress,
        now: context.clock.now(),
    };
    let said = status::status(&facts);
    report(object, object.status.as_ref(), &said, Fence::Uid, context).await?;
    let changed = object.status.as_ref() != Some(&said.0);
    let uid = object.uid().unwrap_or_default();
    let quiet = context
        .changes
        .quiet(&uid, changed, context.clock.monotonic());
    Ok(status::requeue(&facts, &said.0, quiet))
}
