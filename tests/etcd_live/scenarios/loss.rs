//! Machines that are gone, for a while or for good.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{THREE, nothing_changed};
use crate::trial::Trial;

/// 1
pub async fn one_of_three_for_good(trial: &mut Trial<'_>) -> Result<String> {
    const TIMEOUT: f64 = 60.0;
    // Waited for after a removal and before a promotion (etcd-membership I20).
    const SETTLE: f64 = 10.0;
    trial.found(3, 4).await?;
    let lost = trial.follower()?;
    let dead = trial.id_of(&lost)?;
    let off = Instant::now();
    trial.power_off(&lost)?;
    trial
        .until("removal", 180, || !trial.ids().contains(&dead))
        .await?;
    let removed = off.elapsed();
    ensure!(removed.as_secs_f64() > TIMEOUT, "removed after {removed:?}");
    trial
        .until("a learner", 120, || !trial.learners().is_empty())
        .await?;
    let added = off.elapsed();
    trial.user_data("m-4", 60).await?;
    let published = off.elapsed();
    trial.boot("m-4").await?;
    trial
        .until("the learner's start", 60, || {
            !trial.changes("started").is_empty()
        })
        .await?;
    let started = off.elapsed();
    let mut wanted: Vec<&str> = THREE.into_iter().filter(|name| *name != lost).collect();
    wanted.push("m-4");
    trial.settled(&wanted, 120).await?;
    let promoted = off.elapsed();
    ensure!(
        trial.changes("removed") < trial.changes("added"),
        "added first"
    );
    ensure!(
        trial.journal.operations().len() == 3,
        "{:?}",
        trial.journal.operations()
    );
    let seconds = |from: Duration, to: Duration| (to - from).as_secs_f64();
    let parts = [
        removed.as_secs_f64() - TIMEOUT,
        seconds(removed, added) - SETTLE,
        seconds(added, published),
        seconds(started, promoted) - SETTLE,
    ];
    let own: f64 = parts.iter().sum();
    Ok(format!(
        "removed {:.0} s after it fell silent, three voters after {:.0} s; without timeout, settling \
         and boot {own:.1} s: {:.1} to notice and remove, {:.1} to add, {:.1} to publish, {:.1} to \
         promote",
        removed.as_secs_f64(),
        promoted.as_secs_f64(),
        parts[0],
        parts[1],
        parts[2],
        parts[3]
    ))
}

/// 2
pub async fn one_of_three_comes_back(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 4).await?;
    let gone = trial.leader()?;
    trial.power_off(&gone)?;
    trial.untouched(40).await?;
    trial.power_on(&gone)?;
    trial.settled(&THREE, 60).await?;
    trial.untouched(30).await?;
    nothing_changed(trial)?;
    Ok("off for 40 s of a timeout of 60 s: nothing changed".to_owned())
}

/// 3
pub async fn two_of_three_come_back(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 4).await?;
    trial.power_off("m-2")?;
    trial.power_off("m-3")?;
    trial.untouched(90).await?;
    trial.power_on("m-2")?;
    trial.power_on("m-3")?;
    trial.settled(&THREE, 120).await?;
    nothing_changed(trial)?;
    Ok("off for 90 s: nothing changed, healed by itself".to_owned())
}

/// 4
pub async fn two_of_three_for_good(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 4).await?;
    trial.power_off("m-2")?;
    trial.power_off("m-3")?;
    trial.confirm_lost("m-2").await?;
    trial.confirm_lost("m-3").await?;
    let said = trial
        .says("EtcdHealthy", "False", "QuorumLost", 120)
        .await?;
    trial.untouched(75).await?;
    nothing_changed(trial)?;
    Ok(format!(
        "nothing changed; said: {}",
        said.chars().take(80).collect::<String>()
    ))
}

