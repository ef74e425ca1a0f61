//! Constant writes through the API server and the load balancer, and the longest time without one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

use crate::cluster::Cluster;
use crate::testbed::netns;

/// Between two writes.
const PACE: Duration = Duration::from_millis(20);
/// A write that takes longer is tried again on a new connection, as any client would.
const PATIENCE: Duration = Duration::from_millis(500);

/// A writer at work.
pub struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Report>>,
}

/// What the writer has seen.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    pub writes: u32,
    pub failures: u32,
    pub longest_gap: Duration,
    /// The last value that was acknowledged.
    pub last: u32,
}

impl Writer {
    /// Begins to write a ConfigMap of the target, one write after the other.
    pub fn begin(cluster: &Cluster<'_>) -> Result<Self> {
        let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig()?)?;
        let namespace = cluster.site.stage.seed.netns().map(str::to_owned);
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            netns::inside_or_here(namespace.as_deref(), || {
                let executor = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                executor.block_on(write(kubeconfig, &until))
            })
        });
        Ok(Self { stop, thread })
    }

    /// Ends, and tells.
    pub fn end(self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the writer panicked"))?
    }
}

async fn write(kubeconfig: Kubeconfig, stop: &AtomicBool) -> Result<Report> {
    let mut report = Report {
        writes: 0,
        failures: 0,
        longest_gap: Duration::ZERO,
        last: 0,
    };
    let mut api = None;
    let mut last_success = Instant::now();
    let mut value = 0;
    while !stop.load(Ordering::Relaxed) {
        let open: &Api<ConfigMap> = match &api {
            Some(open) => open,
            None => api.insert(connect(&kubeconfig).await?),
        };
        value += 1;
        let object = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "writes"},
            "data": {"value": value.to_string()},
        });
        let params = PatchParams::apply("e2e").force();
        let patch = Patch::Apply(&object);
        let written = tokio::time::timeout(PATIENCE, open.patch("writes", &params, &patch)).await;
        if matches!(written, Ok(Ok(_))) {
            report.writes += 1;
            report.last = value;
            report.longest_gap = report.longest_gap.max(last_success.elapsed());
            last_success = Instant::now();
        } else {
            report.failures += 1;
            api = None;
        }
        tokio::time::sleep(PACE).await;
    }
    report.longest_gap = report.longest_gap.max(last_success.elapsed());
    Ok(report)
}

async fn connect(kubeconfig: &Kubeconfig) -> Result<Api<ConfigMap>> {
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(kubeconfig.clone(), &options).await?;
    config.default_retry = false;
    let client = Client::try_from(config).context("a client of the target")?;
    Ok(Api::namespaced(client, "default"))
}
