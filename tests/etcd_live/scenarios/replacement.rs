//! Healthy machines that leave, and others that come in their place.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::THREE;
use crate::trial::Trial;

/// 29
pub async fn a_fourth_voter_dies(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 4).await?;
    trial.inventory(&[1, 2, 4]).await?;
    trial.boot("m-4").await?;
    trial
        .until("four voters", 180, || trial.voters().len() == 4)
        .await?;
    trial.kill_operator().await?;
    ensure!(trial.voters().len() == 4, "{:?}", trial.voters());
    let dead = trial.id_of("m-4")?;
    trial.power_off("m-4")?;
    trial.confirm_lost("m-4").await?;
    trial.start_operator("two").await?;
    trial
        .until("removal", 180, || !trial.ids().contains(&dead))
        .await?;
    let voters = trial.voters();
    ensure!(
        THREE.iter().all(|name| voters.contains(*name)),
        "{voters:?}"
    );
    // The machine taken out stays a member until there is another.
    trial.inventory(&[1, 2, 3]).await?;
    trial.settled(&THREE, 400).await?;
    Ok("the dead one was removed, three voters left".to_owned())
}

/// 32
pub async fn the_only_machine_is_replaced_and_put_back(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(1, 1).await?;
    let original = trial.id_of("m-1")?;
    trial.inventory(&[2]).await?;
    trial
        .until("a learner", 120, || !trial.learners().is_empty())
        .await?;
    tokio::time::sleep(Duration::from_secs(6)).await;
    trial.inventory(&[1]).await?;
    trial.settled(&["m-1"], 400).await?;
    ensure!(trial.id_of("m-1")? == original, "another member");
    trial
        .stays("the original is the only member", 30, || {
            trial.ids() == [original].into()
        })
        .await?;
    ensure!(trial.changes("removed").len() == 1, "another removal");
    Ok("the original survived, the learner was removed".to_owned())
}

/// 33
pub async fn all_three_are_replaced(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 3).await?;
    trial.inventory(&[4, 5, 6]).await?;
    let new = ["m-4", "m-5", "m-6"];
    let took = trial.settled_with(&new, &new, 540).await?;
    let (added, removed) = (trial.changes("added"), trial.changes("removed"));
    ensure!(
        added.len() == 3 && removed.len() == 3,
        "{added:?} {removed:?}"
    );
    let in_turn = added.iter().zip(&removed).all(|(add, remove)| add < remove)
        && removed
            .iter()
            .zip(&added[1..])
            .all(|(remove, add)| remove < add);
    ensure!(
        in_turn,
        "not one at a time: added {added:?}, removed {removed:?}"
    );
    Ok(format!(
        "one after the other, each added first; {:.0} s",
        took.as_secs_f64()
    ))
}

/// 35
pub async fn the_leader_is_replaced(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 4).await?;
    let leader = trial.leader()?;
    let old = trial.id_of(&leader)?;
    let numbers: Vec<u8> = [1, 2, 3, 4]
        .into_iter()
        .filter(|number| format!("m-{number}") != leader)
        .collect();
    trial.inventory(&numbers).await?;
    trial.boot("m-4").await?;
    trial
        .until("four voters", 180, || trial.voters().len() == 4)
        .await?;
    trial.sight.lock().pause = Duration::from_millis(10);
    let began = Instant::now();
    let on_record = |kind: &str| trial.journal.latest()["pendingOperation"]["kind"] == kind;
    trial
        .until("the move", 60, || on_record("MoveLeader"))
        .await?;
    let recorded = Instant::now();
    trial
        .until("its end", 60, || !on_record("MoveLeader"))
        .await?;
    let moved = Instant::now();
    // Only its own member's connection ends with it; the writer goes to another one.
    trial
        .until("removal", 120, || !trial.ids().contains(&old))
        .await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let [move_gap, longest] = {
        let mut seen = trial.sight.lock();
        seen.pause = Duration::from_millis(100);
        [[recorded, moved], [began, Instant::now()]].map(|[from, to]| seen.longest_gap(from, to))
    };
    ensure!(longest < Duration::from_secs(2), "no write for {longest:?}");
    let voters: Vec<String> = numbers.iter().map(|number| format!("m-{number}")).collect();
    trial.settled(&voters, 120).await?;
    Ok(format!(
        "moved first; longest gap of writes around the move {} ms, of all until after the removal {} ms",
        move_gap.as_millis(),
        longest.as_millis()
    ))
}
