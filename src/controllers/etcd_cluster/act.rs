//! Writing the founding record down, before anything that names it is published.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};

use super::observe::{Mirror, Observed};
use super::plan::Plan;
use crate::controllers::context::Context;
use crate::controllers::error::Error;
use crate::controllers::{FIELD_MANAGER, names};
use crate::crd::EtcdCluster;
use crate::membership::LedgerRecord;

/// Writes the ledger ConfigMap where the plan says so. A conflict means that another record was
/// there first: the next reconcile reads it.
pub async fn act(observed: &Observed, plan: &Plan, context: &Context) -> Result<(), Error> {
    let cluster = &observed.cluster;
    let Some(record) = &plan.mirror else {
        if plan.halt.is_none() && matches!(observed.mirror, Mirror::Read(_)) {
            context.mirrors.note(cluster);
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
    Ok(())
}

/// The record outlives the EtcdCluster: it belongs to the ControlPlane that owns both.
fn config_map(cluster: &EtcdCluster, record: &LedgerRecord) -> Result<ConfigMap, Error> {
    let name = cluster.name_any();
    let text = serde_json::to_string(record)
        .map_err(|error| Error::Bug(format!("the ledger cannot be written as JSON: {error}")))?;
    Ok(ConfigMap {
        metadata: ObjectMeta {
            name: Some(names::etcd_ledger(&name)),
            namespace: cluster.namespace(),
            labels: Some(names::labels(&name, None, "etcd-ledger")),
            owner_references: cluster.metadata.owner_references.clone(),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(names::LEDGER_KEY.to_owned(), text)])),
        ..ConfigMap::default()
    })
}
