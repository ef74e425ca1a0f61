//! An operator that dies: at moments of a test's choosing, or again and again while something goes on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::site::{Site, soak, tell};
use crate::testbed::release::{self, Replica};
use crate::watch::Watch;

/// Kills while a story is played.
const KILLS: u32 = 10;
/// A change of membership is on record for a second or so: the operator dies at most so long after it
/// has appeared.
const INTO_A_CHANGE: Duration = Duration::from_millis(1500);
/// Without any it dies in the end: longer than a new operator watches a silent member before it
/// believes what the last one has written down.
const LIFE: Duration = Duration::from_secs(45);
const POLL: Duration = Duration::from_millis(10);

/// Runs a test that draws its moments from a seed, which is printed: `SEEDBED_E2E_SEED` repeats it.
pub fn seeded(name: &str, test: impl FnOnce(u64) -> Result<()>) -> Result<()> {
    let given = std::env::var("SEEDBED_E2E_SEED").ok();
    let seed: u64 = match given {
        Some(text) => text.parse().context("SEEDBED_E2E_SEED is no number")?,
        None => rand::random_range(0..1_000_000),
    };
    tell(name, &format!("SEEDBED_E2E_SEED={seed}"));
    test(seed).with_context(|| format!("again with SEEDBED_E2E_SEED={seed}"))
}

/// One life of the operator.
pub fn live_and_die(site: &Site, live: impl FnOnce() -> Result<()>) -> Result<()> {
    let operator = site.stage.operator("seedbed-0")?;
    live()?;
    operator.process().kill()?;
    take_lease_away(site)
}

/// Waiting for the dead leader's lease to expire would only cost 15 s a time; that it expires is
/// tested where the other replica takes over.
fn take_lease_away(site: &Site) -> Result<()> {
    let delete = [
        "-n",
        release::NAMESPACE,
        "delete",
        "lease",
        "seedbed",
        "--ignore-not-found",
    ];
    site.stage.kubectl(&delete).map(drop)
}

/// Plays a story on the site with an operator that lives; in the long form with one that dies again
/// and again until it has died ten times. `etcd` is the EtcdCluster it is about.
pub fn with_an_operator(
    site: &Site,
    etcd: &str,
    story: impl FnOnce(&Site) -> Result<()>,
) -> Result<()> {
    if soak() {
        return seeded(etcd, |seed| dying(site, etcd, seed, || story(site)));
    }
    let operator = site.stage.operator("seedbed-0")?;
    story(site)?;
    operator.process().stop()
}

fn dying(site: &Site, etcd: &str, seed: u64, story: impl FnOnce() -> Result<()>) -> Result<()> {
    let told = AtomicBool::new(false);
    let last = std::thread::scope(|scope| {
        let killer = scope.spawn(|| kill_again_and_again(site, etcd, seed, &told));
        let ended = story();
        told.store(true, Ordering::Relaxed);
        let last = killer.join().map_err(|_| anyhow!("the killer panicked"))?;
        ended?;
        last
    })?;
    last.process().stop()
}

/// The last operator, which lives.
fn kill_again_and_again(site: &Site, etcd: &str, seed: u64, told: &AtomicBool) -> Result<Replica> {
    let mut random = StdRng::seed_from_u64(seed);
    let etcds = Watch::begin(site, "seedbed.dev", "v1alpha1", "EtcdCluster")?;
    let pending = || pending(&etcds, etcd);
    let mut kills = 0;
    while kills < KILLS && !told.load(Ordering::Relaxed) {
        let begun = Instant::now();
        live_and_die(site, || {
            let before = pending();
            let new = |now: &Value| !now.is_null() && *now != before;
            let on = || begun.elapsed() < LIFE && !told.load(Ordering::Relaxed);
            while on() && !new(&pending()) {
                std::thread::sleep(POLL);
            }
            std::thread::sleep(INTO_A_CHANGE.mul_f64(random.random()));
            Ok(())
        })?;
        kills += 1;
        let (life, found) = (begun.elapsed(), pending());
        tell(
            etcd,
            &format!("kill {kills} after {life:.1?}, on record: {found}"),
        );
    }
    site.stage.operator("seedbed-0")
}

/// The operation on record, however often it was tried; null where there is none, or no EtcdCluster
/// yet.
fn pending(etcds: &Watch, etcd: &str) -> Value {
    let newest = etcds.newest(etcd).unwrap_or_default();
    let mut found = newest["status"]["pendingOperation"].clone();
    for tried in ["attempts", "message"] {
        if let Some(found) = found.as_object_mut() {
            found.remove(tried);
        }
    }
    found
}
