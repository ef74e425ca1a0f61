//! Bootstrap tokens of many node pools: how long it takes to replace all of them, what that costs a
//! control plane that is made meanwhile, and what is written in between.
//!
//! The seed is its own target: a ControlPlane of one machine lies at its address, with its CA.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, stream};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use seedbed::crd::{ControlPlane, NodePool};
use serde_json::json;
use tokio::sync::oneshot;

use super::super::progress::say;
use super::super::stage::{NAMESPACE, Stage};
use super::operator::{Operator, Usage};
use super::report::{Report, median, millis, seconds};
use super::{probe, seed};

const CLUSTER: &str = "tokens";
/// Lifetime of the tokens at first: none is due while it is measured.
const TTL: &str = "1h";
/// With this one all are due, because less than half of it is left, and none expires meanwhile.
const LONGER: &str = "3h";
const GOAL: Duration = Duration::from_secs(30);
/// How much longer a control plane may take to be published meanwhile.
const DELAY_GOAL: f64 = 20.0;
const LIMIT: Duration = Duration::from_secs(600);
/// After this time the operator is at rest again.
const REST: Duration = Duration::from_secs(20);
/// How long the operator is watched between two replacements.
const IDLE: Duration = Duration::from_secs(30);
/// Control planes that are made at rest to see how long that takes.
const PROBES: usize = 25;
/// The machine configs of pools, and the annotation with the token that each names.
const CONFIGS: &str = "seedbed.dev/node-pool,seedbed.dev/content=machine-config";
const TOKEN_ID: &str = "seedbed.dev/token-id";

/// `count` open pools of one control plane.
pub fn measure(stage: &Stage, count: usize, report: &mut Report) -> Result<()> {
    seed::add_silent_addresses(stage)?;
    let (certificate, key) = stage.seed.ca()?;
    let operator = Operator::start(stage)?;
    let (server, port) = seed::with_client(stage, |client| async move {
        let config = stage.seed.client_config().await?;
        let host = config.cluster_url.host().context("a host")?.to_owned();
        let port = config.cluster_url.port_u16().context("a port")?;
        make_cluster(&client, &host, port, certificate, key).await?;
        make_pools(&client, count).await?;
        named(&client, count, &BTreeMap::new()).await?;
        Ok((host, port))
    })?;
    say(&format!(
        "{count} pools have their tokens, by {server}:{port}"
    ));
    let calm = seed::with_client(stage, async |client| {
        idle(&client, count, &operator, report).await?;
        probe::some(&client, "calm", PROBES).await
    })?;
    drop(operator);
    let before = seed::with_client(stage, |client| async move {
        make_due(&client, count).await?;
        current(&client).await
    })?;
    let asked = seed::with_client(stage, async |client| seed::requests(&client).await)?;
    let busy = seed::cpu(stage)?;
    let operator = Operator::start(stage)?;
    let (took, slowed) = seed::with_client(stage, |client| {
        let (other, before) = (client.clone(), &before);
        async move {
            let began = Instant::now();
            let (sender, ended) = oneshot::channel::<()>();
            let replaced = async {
                named(&client, count, before).await?;
                drop(sender);
                Ok::<_, anyhow::Error>(began.elapsed())
            };
            futures::try_join!(replaced, probe::until(&other, "busy", ended))
        }
    })?;
    let used = operator.usage()?.cpu;
    report.goal(
        format!("{count} pools' tokens replaced at once, since the operator leads"),
        format!("≤ {} s", GOAL.as_secs()),
        format!("{}, {:.1} s of CPU", seconds(took), used.as_secs_f64()),
        took <= GOAL,
    );
    what_it_cost(stage, count, (&asked, &busy), report)?;
    compare(&calm, &slowed, report)
}

/// What the API server was asked, probes and controller manager included, and what the CPU went
/// into beside the operator.
fn what_it_cost(
    stage: &Stage,
    count: usize,
    (asked, busy): (&BTreeMap<String, u64>, &BTreeMap<String, Duration>),
    report: &mut Report,
) -> Result<()> {
    let now = seed::with_client(stage, async |client| seed::requests(&client).await)?;
    let asked = seed::since(asked, &now);
    let pools = u64::try_from(count)?.max(1);
    // Whatever was asked for less than every tenth pool is not about replacing.
    let often = asked.iter().filter(|(_, times)| **times * 10 >= pools);
    let each =
        often.map(|(of, times)| format!("{of} {}.{}", times / pools, times * 10 / pools % 10));
    let each: Vec<String> = each.collect();
    report.figure("meanwhile for each pool, whoever asked", each.join(", "));
    let used = seed::cpu(stage)?.into_iter().map(|(name, used)| {
        let before = busy.get(&name).copied().unwrap_or_default();
        format!("{name} {}", seconds(used.saturating_sub(before)))
    });
    let used: Vec<String> = used.collect();
    report.figure("CPU meanwhile", used.join(", "));
    Ok(())
}

fn compare(calm: &[Duration], slowed: &[Duration], report: &mut Report) -> Result<()> {
    let middle = |times| median(times).context("no probe");
    let (rest, busy) = (middle(calm)?, middle(slowed)?);
    let delay = 100.0 * (busy.as_secs_f64() / rest.as_secs_f64() - 1.0);
    let told = |middle: Duration, times: &[Duration]| {
        let worst = times.iter().max().copied().unwrap_or_default();
        format!(
            "{} (worst {} of {})",
            millis(middle),
            millis(worst),
            times.len()
        )
    };
    report.goal(
        "a ControlPlane published meanwhile, against one at rest, medians".to_owned(),
        format!("≤ {DELAY_GOAL} % longer"),
        format!(
            "{} against {}: {delay:.0} %",
            told(busy, slowed),
            told(rest, calm)
        ),
        delay <= DELAY_GOAL,
    );
    Ok(())
}

