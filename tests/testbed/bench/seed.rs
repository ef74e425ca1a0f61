//! What the seed was asked to do, by its own count, and the network that ControlPlanes without
//! machines need.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use kube::Client;

use super::super::network::SWITCH;
use super::super::stage::Stage;
use super::super::{netns, process, progress};

/// Runs async `work` with an admin's client of the seed, inside its network namespace.
pub fn with_client<T: Send, F: Future<Output = Result<T>>>(
    stage: &Stage,
    work: impl FnOnce(Client) -> F + Send,
) -> Result<T> {
    netns::inside_or_here(stage.seed.netns(), || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async { work(stage.seed.client().await?).await })
    })
}

/// Requests that the seed's API server has answered since it started, by verb and resource,
/// whoever asked; watches and Leases, which every running controller renews, apart.
pub async fn requests(client: &Client) -> Result<BTreeMap<String, u64>> {
    let text = client
        .request_text(http::Request::get("/metrics").body(Vec::new())?)
        .await
        .context("the seed's /metrics")?;
    let mut requests = BTreeMap::new();
    for line in text.lines() {
        let Some(line) = line.strip_prefix("apiserver_request_total{") else {
            continue;
        };
        let (labels, count) = line.split_once("} ").context("not a metric")?;
        let label = |name: &str| {
            let start = format!("{name}=\"");
            let value = labels
                .split(',')
                .find_map(|label| label.strip_prefix(start.as_str()));
            value.unwrap_or_default().trim_end_matches('"').to_owned()
        };
        let (verb, resource) = (label("verb"), label("resource"));
        if !["WATCH", "CONNECT"].contains(&verb.as_str()) && resource != "leases" {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a counter"
            )]
            let count = count.trim().parse::<f64>()? as u64;
            let subresource = label("subresource");
            let of = format!("{verb} {resource}/{subresource}");
            *requests
                .entry(of.trim_end_matches('/').to_owned())
                .or_insert(0) += count;
        }
    }
    Ok(requests)
}

/// Those of them that write.
pub async fn writes(client: &Client) -> Result<BTreeMap<String, u64>> {
    let mut writes = requests(client).await?;
    writes.retain(|of, _| {
        let reads = of.starts_with("GET ") || of.starts_with("LIST ");
        // Questions about rights are posted, yet change nothing.
        !reads && !of.ends_with("reviews")
    });
    Ok(writes)
}

/// CPU time of its API server, etcd and controller manager since they started, by name.
pub fn cpu(stage: &Stage) -> Result<BTreeMap<String, Duration>> {
    let parts = ["kube-apiserver", "etcd", "kube-controller-manager"];
    let running = process::recorded(&stage.state)?.into_iter();
    running
        .filter(|found| found.running && parts.contains(&found.name.as_str()))
        .map(|found| Ok((found.name, super::operator::cpu(found.pid)?)))
        .collect()
}

/// What was asked between two counts.
pub fn since(
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    let grown = |(resource, count): (&String, &u64)| {
        let more = count - before.get(resource).unwrap_or(&0);
        (more > 0).then(|| (resource.clone(), more))
    };
    after.iter().filter_map(grown).collect()
}

/// Sends everything for the addresses of machines that do not exist to the switch, which drops it
/// without a word, as a router does before a machine that is switched off. (Neighbours of the
/// seed's own that do not answer would be an error of its own kind, and overflow its table.)
pub fn add_silent_addresses(stage: &Stage) -> Result<()> {
    let namespace = stage.seed.netns().context("the seed has no namespace")?;
    let via = SWITCH.to_string();
    let mut ip = Command::new("ip");
    ip.args([
        "-n",
        namespace,
        "route",
        "replace",
        super::objects::SILENT,
        "via",
        &via,
    ]);
    progress::output(&mut ip).map(drop)
}
