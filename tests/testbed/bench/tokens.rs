//! Bootstrap tokens of many node pools: how long it takes to replace all of them, what that costs a
//! control plane that is made meanwhile, and what is written in between.
//!
//! The seed is its own target: a ControlPlane of one machine lies at its address, with its CA.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, stream};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use seedbed::crd::{ControlPlane, NodePool};
use serde_json::json;

use super::super::progress::say;
use super::super::stage::{NAMESPACE, Stage};
use super::objects;
use super::operator::Operator;
use super::report::{Report, millis, seconds};
use super::seed;

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
const POLL: Duration = Duration::from_millis(200);
/// Control planes that are made to see how long that takes.
const PROBES: usize = 5;

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
    seed::with_client(stage, |client| idle(client, count, report))?;
    drop(operator);
    let before = seed::with_client(stage, |client| async move {
        make_due(&client, count).await?;
        current(&client).await
    })?;
    let operator = Operator::start(stage)?;
    let usage = operator.usage()?;
    let (took, slowed) = seed::with_client(stage, |client| {
        let (other, before) = (client.clone(), &before);
        async move {
            let began = Instant::now();
            let replaced = async {
                named(&client, count, before).await?;
                Ok::<_, anyhow::Error>(began.elapsed())
            };
            futures::try_join!(replaced, publish(&other, "busy"))
        }
    })?;
    let after = operator.usage()?;
    report.goal(
        format!("{count} pools' tokens replaced at once, since the operator leads"),
        format!("≤ {} s", GOAL.as_secs()),
        format!(
            "{}, {:.1} s of CPU",
            seconds(took),
            (after.cpu - usage.cpu).as_secs_f64()
        ),
        took <= GOAL,
    );
    let calm = seed::with_client(stage, |client| async move {
        // The last looks after a replacement.
        tokio::time::sleep(REST).await;
        publish(&client, "calm").await
    })?;
    let delay = 100.0 * (slowed.as_secs_f64() / calm.as_secs_f64() - 1.0);
    report.goal(
        "a ControlPlane published meanwhile, against one at rest".to_owned(),
        format!("≤ {DELAY_GOAL} % longer"),
        format!("{} against {}: {delay:.0} %", millis(slowed), millis(calm)),
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
    let label = "seedbed.dev/node-pool,seedbed.dev/content=machine-config";
    let list = api
        .list_metadata(&ListParams::default().labels(label))
        .await?;
    let named = list.items.into_iter().filter_map(|secret| {
        let id = secret.annotations().get("seedbed.dev/token-id").cloned();
        Some((secret.name_any(), id?))
    });
    Ok(named.collect())
}

/// Waits until every pool names another token than before.
async fn named(client: &Client, count: usize, before: &BTreeMap<String, String>) -> Result<()> {
    let began = Instant::now();
    loop {
        let now = current(client).await?;
        let new = now
            .iter()
            .filter(|(name, id)| before.get(*name) != Some(id));
        let new = new.count();
        if new == count {
            return Ok(());
        }
        ensure!(
            began.elapsed() < LIMIT,
            "only {new} of {count} after {LIMIT:?}"
        );
        tokio::time::sleep(POLL).await;
    }
}

/// How long ControlPlanes take to be published, one after another: the mean.
async fn publish(client: &Client, name: &str) -> Result<Duration> {
    let api: Api<ControlPlane> = Api::namespaced(client.clone(), NAMESPACE);
    let began = Instant::now();
    for number in 0..PROBES {
        let name = format!("{name}-{number}");
        let object = objects::without_machines(&name, number);
        api.patch(&name, &PatchParams::apply("bench"), &Patch::Apply(&object))
            .await?;
        loop {
            let status = api.get(&name).await?.status.unwrap_or_default();
            let published = status.conditions.iter().any(|condition| {
                condition.type_ == "MachineConfigsPublished" && condition.status == "True"
            });
            if published {
                break;
            }
            ensure!(began.elapsed() < LIMIT, "{name} is not published");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(began.elapsed() / u32::try_from(PROBES)?)
}

/// Between two replacements nothing is written.
async fn idle(client: Client, count: usize, report: &mut Report) -> Result<()> {
    // The last looks after the first tokens were made.
    tokio::time::sleep(REST).await;
    let before = seed::writes(&client).await?;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let writes = seed::since(&before, &seed::writes(&client).await?);
    let written: u64 = writes.values().sum();
    report.goal(
        format!("{count} pools between two replacements, 30 s: writes to seed and target"),
        "0",
        format!("{written} {writes:?}"),
        written == 0,
    );
    Ok(())
}
