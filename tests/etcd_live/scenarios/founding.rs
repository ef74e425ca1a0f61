//! A cluster is founded once, whoever is late and whatever is lost.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use seedbed::crd::EtcdCluster;

use super::{THREE, nothing_changed};
use crate::trial::{NAME, Trial};

/// 43
pub async fn a_late_founder(trial: &mut Trial<'_>) -> Result<String> {
    trial.publish(3, 3).await?;
    let founding = trial.user_data("m-3", 10).await?;
    trial.boot("m-1").await?;
    trial.boot("m-2").await?;
    trial
        .until("two voters that answer", 60, || {
            trial.sight.lock().said.len() == 2
        })
        .await?;
    trial.republished("m-3", &founding, 60).await?;
    let ids = trial.ids();
    ensure!(ids.len() == 3, "{ids:?}");
    // Within the time that a silent member is waited for.
    trial.untouched(40).await?;
    trial.boot("m-3").await?;
    trial.settled(&THREE, 120).await?;
    ensure!(trial.ids() == ids, "other IDs than at the founding");
    nothing_changed(trial)?;
    Ok("the third joined after 40 s under its founding ID".to_owned())
}

/// 43a
pub async fn a_founder_never_comes(trial: &mut Trial<'_>) -> Result<String> {
    trial.publish(3, 4).await?;
    trial.boot("m-1").await?;
    trial.boot("m-2").await?;
    let waited = trial
        .settled_with(&["m-1", "m-2", "m-4"], &["m-4"], 240)
        .await?;
    let founders = trial.journal.latest()["ledger"]["slots"].to_string();
    ensure!(!founders.contains("m-3"), "{founders}");
    Ok(format!(
        "removed, and three voters with the spare {:.0} s after the founding",
        waited.as_secs_f64()
    ))
}

/// 44
pub async fn the_ledger_is_deleted(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 4).await?;
    let ids = trial.ids();
    // A settled cluster's record is looked at each minute.
    trial.space.delete::<ConfigMap>("c-etcd-ledger").await?;
    trial.space.founded(NAME).await?;
    trial.kill_operator().await?;
    trial.space.delete::<ConfigMap>("c-etcd-ledger").await?;
    trial.space.delete::<EtcdCluster>(NAME).await?;
    trial.start_operator("one").await?;
    trial.says("Stalled", "True", "FoundingHalted", 60).await?;
    trial.untouched(20).await?;
    // Machines that restart meanwhile find their cluster.
    trial.power_off("m-2")?;
    trial.power_on("m-2")?;
    trial
        .until("all members to answer", 60, || {
            let seen = trial.sight.lock();
            seen.said.len() == 3 && seen.said.values().all(|said| said.list.is_some())
        })
        .await?;
    ensure!(trial.ids() == ids, "other members");
    nothing_changed(trial)?;
    Ok("one record lost: restored; both: halted, the cluster runs on".to_owned())
}
