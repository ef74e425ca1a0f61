//! From applying ControlPlanes to their machine-config Secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use seedbed::crd::ControlPlane;
use serde_json::Value;
use tokio::sync::Notify;

use super::super::stage::{NAMESPACE, Stage};
use super::objects;
use super::operator::{Operator, Usage};
use super::report::{Report, mebibytes, median, millis, number, percentile, seconds};
use super::seed;

const MACHINES: usize = 3;
const LATENCY_GOAL: Duration = Duration::from_millis(250);
/// Goals for each of 100 ControlPlanes.
const CPU_GOAL: f64 = 0.05;
const REQUESTS_GOAL: f64 = 40.0;
const HUNDRED_GOAL: Duration = Duration::from_secs(10);
/// MiB for each further ControlPlane.
const SLOPE_GOAL: f64 = 0.15;
/// How much longer one of many may take than one of few, in a growth that counts as linear.
const LINEAR: f64 = 1.3;
/// Applied at the same time.
const APPLIED_AT_ONCE: usize = 8;
/// Nothing written for so long: everything that follows from publishing is done.
const QUIET: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(900);
/// How long the operator is watched afterwards.
const IDLE: Duration = Duration::from_secs(60);

/// Apply to all machine configs readable, on an idle seed, one ControlPlane after another.
pub fn latency(stage: &Stage, tries: u32, report: &mut Report) -> Result<()> {
    seed::add_silent_addresses(stage)?;
    let operator = Operator::start(stage)?;
    let times = seed::with_client(stage, |client| async move {
        let arrivals = Arrivals::watch(&client);
        let mut times = Vec::new();
        // The first two open connections and watches.
        for number in 0..tries + 2 {
            let name = format!("latency-{number}");
            let took = one(&client, &arrivals, &name).await?;
            remove(&client, &arrivals, &name).await?;
            operator.settled(Duration::from_secs(1), LIMIT).await?;
            if number >= 2 {
                times.push(took);
            }
        }
        Ok(times)
    })?;
    let half = median(&times).context("no tries")?;
    report.goal(
        format!("apply to three readable Secrets, p50 of {}", times.len()),
        format!("≤ {}", millis(LATENCY_GOAL)),
        millis(half),
        half <= LATENCY_GOAL,
    );
    let most = percentile(&times, 90).context("no tries")?;
    report.figure("the same, p90", millis(most));
    Ok(())
}

/// Applies one and waits until its Secrets can be read; answers how long that took.
async fn one(client: &Client, arrivals: &Arrivals, name: &str) -> Result<Duration> {
    let began = Instant::now();
    apply(client, &objects::without_machines(name, 0)).await?;
    arrivals.wait_complete(&[name.to_owned()]).await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    for machine in 1..=MACHINES {
        let secret = secrets.get(&format!("{name}-cp-{machine}")).await?;
        ensure!(is_whole(&secret), "{} has no user data", secret.name_any());
    }
    Ok(began.elapsed())
}

/// What publishing many ControlPlanes took.
pub struct Run {
    count: usize,
    took: Duration,
    slope_mib: f64,
}

/// Publishes `count` ControlPlanes at once.
pub fn many(stage: &Stage, count: usize, report: &mut Report) -> Result<Run> {
    seed::add_silent_addresses(stage)?;
    let operator = Operator::start(stage)?;
    let (run, rows) = seed::with_client(stage, |client| async move {
        let arrivals = Arrivals::watch(&client);
        one(&client, &arrivals, "first").await?;
        let before = operator.settled(QUIET, LIMIT).await?;

        let began = Instant::now();
        let names: Vec<String> = (1..=count).map(|number| format!("many-{number}")).collect();
        stream::iter(names.iter().enumerate())
            .map(|(index, name)| {
                let object = objects::without_machines(name, index + 1);
                let client = client.clone();
                async move { apply(&client, &object).await }
            })
            .buffer_unordered(APPLIED_AT_ONCE)
            .try_collect::<()>()
            .await?;
        let last = arrivals.wait_complete(&names).await?;
        let took = last.saturating_duration_since(began);
        check_readable(&client, &names).await?;

        let settled = operator.settled(QUIET, LIMIT).await?;
        tokio::time::sleep(IDLE).await;
        let idle = operator.usage()?;
        let run = Run {
            count,
            took,
            slope_mib: (mebibytes(idle.resident_kib) - mebibytes(before.resident_kib))
                / number(count),
        };
        Ok((run, [before, settled, idle]))
    })?;
    tell(&run, &rows, report);
    Ok(run)
}

