//! Random walks: one fault after the other, drawn from a seed that is printed, and then everything
//! that can come back does. Three healthy voters have to be there in the end.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::scenarios::THREE;
use crate::table::Row;
use crate::trial::{NAME, SEED, Trial};

const WALKS: u64 = 20;
const STEPS: usize = 20;
/// Longest time from the last step to three healthy voters.
const RECOVERY: u64 = 420;

/// The seeds of this run.
pub fn seeds() -> Vec<u64> {
    let given = std::env::var("SEEDBED_LIVE_SEED").ok();
    if let Some(seed) = given.and_then(|text| text.parse().ok()) {
        return vec![seed];
    }
    let first = rand::random_range(0..1_000_000_000);
    (first..first + WALKS).collect()
}

/// A line for the document.
pub fn summary<'a>(rows: impl Iterator<Item = &'a Row> + Clone) -> String {
    let passed = rows.clone().filter(|row| row.seen.is_ok()).count();
    let writes: usize = rows.clone().map(|row| row.writes).sum();
    let longest = rows
        .clone()
        .map(|row| row.took.as_secs())
        .max()
        .unwrap_or(0);
    format!(
        "Random walks of {STEPS} steps each: {passed} of {} ended with three healthy voters and all\n\
         of {writes} acknowledged writes; the longest took {longest} s. Each prints its seed;\n\
         `SEEDBED_LIVE=walk SEEDBED_LIVE_SEED=SEED` repeats one.",
        rows.count()
    )
}

/// A step that is possible at any time.
#[derive(Clone, Copy, Debug)]
enum Step {
    PowerOff,
    PowerOn,
    KillEtcd,
    Freeze,
    Thaw,
    CutPeers,
    CutSeed,
    Heal,
    KillOperator,
    ConfirmLost,
    Reimage,
    Replace,
    Wait,
}

const ALL: [Step; 16] = [
    Step::PowerOff,
    Step::PowerOn,
    Step::PowerOn,
    Step::KillEtcd,
    Step::Freeze,
    Step::Thaw,
    Step::CutPeers,
    Step::CutSeed,
    Step::Heal,
    Step::Heal,
    Step::KillOperator,
    Step::ConfirmLost,
    Step::Reimage,
    Step::Replace,
    Step::Wait,
    Step::Wait,
];

/// What the walk has done so far.
#[derive(Default)]
struct Been {
    /// A disk is emptied once in a walk: a second one before the first was replaced would take a
    /// majority's memory away, which nothing can heal.
    reimaged: bool,
    /// The machine that was taken out for `m-4`, if any.
    replaced: Option<String>,
    frozen: Vec<String>,
}

