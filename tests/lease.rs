//! Leader election against a real kube-apiserver: never two leaders, whatever happens to them.

#[path = "testbed/mod.rs"]
mod testbed;

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use seedbed::kube_ext::delete::{Deleted, delete};
use seedbed::runtime::client::{RequestError, fenced, unfenced};
use seedbed::runtime::clock::Clock;
use seedbed::runtime::lease::{Elector, Leadership, LeaseError, Timings};
use seedbed::runtime::metrics::Metrics;
use testbed::{Seed, StateDir, seed};
use tokio_util::sync::CancellationToken;

/// Longest wait for anything: mostly for machines that are busy otherwise.
const LIMIT: Duration = Duration::from_secs(120);
const NAMESPACE: &str = "default";

fn timings(lease_duration: u64) -> Timings {
    Timings {
        lease_duration: Duration::from_secs(lease_duration),
        renew_deadline: Duration::from_secs(lease_duration * 2 / 3),
        retry_period: Duration::from_millis(300),
    }
    .validated()
    .unwrap()
}

/// One write of a leader: did the client let it through?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Write {
    Done,
    Refused,
    Failed,
}

/// How a candidacy ended.
type Ending = Result<Option<()>, LeaseError>;

/// A candidate on a thread and an executor of its own, which can be frozen and killed like a
/// process. While it leads it writes all the time.
struct Contender {
    name: &'static str,
    leadership: Leadership,
    writes: Arc<Mutex<Vec<Write>>>,
    freeze: Sender<Receiver<()>>,
    shutdown: CancellationToken,
    kill: CancellationToken,
    thread: Option<std::thread::JoinHandle<Option<Ending>>>,
}

impl Contender {
    fn start(
        config: &kube::Config,
        lease: &'static str,
        name: &'static str,
        timings: Timings,
    ) -> Self {
        let leadership = Leadership::none(Clock::system());
        let (freeze, frozen) = mpsc::channel::<Receiver<()>>();
        let writes = Arc::<Mutex<Vec<Write>>>::default();
        let (shutdown, kill) = (CancellationToken::new(), CancellationToken::new());
        let (config, killed) = (config.clone(), kill.clone());
        let (held, noted, stop) = (leadership.clone(), Arc::clone(&writes), shutdown.clone());
        let thread = std::thread::spawn(move || {
            let executor = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            executor.block_on(async {
                tokio::select! {
                    ended = run(config, lease, name, timings, held, frozen, noted, stop) => {
                        Some(ended)
                    }
                    () = killed.cancelled() => None,
                }
            })
        });
        Self {
            name,
            leadership,
            writes,
            freeze,
            shutdown,
            kill,
            thread: Some(thread),
        }
    }

    /// Stops its thread in the middle of its work, until the returned sender is dropped.
    fn freeze(&self) -> Sender<()> {
        let (thaw, thawed) = mpsc::channel();
        self.freeze.send(thawed).unwrap();
        thaw
    }

    /// Waits for the end; `None` when it was killed.
    fn end(&mut self) -> Option<Result<Option<()>, LeaseError>> {
        self.thread.take().unwrap().join().unwrap()
    }

    fn writes(&self, what: Write) -> usize {
        let writes = self.writes.lock().unwrap();
        writes.iter().filter(|write| **write == what).count()
    }
}

#[expect(clippy::too_many_arguments, reason = "what one process is made of")]
async fn run(
    config: kube::Config,
    lease: &str,
    name: &str,
    timings: Timings,
    leadership: Leadership,
    frozen: Receiver<Receiver<()>>,
    writes: Arc<Mutex<Vec<Write>>>,
    shutdown: CancellationToken,
) -> Result<Option<()>, LeaseError> {
    let metrics = Metrics::default();
    let plain = unfenced(config.clone(), &metrics).unwrap();
    let client = fenced(config, &metrics, leadership.clone()).unwrap();
    let elector = Elector::new(plain, NAMESPACE, lease, name, timings, leadership);
    let work = async || {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
        while !shutdown.is_cancelled() {
            if let Ok(thawed) = frozen.try_recv() {
                // Blocks the only thread of this executor, as SIGSTOP would.
                let _ = thawed.recv();
            }
            let patch = serde_json::json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": lease}, "data": {"writer": name},
            });
            let params = PatchParams::apply("lease-test").force();
            let write = match api.patch(lease, &params, &Patch::Apply(&patch)).await {
                Ok(_) => Write::Done,
                Err(error) if is_refusal(&error) => Write::Refused,
                Err(error) => {
                    eprintln!("{name}: {error}");
                    Write::Failed
                }
            };
            writes.lock().unwrap().push(write);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    elector.lead(&shutdown, work).await
}

