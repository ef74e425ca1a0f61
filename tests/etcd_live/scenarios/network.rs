//! Networks that do not carry everything.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{THREE, nothing_changed};
use crate::proxy::Proxy;
use crate::trial::{SEED, Trial};

/// Longer than a lost member is waited for.
const LONG: u64 = 80;

fn heal(trial: &Trial<'_>) -> Result<()> {
    trial.sight.fault("the network is whole");
    trial.hosts.values().try_for_each(crate::host::Host::heal)
}

/// 25
pub async fn the_leader_alone(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 4).await?;
    let old = trial.leader()?;
    trial
        .sight
        .fault(format!("{old} cut off from the other members"));
    for machine in THREE.into_iter().filter(|name| *name != old) {
        let address = trial.host(machine)?.address();
        trial.host(&old)?.cut_off(address)?;
    }
    trial
        .until("another leader", 60, || {
            trial.leader().is_ok_and(|new| new != old)
        })
        .await?;
    trial.untouched(LONG).await?;
    heal(trial)?;
    trial.settled(&THREE, 120).await?;
    nothing_changed(trial)?;
    Ok("another leader, no removal in 80 s, healed".to_owned())
}

/// 26
pub async fn the_seed_sees_all_but_one(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 4).await?;
    let unseen = trial.follower()?;
    trial.sight.fault(format!("{unseen} cut off from the seed"));
    trial.host(&unseen)?.cut_off(SEED)?;
    trial.says("EtcdHealthy", "False", "", 60).await?;
    trial.untouched(LONG + 30).await?;
    heal(trial)?;
    trial.settled(&THREE, 120).await?;
    nothing_changed(trial)?;
    Ok("reported, not removed in 110 s: the others see it".to_owned())
}

/// 27
pub async fn the_seed_sees_nobody(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 4).await?;
    trial.sight.fault("the seed is cut off from all machines");
    for machine in THREE {
        trial.host(machine)?.cut_off(SEED)?;
    }
    trial.says("EtcdHealthy", "False", "", 60).await?;
    trial.untouched(LONG).await?;
    heal(trial)?;
    trial.settled(&THREE, 120).await?;
    nothing_changed(trial)?;
    Ok("reported only, nothing changed in 80 s".to_owned())
}

/// 28
pub async fn one_way(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 4).await?;
    let leader = trial.leader()?;
    let deaf = trial.follower()?;
    trial
        .sight
        .fault(format!("{deaf} receives nothing from {leader}"));
    let address = trial.host(&leader)?.address();
    trial.host(&deaf)?.deaf_to(address)?;
    trial.untouched(LONG).await?;
    ensure!(trial.leader()? == leader, "another leader");
    heal(trial)?;
    trial.settled(&THREE, 120).await?;
    nothing_changed(trial)?;
    Ok("the same leader, no removal in 80 s".to_owned())
}

/// 41
pub async fn one_member_never_answers(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 4).await?;
    let slow = trial.follower()?;
    // Connections that are there already do not pass through the proxy.
    trial.kill_operator().await?;
    let proxy = {
        let host = trial.host(&slow)?.clone();
        tokio::task::block_in_place(|| Proxy::start(&host, SEED))?
    };
    proxy.delay(Duration::from_secs(30));
    trial
        .sight
        .fault(format!("{slow} answers the operator after 30 s"));
    trial.start_operator("one").await?;
    trial.says("EtcdHealthy", "False", "", 60).await?;
    let healthy = || {
        let status = trial.journal.latest();
        let rows = status["members"].as_array().cloned().unwrap_or_default();
        let of = |row: &serde_json::Value| row["healthy"] == true;
        let others = rows.iter().filter(|row| row["machine"] != slow.as_str());
        others.clone().count() == 2 && others.clone().all(of)
    };
    trial.until("the others to be healthy", 30, healthy).await?;
    trial.stays("the others are healthy", LONG, healthy).await?;
    proxy.delay(Duration::ZERO);
    trial.sight.fault(format!("{slow} answers at once"));
    trial.settled(&THREE, 120).await?;
    nothing_changed(trial)?;
    Ok("the others stayed healthy, nothing changed in 80 s".to_owned())
}