fn tell(run: &Run, [before, settled, idle]: &[Usage; 3], report: &mut Report) {
    let (count, each) = (run.count, number(run.count));
    let title = format!("{count} ControlPlanes ({} machines)", count * MACHINES);
    if count == 100 {
        report.goal(
            format!("{title} published"),
            format!("≤ {}", seconds(HUNDRED_GOAL)),
            seconds(run.took),
            run.took <= HUNDRED_GOAL,
        );
    } else {
        report.figure(format!("{title} published"), seconds(run.took));
    }
    let cpu = (settled.cpu - before.cpu).as_secs_f64() / each;
    let requests = (settled.total() - before.total()) as f64 / each;
    report.goal(
        format!("{title}: operator CPU for each"),
        format!("≤ {CPU_GOAL} s"),
        format!("{cpu:.4} s"),
        cpu <= CPU_GOAL,
    );
    report.goal(
        format!("{title}: requests for each"),
        format!("≤ {REQUESTS_GOAL}"),
        format!("{requests:.1} ({})", by_verb(before, settled, each)),
        requests <= REQUESTS_GOAL,
    );
    report.goal(
        format!("{title}: memory for each further one"),
        format!("≤ {SLOPE_GOAL} MiB"),
        format!(
            "{:.3} MiB ({:.1} MiB with one, {:.1} MiB with all, {:.1} MiB at the peak)",
            run.slope_mib,
            mebibytes(before.resident_kib),
            mebibytes(idle.resident_kib),
            mebibytes(idle.peak_kib)
        ),
        run.slope_mib <= SLOPE_GOAL,
    );
    let wall = IDLE.as_secs_f64() * each;
    report.figure(
        format!("{title}: afterwards, while no machine answers, for each"),
        format!(
            "{:.3} mCPU, {:.3} reads a second, {} writes in all",
            (idle.cpu - settled.cpu).as_secs_f64() * 1000.0 / wall,
            idle.requests
                .get("read")
                .unwrap_or(&0)
                .abs_diff(*settled.requests.get("read").unwrap_or(&0)) as f64
                / wall,
            idle.created_and_patched() - settled.created_and_patched(),
        ),
    );
}

fn by_verb(before: &Usage, after: &Usage, each: f64) -> String {
    let verb = |(verb, count): (&String, &u64)| {
        let more = count - before.requests.get(verb).unwrap_or(&0);
        (more > 0).then(|| format!("{verb} {:.1}", more as f64 / each))
    };
    after
        .requests
        .iter()
        .filter_map(verb)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Whether time grows linearly, and memory over the widest range.
pub fn compare(runs: &[Run], report: &mut Report) {
    let (Some(few), Some(many)) = (
        runs.iter().min_by_key(|run| run.count),
        runs.iter().max_by_key(|run| run.count),
    ) else {
        return;
    };
    if few.count == many.count {
        return;
    }
    let each = |run: &Run| run.took.as_secs_f64() / number(run.count);
    let growth = each(many) / each(few);
    report.goal(
        format!(
            "time for each of {} against each of {}",
            many.count, few.count
        ),
        format!("≤ {LINEAR}"),
        format!("{growth:.2}"),
        growth <= LINEAR,
    );
}

async fn apply(client: &Client, object: &Value) -> Result<()> {
    let api: Api<ControlPlane> = Api::namespaced(client.clone(), NAMESPACE);
    let name = object["metadata"]["name"].as_str().context("no name")?;
    api.patch(name, &PatchParams::apply("bench"), &Patch::Apply(object))
        .await
        .with_context(|| format!("apply {name}"))
        .map(drop)
}

/// Deletes a ControlPlane and waits until its machine configs are collected.
async fn remove(client: &Client, arrivals: &Arrivals, name: &str) -> Result<()> {
    let api: Api<ControlPlane> = Api::namespaced(client.clone(), NAMESPACE);
    api.delete(name, &DeleteParams::background()).await?;
    arrivals.wait_gone(name).await
}

/// Reads all machine configs.
async fn check_readable(client: &Client, names: &[String]) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let mut whole = BTreeSet::new();
    let mut page = ListParams::default().labels(SELECTOR).limit(100);
    loop {
        let list = secrets.list(&page).await?;
        whole.extend(
            list.items
                .iter()
                .filter(|s| is_whole(s))
                .map(ResourceExt::name_any),
        );
        page.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
        if page.continue_token.is_none() {
            break;
        }
    }
    for name in names {
        for machine in 1..=MACHINES {
            let secret = format!("{name}-cp-{machine}");
            ensure!(whole.contains(&secret), "Secret {secret} has no user data");
        }
    }
    Ok(())
}

