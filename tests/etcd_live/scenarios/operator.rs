//! Replies that are lost and operators that die, stand still or see the past.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::proxy::Proxy;
use crate::trial::{SEED, Trial};

/// Long enough that the change is seen in the list before its reply is let through.
const HELD_BACK: Duration = Duration::from_millis(400);

/// Three voters whose replies to the operator can be lost.
async fn founded_with_proxies(trial: &mut Trial<'_>) -> Result<()> {
    trial.found(3, 4).await?;
    // Connections that are there already do not pass through proxies.
    trial.kill_operator().await?;
    for machine in super::THREE {
        let host = trial.host(machine)?.clone();
        let proxy = tokio::task::block_in_place(|| Proxy::start(&host, SEED))?;
        trial.proxies.insert(machine.to_owned(), proxy);
    }
    trial.start_operator("two").await?;
    trial.settled(&super::THREE, 60).await.map(drop)
}

fn each(trial: &Trial<'_>, what: impl Fn(&Proxy)) {
    trial.proxies.values().for_each(what);
}

/// What happens to the list of members when `m-4` takes the place of `m-3`.
#[derive(Clone, Copy)]
enum Change {
    Added,
    Promoted,
    Removed,
}

/// Holds replies back until a change is in the list.
async fn applied(trial: &Trial<'_>, change: Change) -> Result<()> {
    let old = trial.id_of("m-3")?;
    each(trial, |proxy| proxy.delay(HELD_BACK));
    trial.sight.fault("replies are held back");
    trial.list_becomes(&["m-1", "m-2"], 240, |list| match change {
        Change::Added => list.iter().any(|member| member.learner),
        Change::Promoted => list.len() == 4 && list.iter().all(|member| !member.learner),
        Change::Removed => !list.is_empty() && list.iter().all(|member| member.id != old),
    })?;
    trial.sight.note("the change is in the list");
    Ok(())
}

/// The reply to the change that was just seen is lost.
async fn reply_is_lost(trial: &Trial<'_>) {
    each(trial, |proxy| proxy.lose(true));
    trial.sight.fault("replies are lost");
    tokio::time::sleep(4 * HELD_BACK).await;
    each(trial, |proxy| {
        proxy.delay(Duration::ZERO);
        proxy.lose(false);
    });
    trial.sight.fault("replies come again");
}

/// The operator dies before it has heard of the change that was just seen; another one starts.
async fn operator_dies(trial: &mut Trial<'_>) -> Result<()> {
    trial.kill_operator().await?;
    let pending = trial.journal.latest()["pendingOperation"].clone();
    ensure!(
        !pending.is_null(),
        "nothing was recorded before it was done"
    );
    each(trial, |proxy| proxy.delay(Duration::ZERO));
    trial.start_operator("three").await
}

/// `m-4` has taken the place of `m-3`, and each change was made once.
async fn replaced_once(trial: &mut Trial<'_>) -> Result<()> {
    trial.settled(&["m-1", "m-2", "m-4"], 240).await?;
    for change in ["added", "promoted", "removed"] {
        let times = trial.changes(change).len();
        ensure!(times == 1, "{change} {times} times");
    }
    Ok(())
}

/// 10
pub async fn a_promotions_reply_is_lost(trial: &mut Trial<'_>) -> Result<String> {
    founded_with_proxies(trial).await?;
    trial.inventory(&[1, 2, 4]).await?;
    trial.boot("m-4").await?;
    applied(trial, Change::Promoted).await?;
    reply_is_lost(trial).await;
    replaced_once(trial).await?;
    let times = trial.journal.operations_of("Promote");
    ensure!(times == 1, "{times} promotions were begun");
    Ok("taken for done after reading the list, no second promotion".to_owned())
}

/// 11
pub async fn a_removals_reply_is_lost(trial: &mut Trial<'_>) -> Result<String> {
    founded_with_proxies(trial).await?;
    trial.inventory(&[1, 2, 4]).await?;
    trial.boot("m-4").await?;
    let old = trial.id_of("m-3")?;
    trial
        .until("four voters", 180, || trial.voters().len() == 4)
        .await?;
    applied(trial, Change::Removed).await?;
    reply_is_lost(trial).await;
    replaced_once(trial).await?;
    let times = trial.journal.operations_of("Remove");
    ensure!(times == 1, "{times} removals were begun");
    let ledger = trial.journal.latest()["ledger"].clone();
    let buried = ledger["tombstones"].to_string();
    ensure!(
        buried.contains(&format!("{old:x}")),
        "no tombstone: {ledger}"
    );
    Ok("taken for done after reading the list, its ID recorded as removed".to_owned())
}

/// 12
pub async fn killed_after_an_addition(trial: &mut Trial<'_>) -> Result<String> {
    founded_with_proxies(trial).await?;
    trial.inventory(&[1, 2, 4]).await?;
    applied(trial, Change::Added).await?;
    operator_dies(trial).await?;
    trial.boot("m-4").await?;
    replaced_once(trial).await?;
    Ok("the next operator took over the learner that was recorded".to_owned())
}

/// 13
pub async fn killed_after_a_removal(trial: &mut Trial<'_>) -> Result<String> {
    founded_with_proxies(trial).await?;
    trial.inventory(&[1, 2, 4]).await?;
    trial.boot("m-4").await?;
    trial
        .until("four voters", 180, || trial.voters().len() == 4)
        .await?;
    applied(trial, Change::Removed).await?;
    operator_dies(trial).await?;
    replaced_once(trial).await?;
    Ok("the next operator went on, nothing was done twice".to_owned())
}

/// 39
pub async fn two_operators(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 4).await?;
    trial.start_operator("two").await?;
    trial.operators[1].ready().await?;
    trial.inventory(&[1, 2, 4]).await?;
    trial
        .until("an operation", 60, || {
            !trial.journal.operations().is_empty()
        })
        .await?;
    trial.sight.fault("operator one stands still");
    trial.operators[0].freeze()?;
    // Its lease has to end first.
    trial.boot("m-4").await?;
    trial
        .until("four voters", 240, || trial.voters().len() == 4)
        .await?;
    trial.sight.fault("operator one goes on");
    trial.operators[0].thaw()?;
    replaced_once(trial).await?;
    trial.untouched(20).await?;
    trial
        .operators
        .remove(0)
        .wait_exit()
        .await
        .context("the one that lost its lease")?;
    Ok("the other went on after the lease had ended; nothing was done twice".to_owned())
}

/// 40
pub async fn watches_are_late(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 4).await?;
    trial.kill_operator().await?;
    let stale = trial
        .start_operator_behind("late", Duration::from_secs(60))
        .await?;
    trial.power_off("m-3")?;
    trial.confirm_lost("m-3").await?;
    trial
        .until("removal", 300, || trial.changes("removed").len() == 1)
        .await?;
    trial
        .stays("no second removal", 70, || {
            trial.changes("removed").len() == 1
        })
        .await?;
    let events = stale.held();
    ensure!(events > 0, "no event was held back");
    trial
        .settled_with(&["m-1", "m-2", "m-4"], &["m-4"], 400)
        .await?;
    Ok(format!(
        "{events} pieces of watches came 60 s late: one removal"
    ))
}