fn is_refusal(error: &kube::Error) -> bool {
    let kube::Error::Service(source) = error else {
        return false;
    };
    matches!(
        source.downcast_ref::<RequestError>(),
        Some(RequestError::NotLeading)
    )
}

/// Watches all the time that no two of them lead.
struct Referee {
    stop: CancellationToken,
    thread: std::thread::JoinHandle<Option<(&'static str, &'static str)>>,
}

impl Referee {
    fn watch(contenders: &[&Contender]) -> Self {
        let all: Vec<_> = contenders
            .iter()
            .map(|contender| (contender.name, contender.leadership.clone()))
            .collect();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.is_cancelled() {
                for (n, (one, first)) in all.iter().enumerate() {
                    for (other, second) in &all[n + 1..] {
                        // Asked again last: otherwise a hand-over in between looks like two.
                        if first.is_held() && second.is_held() && first.is_held() {
                            return Some((*one, *other));
                        }
                    }
                }
                std::thread::sleep(Duration::from_micros(500));
            }
            None
        });
        Self { stop, thread }
    }

    fn verdict(self) -> Result<()> {
        self.stop.cancel();
        let both = self.thread.join().unwrap();
        ensure!(both.is_none(), "two leaders at once: {both:?}");
        Ok(())
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<Duration> {
    let start = Instant::now();
    while !is_so() {
        ensure!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(start.elapsed())
}

async fn lease(client: &Client, name: &str) -> Result<Lease> {
    Ok(Api::namespaced(client.clone(), NAMESPACE).get(name).await?)
}

/// A killed leader's lease is taken over, by one of two, once it has expired.
async fn killed(config: &kube::Config, client: &Client) -> Result<()> {
    let mut first = Contender::start(config, "killed", "first", timings(6));
    until("first leads", || first.writes(Write::Done) > 0).await?;
    let second = Contender::start(config, "killed", "second", timings(6));
    let third = Contender::start(config, "killed", "third", timings(6));
    let referee = Referee::watch(&[&first, &second, &third]);
    let before = first.writes(Write::Done);
    until("first goes on writing", || {
        first.writes(Write::Done) > before + 20
    })
    .await?;
    ensure!(second.writes(Write::Done) + third.writes(Write::Done) == 0);

    first.kill.cancel();
    ensure!(first.end().is_none());
    until("another leads", || {
        second.writes(Write::Done) + third.writes(Write::Done) > 0
    })
    .await?;
    let spec = lease(client, "killed").await?.spec.unwrap_or_default();
    ensure!(spec.lease_transitions == Some(1), "{spec:?}");
    for mut contender in [second, third] {
        contender.shutdown.cancel();
        contender.end().context("killed")??;
    }
    referee.verdict()
}

/// A leader that was frozen past its term wakes up refused.
async fn frozen(config: &kube::Config) -> Result<()> {
    let mut first = Contender::start(config, "frozen", "first", timings(6));
    until("first leads", || first.writes(Write::Done) > 0).await?;
    let mut second = Contender::start(config, "frozen", "second", timings(6));
    let referee = Referee::watch(&[&first, &second]);
    let thaw = first.freeze();
    until("second leads", || second.writes(Write::Done) > 0).await?;
    let written = first.writes(Write::Done);
    drop(thaw);
    let ended = first.end().context("killed")?;
    ensure!(matches!(ended, Err(LeaseError::Lost { .. })), "{ended:?}");
    ensure!(
        first.writes(Write::Done) == written,
        "it wrote after its term"
    );
    let before = second.writes(Write::Done);
    until("second goes on", || second.writes(Write::Done) > before).await?;
    second.shutdown.cancel();
    second.end().context("killed")??;
    referee.verdict()
}

/// A released lease is taken long before it would expire, and the holder's name is gone.
async fn released(config: &kube::Config, client: &Client) -> Result<()> {
    let mut first = Contender::start(config, "released", "first", timings(600));
    until("first leads", || first.writes(Write::Done) > 0).await?;
    let mut second = Contender::start(config, "released", "second", timings(600));
    let referee = Referee::watch(&[&first, &second]);
    first.shutdown.cancel();
    ensure!(first.end().context("killed")??.is_some());
    // LIMIT is far below the 600 s that an unreleased lease would take.
    until("second leads", || second.writes(Write::Done) > 0).await?;
    second.shutdown.cancel();
    second.end().context("killed")??;
    let spec = lease(client, "released").await?.spec.unwrap_or_default();
    ensure!(spec.holder_identity.as_deref() == Some(""), "{spec:?}");
    referee.verdict()
}

/// Somebody who takes the lease by force ends the term of its holder.
async fn taken_by_force(config: &kube::Config, client: &Client) -> Result<()> {
    let mut first = Contender::start(config, "forced", "first", timings(60));
    until("first leads", || first.writes(Write::Done) > 0).await?;
    let api: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let patch = serde_json::json!({"spec": {"holderIdentity": "somebody"}});
    api.patch("forced", &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    let ended = first.end().context("killed")?.expect_err("lost");
    ensure!(
        ended.to_string().contains("another replica holds it"),
        "{ended}"
    );
    Ok(())
}

/// Deleting an object goes by UID: one of the same name made since stays.
async fn deletion_goes_by_uid(client: &Client) -> Result<()> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let named = |name: &str| {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(name.to_owned());
        object
    };
    let old = api.create(&Default::default(), &named("by-uid")).await?;
    ensure!(delete(&api, &old, LIMIT).await? == Deleted::Requested);
    ensure!(delete(&api, &old, LIMIT).await? == Deleted::AlreadyGone);
    let new = api.create(&Default::default(), &named("by-uid")).await?;
    ensure!(delete(&api, &old, LIMIT).await? == Deleted::Replaced);
    ensure!(api.get("by-uid").await?.metadata.uid == new.metadata.uid);
    Ok(())
}

/// Without an API server a leader stops by itself, and somebody leads again afterwards.
async fn cut_off(seed: &Seed, config: &kube::Config) -> Result<()> {
    let mut first = Contender::start(config, "cut-off", "first", timings(6));
    until("first leads", || first.writes(Write::Done) > 0).await?;
    let mut second = Contender::start(config, "cut-off", "second", timings(6));
    let referee = Referee::watch(&[&first, &second]);
    seed.stop_api_server().await?;
    let ended = first.end().context("killed")?.expect_err("lost");
    ensure!(
        ended.to_string().contains("no renewal succeeded in time"),
        "{ended}"
    );
    seed.start_api_server().await?;
    until("second leads", || second.writes(Write::Done) > 0).await?;
    second.shutdown.cancel();
    second.end().context("killed")??;
    referee.verdict()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_two_leaders_on_a_real_api_server() -> Result<()> {
    let state = StateDir::for_test("lease")?;
    let options = seed::Options {
        controller_manager: false,
        ..seed::Options::default()
    };
    let seed = Seed::start(&state, options).await?;
    let kubeconfig = Kubeconfig::read_from(seed.admin_kubeconfig())?;
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client = seed.client().await?;
    let outcome = async {
        tokio::try_join!(
            killed(&config, &client),
            frozen(&config),
            released(&config, &client),
            taken_by_force(&config, &client),
            deletion_goes_by_uid(&client),
        )?;
        cut_off(&seed, &config).await
    };
    outcome.await.with_context(|| seed.log_tails())
}
