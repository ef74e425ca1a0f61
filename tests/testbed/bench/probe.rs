//! How long ControlPlanes take to be published, one a second, while something else goes on or
//! nothing does.

use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use seedbed::crd::ControlPlane;
use tokio::sync::oneshot;

use super::super::stage::NAMESPACE;
use super::objects;

/// From one to the next: probing shall not be what keeps the operator busy.
const PAUSE: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(120);

/// So many, and one before that opens connections.
pub async fn some(client: &Client, name: &str, count: usize) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    for number in 0..=count {
        times.push(one(client, name, number).await?);
    }
    times.remove(0);
    Ok(times)
}

/// One after another until `ended` is closed, at least one.
pub async fn until(
    client: &Client,
    name: &str,
    ended: oneshot::Receiver<()>,
) -> Result<Vec<Duration>> {
    let mut ended = pin!(ended);
    let mut times = Vec::new();
    while times.is_empty() || ended.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
        times.push(one(client, name, times.len()).await?);
    }
    Ok(times)
}

/// From applying one to its publication; it is deleted then, so that none is looked at later.
async fn one(client: &Client, name: &str, number: usize) -> Result<Duration> {
    let api: Api<ControlPlane> = Api::namespaced(client.clone(), NAMESPACE);
    let object = objects::without_machines(&format!("{name}-{number}"), number);
    let name = format!("{name}-{number}");
    let began = Instant::now();
    api.patch(&name, &PatchParams::apply("bench"), &Patch::Apply(&object))
        .await?;
    let published = await_condition(api.clone(), &name, is_published);
    let published = tokio::time::timeout(LIMIT, published).await;
    published.with_context(|| format!("{name} is not published after {LIMIT:?}"))??;
    let took = began.elapsed();
    api.delete(&name, &DeleteParams::background()).await?;
    tokio::time::sleep(PAUSE.saturating_sub(began.elapsed())).await;
    Ok(took)
}

fn is_published(object: Option<&ControlPlane>) -> bool {
    let status = object.and_then(|object| object.status.as_ref());
    let mut conditions = status.iter().flat_map(|status| &status.conditions);
    conditions.any(|found| found.type_ == "MachineConfigsPublished" && found.status == "True")
}