/// Plays one walk.
pub async fn walk(trial: &mut Trial<'_>, seed: u64) -> Result<String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut been = Been::default();
    crate::testbed::progress::say(&format!("live: SEEDBED_LIVE_SEED={seed}"));
    trial.found(3, 3).await?;
    for number in 0..STEPS {
        let step = *ALL.choose(&mut random).context("a step")?;
        let machines: Vec<String> = trial.hosts.keys().cloned().collect();
        let machine = machines.choose(&mut random).context("a machine")?.clone();
        trial
            .sight
            .note(format!("step {number}: {step:?} {machine}"));
        take(trial, step, &machine, &mut been).await?;
        let pause = Duration::from_millis(random.random_range(0..4000));
        let until = Instant::now() + pause;
        while Instant::now() < until {
            boot_what_is_published(trial, &mut been).await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    recover(trial, &mut been).await
}

async fn take(trial: &mut Trial<'_>, step: Step, machine: &str, been: &mut Been) -> Result<()> {
    let host = trial.host(machine)?.clone();
    match step {
        Step::PowerOff if host.is_on() => {
            been.frozen.retain(|name| name != machine);
            trial.power_off(machine)?;
        }
        Step::PowerOn if !host.is_on() => trial.power_on(machine)?,
        Step::KillEtcd if host.etcd_runs() => {
            trial.sight.fault(format!("etcd on {machine} killed"));
            host.kill_etcd()?;
        }
        Step::Freeze if host.etcd_runs() => {
            trial.sight.fault(format!("etcd on {machine} stopped"));
            host.freeze()?;
            been.frozen.push(machine.to_owned());
        }
        Step::Thaw => thaw(trial, been)?,
        Step::CutPeers => {
            trial
                .sight
                .fault(format!("{machine} cut off from the others"));
            for other in trial.hosts.values().filter(|other| other.name() != machine) {
                host.cut_off(other.address())?;
            }
        }
        Step::CutSeed => {
            trial
                .sight
                .fault(format!("{machine} cut off from the seed"));
            host.cut_off(SEED)?;
        }
        Step::Heal => heal(trial)?,
        Step::KillOperator => {
            trial.kill_operator().await?;
            trial.start_operator("one").await?;
        }
        Step::ConfirmLost if !host.is_on() => trial.confirm_lost(machine).await?,
        Step::Reimage if !been.reimaged && everybody_well(trial) => {
            been.reimaged = true;
            been.frozen.retain(|name| name != machine);
            // Only from then on does its config keep a started member off an empty disk.
            trial.guarded(machine).await?;
            trial.wipe(machine)?;
            trial.boot_any(machine).await?;
        }
        Step::Replace if been.replaced.is_none() => {
            been.replaced = Some(machine.to_owned());
            let numbers: Vec<u8> = [1, 2, 3, 4]
                .into_iter()
                .filter(|number| format!("m-{number}") != machine)
                .collect();
            trial.inventory(&numbers).await?;
        }
        _ => {}
    }
    Ok(())
}

fn thaw(trial: &Trial<'_>, been: &mut Been) -> Result<()> {
    for machine in been.frozen.drain(..) {
        trial.sight.fault(format!("etcd on {machine} goes on"));
        // Its machine may have been switched off and on meanwhile.
        if let Err(error) = trial.host(&machine)?.thaw() {
            trial.sight.note(format!("{error:#}"));
        }
    }
    Ok(())
}

fn heal(trial: &Trial<'_>) -> Result<()> {
    trial.sight.fault("the network is whole");
    trial.hosts.values().try_for_each(crate::host::Host::heal)
}

fn everybody_well(trial: &Trial<'_>) -> bool {
    let seen = trial.sight.lock();
    let answer = seen
        .said
        .values()
        .filter(|said| said.list.is_some())
        .count();
    answer >= 3 && seen.list.iter().filter(|member| !member.learner).count() == 3
}

/// A provider at work: a machine whose config is for another member than the one it was booted
/// for is imaged anew, and a new machine is racked and booted.
async fn boot_what_is_published(trial: &mut Trial<'_>, been: &mut Been) -> Result<()> {
    let status = trial.journal.latest();
    let slots = status["ledger"]["slots"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    for slot in slots {
        let machine = slot["machine"].as_str().unwrap_or_default().to_owned();
        let waits = slot["memberID"].is_string() && slot["started"] == false;
        let name = slot["name"].as_str().unwrap_or_default().to_owned();
        if !waits || name == machine || name.is_empty() || runs_as(trial, &machine, &name) {
            continue;
        }
        let secret = trial.secret_names(&machine).await?;
        if secret.as_deref() != Some(name.as_str()) {
            continue;
        }
        if trial.hosts.contains_key(&machine) {
            been.frozen.retain(|frozen| *frozen != machine);
            trial.wipe(&machine)?;
        }
        trial.boot(&machine).await?;
    }
    Ok(())
}

/// Whether the machine was booted for the member of this name.
fn runs_as(trial: &Trial<'_>, machine: &str, name: &str) -> bool {
    let manifest = trial.hosts.get(machine).and_then(|host| {
        std::fs::read_to_string(host.file("etc/kubernetes/manifests/etcd.yaml")).ok()
    });
    manifest.is_some_and(|text| {
        text.lines()
            .any(|line| line.trim() == format!("- --name={name}"))
    })
}

async fn recover(trial: &mut Trial<'_>, been: &mut Been) -> Result<String> {
    trial.sight.note("everything that can comes back");
    heal(trial)?;
    thaw(trial, been)?;
    let machines: Vec<String> = trial.hosts.keys().cloned().collect();
    for machine in machines {
        if !trial.host(&machine)?.is_on() {
            trial.power_on(&machine)?;
        }
    }
    let mut wanted: BTreeSet<String> = THREE.map(str::to_owned).into();
    if let Some(out) = &been.replaced {
        wanted.remove(out);
        wanted.insert("m-4".to_owned());
    }
    let began = Instant::now();
    loop {
        boot_what_is_published(trial, been).await?;
        let (voters, learners) = (trial.voters(), trial.learners());
        let healthy = trial
            .journal
            .condition("EtcdHealthy")
            .is_some_and(|(s, _)| s == "True");
        let idle = trial.journal.latest()["pendingOperation"].is_null();
        if voters == wanted && learners.is_empty() && healthy && idle && everybody_well(trial) {
            break;
        }
        let seen = trial.sight.lock().violations.join("; ");
        ensure!(seen.is_empty(), "{seen}");
        ensure!(
            began.elapsed() < Duration::from_secs(RECOVERY),
            "not recovered {RECOVERY} s after {NAME} could: voters {voters:?}, learners {learners:?}"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let changes = trial.sight.lock().changes.len();
    Ok(format!(
        "recovered after {:.0} s; {changes} changes of the list; voters on {}",
        began.elapsed().as_secs_f64(),
        Vec::from_iter(wanted).join(", ")
    ))
}