async fn make_cluster(
    client: &Client,
    host: &str,
    port: u16,
    certificate: String,
    key: String,
) -> Result<()> {
    let pair = [("tls.crt", certificate), ("tls.key", key)];
    let pair = pair.map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())));
    let mut secret = Secret {
        type_: Some("cluster.x-k8s.io/secret".to_owned()),
        data: Some(pair.into()),
        ..Secret::default()
    };
    secret.metadata.name = Some(format!("{CLUSTER}-ca"));
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    secrets.create(&PostParams::default(), &secret).await?;
    let object: ControlPlane = serde_json::from_value(json!({
        "apiVersion": "seedbed.dev/v1alpha1",
        "kind": "ControlPlane",
        "metadata": {"name": CLUSTER},
        "spec": {
            "version": "v1.37.1",
            "replicas": 1,
            "machines": [{"name": "cp-1", "address": host, "bindPort": port}],
            "kubeProxy": {"disabled": true},
            "coreDNS": {"disabled": true},
        },
    }))?;
    let api: Api<ControlPlane> = Api::namespaced(client.clone(), NAMESPACE);
    api.create(&PostParams::default(), &object).await?;
    Ok(())
}

async fn make_pools(client: &Client, count: usize) -> Result<()> {
    let api: Api<NodePool> = Api::namespaced(client.clone(), NAMESPACE);
    let made = stream::iter(0..count).map(|number| {
        let api = api.clone();
        async move {
            let pool: NodePool = serde_json::from_value(json!({
                "apiVersion": "seedbed.dev/v1alpha1",
                "kind": "NodePool",
                "metadata": {"name": format!("p-{number}")},
                "spec": {
                    "controlPlaneRef": {"name": CLUSTER},
                    "maxNodes": 1,
                    "token": {"ttl": TTL},
                },
            }))?;
            api.create(&PostParams::default(), &pool).await?;
            Ok::<_, anyhow::Error>(())
        }
    });
    let made: Vec<_> = made.buffer_unordered(16).collect().await;
    made.into_iter().collect()
}

/// Every token is to be replaced as soon as an operator is there.
async fn make_due(client: &Client, count: usize) -> Result<()> {
    let api: Api<NodePool> = Api::namespaced(client.clone(), NAMESPACE);
    let longer = Patch::Merge(json!({"spec": {"token": {"ttl": LONGER}}}));
    let patched = stream::iter(0..count).map(|number| {
        let (api, longer) = (api.clone(), longer.clone());
        async move {
            let name = format!("p-{number}");
            api.patch(&name, &PatchParams::default(), &longer).await?;
            Ok::<_, anyhow::Error>(())
        }
    });
    let patched: Vec<_> = patched.buffer_unordered(16).collect().await;
    patched.into_iter().collect()
}

/// The id of the token that each pool's user data names.
async fn current(client: &Client) -> Result<BTreeMap<String, String>> {
    let api: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let list = api
        .list_metadata(&ListParams::default().labels(CONFIGS))
        .await?;
    let named = list.items.into_iter().filter_map(|secret| {
        let id = secret.annotations().get(TOKEN_ID).cloned();
        Some((secret.name_any(), id?))
    });
    Ok(named.collect())
}

/// Waits until every pool names another token than before. By a watch: lists of all would take
/// the CPU from what is measured.
async fn named(client: &Client, count: usize, before: &BTreeMap<String, String>) -> Result<()> {
    let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(client.clone(), NAMESPACE);
    let config = watcher::Config::default().labels(CONFIGS);
    let mut events = watcher(api, config).default_backoff().boxed();
    let mut new = BTreeSet::new();
    let all = async {
        while new.len() < count {
            let event = events.next().await.context("the watch has ended")?;
            let (Ok(Event::Apply(secret)) | Ok(Event::InitApply(secret))) = event else {
                continue;
            };
            let name = secret.name_any();
            let id = secret.annotations().get(TOKEN_ID);
            if id.is_some() && before.get(&name) != id {
                new.insert(name);
            }
        }
        anyhow::Ok(())
    };
    let ended = tokio::time::timeout(LIMIT, all).await;
    ended.with_context(|| format!("only {} of {count} after {LIMIT:?}", new.len()))?
}

/// Between two replacements nothing is written.
async fn idle(
    client: &Client,
    count: usize,
    operator: &Operator,
    report: &mut Report,
) -> Result<()> {
    // The last looks after the first tokens were made.
    tokio::time::sleep(REST).await;
    let (before, usage) = (seed::writes(client).await?, operator.usage()?);
    tokio::time::sleep(IDLE).await;
    let (after, used) = (seed::writes(client).await?, operator.usage()?);
    let writes = seed::since(&before, &after);
    let written: u64 = writes.values().sum();
    report.goal(
        format!("{count} pools between two replacements, 30 s: writes to seed and target"),
        "0",
        format!("{written} {writes:?}"),
        written == 0,
    );
    let reads = |usage: &Usage| usage.requests.get("read").copied().unwrap_or(0);
    report.figure(
        "the operator meanwhile",
        format!(
            "{:.0} mCPU, {} reads of the seed a second",
            1000.0 * (used.cpu - usage.cpu).as_secs_f64() / IDLE.as_secs_f64(),
            (reads(&used) - reads(&usage)) / IDLE.as_secs(),
        ),
    );
    Ok(())
}
