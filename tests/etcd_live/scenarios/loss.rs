//! Machines that are gone, for a while or for good.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{THREE, nothing_changed};
use crate::trial::Trial;

/// What is waited for by rule: `nodeLoss.timeout`, the pause after a change (I20), and two good answers
/// of a member before it votes (A.2).
const TIMEOUT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_secs(10);
const TWO_ANSWERS: Duration = Duration::from_secs(5);

/// When what happened, since the machine died.
struct Repair {
    /// The first look that found it silent is on record.
    noticed: Duration,
    removed: Duration,
    added: Duration,
    published: Duration,
    started: Duration,
    promoted: Duration,
    healthy: Duration,
}

impl Repair {
    /// The operator's own time from the first look on, in parts: without the boot, and without what
    /// is waited for by rule.
    fn parts(&self) -> [(&'static str, f64); 4] {
        let since = |from: Duration, to: Duration| to.as_secs_f64() - from.as_secs_f64();
        let may_vote = (self.added + PAUSE).max(self.started + TWO_ANSWERS);
        [
            ("remove", since(self.noticed + TIMEOUT, self.removed)),
            ("add", since(self.removed + PAUSE, self.added)),
            ("publish", since(self.added, self.published)),
            ("promote", since(may_vote, self.promoted)),
        ]
    }
}

impl std::fmt::Display for Repair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let own: f64 = self.parts().iter().map(|(_, seconds)| seconds).sum();
        let noticed = self.noticed.as_secs_f64();
        let parts = self.parts().map(|(what, s)| format!("{s:.1} to {what}"));
        write!(
            f,
            "removed {:.0} s after it died, three voters after {:.0} s, called healthy after {:.0} s; without \
             waiting periods and boot {own:.1} s from the first look that found it silent ({}), and \
             {:.1} s from its death, which was {noticed:.1} s before that",
            self.removed.as_secs_f64(),
            self.promoted.as_secs_f64(),
            self.healthy.as_secs_f64(),
            parts.join(", "),
            own + noticed,
        )
    }
}

/// 1
pub async fn one_of_three_for_good(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 4).await?;
    let lost = trial.follower()?;
    let dead = trial.id_of(&lost)?;
    let off = Instant::now();
    trial.power_off(&lost)?;
    trial
        .until("its silence on record", 60, || trial.is_silent(&lost))
        .await?;
    let noticed = off.elapsed();
    trial
        .until("removal", 180, || !trial.ids().contains(&dead))
        .await?;
    let removed = off.elapsed();
    ensure!(removed > TIMEOUT, "removed after {removed:?}");
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
    trial
        .until("promotion", 120, || !trial.changes("promoted").is_empty())
        .await?;
    let promoted = off.elapsed();
    let mut wanted: Vec<&str> = THREE.into_iter().filter(|name| *name != lost).collect();
    wanted.push("m-4");
    trial.settled(&wanted, 120).await?;
    let healthy = off.elapsed();
    ensure!(
        trial.changes("removed") < trial.changes("added"),
        "added first"
    );
    ensure!(
        trial.journal.operations().len() == 3,
        "{:?}",
        trial.journal.operations()
    );
    let repair = Repair {
        noticed,
        removed,
        added,
        published,
        started,
        promoted,
        healthy,
    };
    Ok(repair.to_string())
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