fn is_whole(secret: &Secret) -> bool {
    let value = secret.data.as_ref().and_then(|data| data.get("value"));
    value.is_some_and(|value| !value.0.is_empty())
}

const SELECTOR: &str = "seedbed.dev/content=machine-config";
const OWNER: &str = "seedbed.dev/control-plane";

/// The machine configs that are there, as a watch reports them.
struct Arrivals {
    shared: Arc<Shared>,
    watch: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    /// By ControlPlane: names of its machine configs, and when the last one came.
    there: Mutex<BTreeMap<String, (BTreeSet<String>, Instant)>>,
    changed: Notify,
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Arrivals {
    fn watch(client: &Client) -> Self {
        let shared = Arc::new(Shared::default());
        let secrets: Api<PartialObjectMeta<Secret>> = Api::namespaced(client.clone(), NAMESPACE);
        let config = watcher::Config::default().labels(SELECTOR);
        let noting = Arc::clone(&shared);
        let watch = tokio::spawn(async move {
            let mut events = watcher(secrets, config).default_backoff().boxed();
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Apply(secret) | Event::InitApply(secret)) => {
                        noting.note(&secret, true)
                    }
                    Ok(Event::Delete(secret)) => noting.note(&secret, false),
                    Ok(Event::Init | Event::InitDone) | Err(_) => {}
                }
                noting.changed.notify_waiters();
            }
        });
        Self { shared, watch }
    }

    /// Waits until all of these have their machine configs; answers when the last one came.
    async fn wait_complete(&self, control_planes: &[String]) -> Result<Instant> {
        self.wait(|there| {
            let last = control_planes.iter().map(|name| {
                let (configs, at) = there.get(name)?;
                (configs.len() == MACHINES).then_some(*at)
            });
            last.collect::<Option<Vec<_>>>()?.into_iter().max()
        })
        .await
    }

    /// Waits until this one has none any more.
    async fn wait_gone(&self, control_plane: &str) -> Result<()> {
        let gone = |there: &BTreeMap<String, (BTreeSet<String>, Instant)>| {
            let left = there
                .get(control_plane)
                .map_or(0, |(configs, _)| configs.len());
            (left == 0).then_some(())
        };
        self.wait(gone).await
    }

    async fn wait<T>(
        &self,
        check: impl Fn(&BTreeMap<String, (BTreeSet<String>, Instant)>) -> Option<T>,
    ) -> Result<T> {
        let waiting = async {
            loop {
                // Registered before the check, so that no change in between is lost.
                let changed = self.shared.changed.notified();
                if let Some(found) = check(&self.shared.lock()) {
                    return found;
                }
                changed.await;
            }
        };
        let found = tokio::time::timeout(LIMIT, waiting).await;
        found.with_context(|| format!("not within {LIMIT:?}"))
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, (BTreeSet<String>, Instant)>> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, secret: &impl ResourceExt, there: bool) {
        let Some(owner) = secret.labels().get(OWNER) else {
            return;
        };
        let mut all = self.lock();
        let now = Instant::now();
        let (configs, at) = all
            .entry(owner.clone())
            .or_insert_with(|| (BTreeSet::new(), now));
        if !there {
            configs.remove(&secret.name_any());
        } else if configs.insert(secret.name_any()) {
            *at = now;
        }
    }
}