/// 63
pub async fn all_at_once(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 4).await?;
    let off = Instant::now();
    for machine in THREE {
        trial.power_off(machine)?;
    }
    trial.untouched(70).await?;
    for machine in THREE {
        trial.power_on(machine)?;
    }
    trial.settled(&THREE, 120).await?;
    nothing_changed(trial)?;
    Ok(format!(
        "off for 70 s, healthy again {:.0} s after",
        off.elapsed().as_secs_f64() - 70.0
    ))
}

/// 15
pub async fn the_leader_stops(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 4).await?;
    let old = trial.leader()?;
    trial.sight.fault(format!("etcd on {old} stopped"));
    trial.host(&old)?.freeze()?;
    let gone = Instant::now();
    trial
        .until("another leader", 60, || {
            trial.leader().is_ok_and(|new| new != old)
        })
        .await?;
    let elected = gone.elapsed();
    // Its machine answers, so it is not lost.
    trial.untouched(75).await?;
    trial.sight.fault(format!("etcd on {old} goes on"));
    trial.host(&old)?.thaw()?;
    trial.settled(&THREE, 120).await?;
    nothing_changed(trial)?;
    Ok(format!(
        "another leader after {elected:.1?}, no removal in 75 s"
    ))
}

/// 14
pub async fn a_member_stops_and_another_is_taken_out(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 4).await?;
    let leader = trial.leader()?;
    let others: Vec<&str> = THREE.into_iter().filter(|name| *name != leader).collect();
    let (stopped, out) = (others[0], others[1]);
    trial.sight.fault(format!("etcd on {stopped} stopped"));
    trial.host(stopped)?.freeze()?;
    let numbers: Vec<u8> = [1, 2, 3, 4]
        .into_iter()
        .filter(|number| format!("m-{number}") != out)
        .collect();
    trial.inventory(&numbers).await?;
    let id = trial.id_of(out)?;
    trial
        .stays("the member taken out is there", 40, || {
            trial.ids().contains(&id)
        })
        .await?;
    trial.sight.fault(format!("etcd on {stopped} goes on"));
    trial.host(stopped)?.thaw()?;
    trial
        .settled_with(&[&leader, stopped, "m-4"], &["m-4"], 240)
        .await?;
    Ok("not removed within 40 s, replaced after the other was healthy".to_owned())
}

/// 30
pub async fn two_of_five(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(5, 7).await?;
    trial.power_off("m-4")?;
    trial.power_off("m-5")?;
    trial.confirm_lost("m-4").await?;
    trial.confirm_lost("m-5").await?;
    let began = Instant::now();
    trial
        .until("the first removal", 120, || {
            !trial.changes("removed").is_empty()
        })
        .await?;
    let first = Instant::now();
    trial
        .until("the second removal", 120, || {
            trial.changes("removed").len() == 2
        })
        .await?;
    let between = first.elapsed();
    ensure!(
        between > Duration::from_secs(9),
        "the second removal after {between:?}"
    );
    let new = ["m-6", "m-7"];
    trial
        .settled_with(&["m-1", "m-2", "m-3", "m-6", "m-7"], &new, 300)
        .await?;
    Ok(format!(
        "removed, {between:.0?} later the other; five voters after {:.0} s",
        began.elapsed().as_secs_f64()
    ))
}

/// 31
pub async fn scale_down_stops_half_way(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 3).await?;
    trial.spec(&serde_json::json!({"replicas": 1})).await?;
    trial
        .until("the first removal", 120, || {
            !trial.changes("removed").is_empty()
        })
        .await?;
    let survivor = trial.leader().context("after the first removal")?;
    trial.power_off(&survivor)?;
    let ids = trial.ids();
    ensure!(ids.len() == 2, "{ids:?}");
    trial.untouched(75).await?;
    trial.power_on(&survivor)?;
    trial
        .until("one voter", 120, || trial.voters().len() == 1)
        .await?;
    let last = trial.voters().into_iter().next().context("a voter")?;
    trial.settled(&[last], 60).await?;
    Ok("no second removal within 75 s; one voter after the other was back".to_owned())
}
