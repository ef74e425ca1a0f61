//! `seedbed operator`: everything put together, from the start-up check to a graceful stop.

use std::sync::Arc;

use kube::Config;
use tokio::task::JoinSet;

use crate::controllers::{self, context::Context};
use crate::kube_ext::events::Events;
use crate::runtime::clock::Clock;
use crate::runtime::health::{self, HealthError, Readiness};
use crate::runtime::lease::{Elector, Leadership, LeaseError, TimingsError};
use crate::runtime::metrics::Metrics;
use crate::runtime::settings::Settings;
use crate::runtime::telemetry::{self, TelemetryError};
use crate::runtime::{client, preflight, shutdown};

/// Why the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    #[error(transparent)]
    Timings(#[from] TimingsError),
    #[error("cannot tell how to reach the seed's API server: {0}")]
    Config(#[from] kube::config::InferConfigError),
    #[error("cannot set up a client for the seed's API server: {0}")]
    Client(#[from] kube::Error),
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] std::io::Error),
    #[error(transparent)]
    Health(#[from] HealthError),
    #[error(transparent)]
    Lease(#[from] LeaseError),
}

/// Runs until a signal comes or leadership is lost; the latter is an error.
pub async fn run(settings: Settings) -> Result<(), OperatorError> {
    telemetry::init(settings.log_format, &settings.log_filter)?;
    let timings = settings.lease_timings()?;
    let shutdown = shutdown::on_signal().map_err(OperatorError::Signals)?;
    let (clock, metrics, readiness) = (Clock::system(), Metrics::default(), Readiness::default());
    let met = readiness.gate("start-up check");
    let listener = health::bind(settings.health_address).await?;
    let serving = tokio::spawn(health::serve(
        listener,
        readiness,
        metrics.clone(),
        shutdown.clone(),
    ));

    let config = Config::infer().await?;
    let leadership = Leadership::none(clock.clone());
    let reading = client::unfenced(config.clone(), &metrics)?;
    let writing = client::fenced(config, &metrics, leadership.clone())?;
    if preflight::wait_until_met(&reading, &settings, &met, &shutdown).await {
        let identity = settings.identity();
        let events = Events::new(writing.clone(), "seedbed", &identity, metrics.clone());
        let context = Arc::new(Context::new(writing, clock, events, metrics.clone()));
        let elector = Elector::new(
            reading,
            &settings.namespace,
            &settings.lease_name,
            &identity,
            timings,
            leadership,
        );
        let namespaces = settings.watched();
        let mut running = JoinSet::new();
        let led = elector
            .lead(&shutdown, || {
                metrics.leading(true);
                controllers::run(
                    &mut running,
                    context,
                    &namespaces,
                    settings.concurrency,
                    shutdown.clone(),
                )
            })
            .await;
        metrics.leading(false);
        shutdown.cancel();
        running.shutdown().await;
        led?;
    }
    if let Ok(served) = serving.await {
        served?;
    }
    Ok(())
}
