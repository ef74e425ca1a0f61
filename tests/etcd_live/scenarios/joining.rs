//! Learners that never start, die, crawl, or wait.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::trial::Trial;

/// A lost member whose place the spare `m-4` is to take, up to its learner.
async fn spare_is_called(trial: &mut Trial<'_>) -> Result<()> {
    trial.power_off("m-3")?;
    trial.confirm_lost("m-3").await?;
    trial
        .until("a learner", 180, || trial.changes("added").len() == 1)
        .await
        .map(drop)
}

/// 5
pub async fn a_learner_dies_when_it_has_caught_up(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 5).await?;
    spare_is_called(trial).await?;
    trial.boot("m-4").await?;
    trial
        .until("the learner's start", 60, || {
            trial.changes("started").len() == 1
        })
        .await?;
    trial.power_off("m-4")?;
    trial
        .stays("no promotion", 60, || {
            trial.journal.operations_of("Promote") == 0 && trial.voters().len() == 2
        })
        .await?;
    trial.confirm_lost("m-4").await?;
    trial
        .settled_with(&["m-1", "m-2", "m-5"], &["m-5"], 300)
        .await?;
    Ok(
        "not promoted in 60 s; evicted when confirmed lost, another spare took its place"
            .to_owned(),
    )
}

/// 6
pub async fn a_learner_never_starts(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 5).await?;
    spare_is_called(trial).await?;
    let added = Instant::now();
    trial
        .until("eviction", 400, || trial.changes("removed").len() == 2)
        .await?;
    let evicted = added.elapsed();
    ensure!(
        evicted > Duration::from_secs(290),
        "evicted after {evicted:?}"
    );
    trial
        .settled_with(&["m-1", "m-2", "m-5"], &["m-5"], 240)
        .await?;
    Ok(format!(
        "removed after {:.0} s; the other spare took its place",
        evicted.as_secs_f64()
    ))
}

/// 7
pub async fn a_learner_crawls(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 4).await?;
    {
        let mut seen = trial.sight.lock();
        seen.pause = Duration::from_millis(10);
        seen.payload = 30_000;
    }
    let written = trial.sight.lock().acknowledged.len();
    trial
        .until("data", 180, || {
            trial.sight.lock().acknowledged.len() > written + 400
        })
        .await?;
    {
        let mut seen = trial.sight.lock();
        seen.pause = Duration::from_millis(100);
        seen.payload = 100;
    }
    spare_is_called(trial).await?;
    let learner = trial.rack("m-4").await?;
    trial.sight.fault("m-4 receives 100 KiB a second");
    learner.throttle(100)?;
    trial.boot("m-4").await?;
    let lag = || {
        let seen = trial.sight.lock();
        let most = seen.said.values().map(|said| said.index).max().unwrap_or(0);
        let own = seen
            .said
            .get(&learner.address())
            .map_or(0, |said| said.index);
        most.saturating_sub(own)
    };
    let began = Instant::now();
    let mut largest = 0;
    while began.elapsed() < Duration::from_secs(60) {
        let behind = lag();
        largest = largest.max(behind);
        let promoted = !trial.changes("promoted").is_empty();
        ensure!(
            !promoted || behind < 1000,
            "promoted {behind} entries behind"
        );
        ensure!(trial.changes("removed").len() == 1, "evicted");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    trial.sight.fault("m-4 is throttled no more");
    learner.heal()?;
    trial.settled(&["m-1", "m-2", "m-4"], 240).await?;
    Ok(format!(
        "kept while up to {largest} entries behind, promoted when it had caught up"
    ))
}

/// 9
pub async fn two_machines_at_once(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(1, 3).await?;
    trial.spec(&serde_json::json!({"replicas": 3})).await?;
    trial
        .settled_with(&["m-1", "m-2", "m-3"], &["m-2", "m-3"], 300)
        .await?;
    let (added, promoted) = (trial.changes("added"), trial.changes("promoted"));
    ensure!(
        added.len() == 2 && promoted.len() == 2,
        "{added:?} {promoted:?}"
    );
    ensure!(added[1] > promoted[0], "two learners at once");
    Ok("the second was added after the first was promoted".to_owned())
}

/// 9a
pub async fn up_to_seven_and_back(trial: &mut Trial<'_>) -> Result<String> {
    let names: Vec<String> = (1..=7).map(|number| format!("m-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    trial.found(1, 7).await?;
    let began = Instant::now();
    let mut before = 1;
    for size in [3, 5, 7] {
        trial.scale(size).await?;
        let (wanted, new) = (&names[..size], &names[before..size]);
        trial.settled_with(wanted, new, 300).await?;
        before = size;
    }
    let (up, began) = (began.elapsed().as_secs(), Instant::now());
    for size in [5, 3, 1] {
        trial.scale(size).await?;
        trial
            .until(&format!("{size} voters"), 300, || {
                trial.voters().len() == size
            })
            .await?;
        let left: Vec<String> = trial.voters().into_iter().collect();
        trial.settled(&left, 120).await?;
    }
    let made = ["AddLearner", "Promote", "Remove"].map(|kind| trial.journal.operations_of(kind));
    ensure!(made == [6, 6, 6], "{:?}", trial.journal.operations());
    Ok(format!(
        "six learners added and promoted in {up} s, six voters removed in {} s, one at a time",
        began.elapsed().as_secs()
    ))
}

/// 24
pub async fn the_list_changes_before_the_first_boot(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 4).await?;
    trial.inventory(&[1, 2, 4]).await?;
    trial
        .until("a learner", 60, || !trial.learners().is_empty())
        .await?;
    let first = trial.user_data("m-4", 60).await?;
    trial.power_off("m-2")?;
    trial.confirm_lost("m-2").await?;
    trial
        .until("removal", 180, || trial.changes("removed").len() == 1)
        .await?;
    trial.republished("m-4", &first, 60).await?;
    trial.boot("m-4").await?;
    trial
        .until("the learner's promotion", 120, || {
            !trial.changes("promoted").is_empty()
        })
        .await?;
    let voters = trial.voters();
    ensure!(voters.contains("m-4") && voters.len() == 3, "{voters:?}");
    Ok("its config followed the list; it booted and was promoted".to_owned())
}
