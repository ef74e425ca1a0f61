//! Writing the ledger down, and making the one change that is on record.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};

use super::ask::endpoint;
use super::mirror::{Mirror, MirrorRecord};
use super::observe::{self, Observed};
use super::plan::{Plan, plan};
use crate::controllers::context::Context;
use crate::controllers::error::Error;
use crate::controllers::turn::Turn;
use crate::controllers::{FIELD_MANAGER, names};
use crate::crd::EtcdCluster;
use crate::etcd::{EtcdApi, EtcdError, MemberEndpoint};
use crate::kube_ext::owner::controller_reference;
use crate::membership::{Facts, Operation, Outcome, Step};

/// Writes the ledger ConfigMap where the plan says so. A conflict means that another record was
/// there first: the next reconcile reads it.
pub async fn act(observed: &Observed, plan: &Plan, context: &Context) -> Result<(), Error> {
    let cluster = &observed.cluster;
    let Some(record) = &plan.mirror else {
        if let (Mirror::Read(record), None) = (&observed.mirror, &plan.halt) {
            context
                .mirrors
                .note(cluster, Arc::clone(record), context.clock.monotonic());
        }
        return Ok(());
    };
    let api: Api<ConfigMap> = context.api(&**cluster);
    let config_map = config_map(cluster, record)?;
    if plan.mirror_is_new {
        api.create(&PostParams::default(), &config_map)
            .await
            .map_err(Error::api("creating the ledger ConfigMap"))?;
    } else {
        let name = config_map.name_any();
        api.patch(
            &name,
            &PatchParams::apply(FIELD_MANAGER).force(),
            &Patch::Apply(&config_map),
        )
        .await
        .map_err(Error::api("writing the ledger ConfigMap"))?;
    }
    context
        .mirrors
        .note(cluster, Arc::new(record.clone()), context.clock.monotonic());
    Ok(())
}

/// The record of a stacked cluster outlives the EtcdCluster: it belongs to the ControlPlane that owns
/// both.
fn config_map(cluster: &EtcdCluster, record: &MirrorRecord) -> Result<ConfigMap, Error> {
    let name = cluster.name_any();
    let text = serde_json::to_string(record)
        .map_err(|error| Error::Bug(format!("the ledger cannot be written as JSON: {error}")))?;
    Ok(ConfigMap {
        metadata: ObjectMeta {
            name: Some(names::etcd_ledger(&name)),
            namespace: cluster.namespace(),
            labels: Some(names::labels_under(
                observe::label(cluster),
                &name,
                None,
                "etcd-ledger",
            )),
            owner_references: match observe::owner(cluster) {
                Some(_) => cluster.metadata.owner_references.clone(),
                None => controller_reference(cluster).map(|own| vec![own]),
            },
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(names::LEDGER_KEY.to_owned(), text)])),
        ..ConfigMap::default()
    })
}

/// Makes the operation that `stored` has on record: asks everybody once more, makes the call only
/// if it may still be made by what they answer now (I7), and asks again what became of it (I13).
/// Returns that last round with what follows from it.
pub async fn make(
    operation: &Operation,
    stored: EtcdCluster,
    observed: Observed,
    turn: &mut Turn,
    context: &Context,
) -> Result<(Observed, Plan), Error> {
    let mut memory = context.memories.rounds(&stored);
    let observed = observed.again(stored.clone(), turn, context).await?;
    let mut before = plan(&observed, &mut memory, context.clock.now());
    context.memories.keep(&stored, memory);
    let facts = before.membership.as_ref().map(|known| &known.facts);
    let Some(facts) = facts.filter(|facts| operation.outcome(facts) == Outcome::Retry) else {
        return Ok((observed, before));
    };
    let etcd = match context.etcd(&stored).await? {
        Ok(etcd) => etcd,
        Err(_) => return Ok((observed, before)),
    };
    let Some(through) = operation.through(facts) else {
        before.tried(operation, "no healthy member to make the call through");
        return Ok((observed, before));
    };
    let through = endpoint(&through.peer_url);
    let began = context.clock.now();
    context.memories.note_call(&stored, Some(began));
    let called = turn.away(call(&etcd, &through, &operation.step)).await;
    if called
        .as_ref()
        .is_err_and(|error| !error.may_have_happened())
    {
        context.memories.note_call(&stored, None);
    }
    tracing::info!(
        namespace = stored.namespace(),
        name = stored.name_any(),
        step = %operation.step,
        error = called.as_ref().err().map(ToString::to_string),
        "changed the membership"
    );

    let mut memory = context.memories.rounds(&stored);
    let observed = observed.again(stored.clone(), turn, context).await?;
    let mut after = plan(&observed, &mut memory, context.clock.now());
    context.memories.keep(&stored, memory);
    if let Err(error) = called {
        after.tried(operation, &error.to_string());
    }
    Ok((observed, after))
}

/// One call, once.
async fn call(
    etcd: &Arc<dyn EtcdApi>,
    through: &MemberEndpoint,
    step: &Step,
) -> Result<(), EtcdError> {
    match step {
        Step::AddLearner { peer_url, .. } => etcd.add_learner(through, peer_url).await,
        Step::Promote { id, .. } => etcd.promote(through, *id).await,
        Step::MoveLeader { to, .. } => etcd.move_leader(through, *to).await,
        Step::Remove { id, .. } => etcd.remove(through, *id).await,
    }
}

/// Verifies a snapshot of the only voter, before a second one is let in (I3).
pub async fn verify_snapshot(
    observed: &Observed,
    facts: &Facts,
    turn: &mut Turn,
    context: &Context,
) -> Result<(), Error> {
    let cluster = &observed.cluster;
    let (Ok(etcd), Some(voter)) = (context.etcd(cluster).await?, facts.voters().next()) else {
        return Ok(());
    };
    let endpoint = endpoint(&voter.peer_url);
    match turn.away(etcd.verified_snapshot(&endpoint)).await {
        Ok(verified) => {
            context.memories.note_snapshot(cluster, context.clock.now());
            tracing::info!(
                namespace = cluster.namespace(),
                name = cluster.name_any(),
                size_bytes = verified.size_bytes,
                sha256 = verified.sha256,
                "verified a snapshot"
            );
        }
        // The step stays held by I3, which is what a person reads; the next reconcile tries again.
        Err(error) => tracing::warn!(
            namespace = cluster.namespace(),
            name = cluster.name_any(),
            %error,
            "a snapshot could not be verified"
        ),
    }
    Ok(())
}
