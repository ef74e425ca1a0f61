//! The ledger ConfigMap: who founded the cluster and who belongs to it, kept a second time for a
//! status that was lost.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, ResourceExt};
use serde::{Deserialize, Serialize};

use crate::controllers::context::Context;
use crate::controllers::error::Error;
use crate::controllers::{ledger as read, names};
use crate::crd::{EtcdCluster, Ledger};
use crate::kube_ext::owner::controller_of;
use crate::membership::LedgerRecord;

/// The ledger ConfigMap.
#[derive(Clone, Debug, PartialEq)]
pub enum Mirror {
    /// This process has written or read it, and it was this.
    Agrees(Arc<MirrorRecord>),
    Missing,
    Read(Arc<MirrorRecord>),
    /// It belongs to an earlier cluster of this name and is about to be deleted.
    LeftOver,
    /// It is there but not as we wrote it.
    Unreadable(String),
}

/// What the ledger ConfigMap holds: enough to restore a status that was lost.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct MirrorRecord {
    #[serde(flatten)]
    pub founding: LedgerRecord,
    /// Absent from records of the first release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Ledger>,
}

/// The ledger of the status, else what the ConfigMap keeps of it.
pub fn ledger_of(cluster: &EtcdCluster, mirror: &Mirror) -> Option<Ledger> {
    if let Some(ledger) = read::founded(Some(cluster)) {
        return Some(ledger.clone());
    }
    let Mirror::Read(record) = mirror else {
        return None;
    };
    let founding = record.founding.founding.clone();
    let mut ledger = record.ledger.clone().unwrap_or_default();
    if record.ledger.is_none() {
        ledger.slots = super::plan::slots(&founding);
    }
    ledger.founding = Some(founding);
    Some(ledger)
}

/// Reads it.
pub async fn mirror(cluster: &EtcdCluster, context: &Context) -> Result<Mirror, Error> {
    let api: Api<ConfigMap> = context.api(cluster);
    let name = names::etcd_ledger(&cluster.name_any());
    let found = api
        .get_opt(&name)
        .await
        .map_err(Error::api("reading the ledger ConfigMap"))?;
    let Some(config_map) = found else {
        return Ok(Mirror::Missing);
    };
    let ours = controller_of(&cluster.metadata).map(|ours| ours.uid.clone());
    let ours = ours.or_else(|| cluster.uid());
    if let Some(theirs) = controller_of(&config_map.metadata)
        && ours.is_some_and(|ours| ours != theirs.uid)
    {
        return Ok(Mirror::LeftOver);
    }
    let text = config_map
        .data
        .as_ref()
        .and_then(|data| data.get(names::LEDGER_KEY));
    Ok(match text.map(|text| serde_json::from_str(text)) {
        Some(Ok(record)) => Mirror::Read(Arc::new(record)),
        Some(Err(error)) => Mirror::Unreadable(format!("ConfigMap {name}: {error}")),
        None => Mirror::Unreadable(format!("ConfigMap {name} has no key {}", names::LEDGER_KEY)),
    })
}
