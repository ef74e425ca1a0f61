//! What looking after many settled etcd clusters costs.
//!
//! The members are a stand-in (`etcd_double`): 3,000 real ones would not fit on one machine, and what
//! is measured is the operator.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use seedbed::crd::EtcdCluster;

use super::super::progress::{self, say};
use super::super::stage::{NAMESPACE, Stage};
use super::etcd_double::{ClusterCa, Members};
use super::objects;
use super::operator::Operator;
use super::report::{Report, mebibytes, number};
use super::seed;

const GOAL: f64 = 0.3;
const LIMIT: Duration = Duration::from_secs(900);
const POLL: Duration = Duration::from_millis(500);
const APPLIED_AT_ONCE: usize = 8;

/// `count` clusters of three; watched for `watched` once they are healthy.
pub fn measure(stage: &Stage, count: usize, watched: Duration, report: &mut Report) -> Result<()> {
    every_address_is_here(stage)?;
    let operator = Operator::start(stage)?;
    seed::with_client(stage, |client| async move {
        let names: Vec<String> = (0..count).map(|number| format!("etcd-{number}")).collect();
        stream::iter(names.iter().enumerate())
            .map(|(number, name)| {
                let client = client.clone();
                async move { apply(&client, name, number).await }
            })
            .buffer_unordered(APPLIED_AT_ONCE)
            .try_collect::<()>()
            .await?;
        wait(&client, count, "MachineConfigsPublished").await?;
        let members = Arc::new(members(&client, &names).await?);
        let serving = tokio::spawn(Arc::clone(&members).serve());
        wait(&client, count, "EtcdHealthy").await?;
        // Each has been looked at twice since.
        tokio::time::sleep(Duration::from_secs(30)).await;
        say(&format!("{count} etcd clusters: watched for {watched:?}"));
        let (before, asked) = (operator.usage()?, members.asked());
        let began = Instant::now();
        tokio::time::sleep(watched).await;
        let took = began.elapsed().as_secs_f64();
        let (after, asked) = (operator.usage()?, members.asked() - asked);
        serving.abort();
        ensure!(asked > 0, "no member was asked");
        let each = 1000.0 * (after.cpu - before.cpu).as_secs_f64() / took / number(count);
        report.goal(
            format!("{count} settled etcd clusters of three: operator CPU for each"),
            format!("≤ {GOAL} mCPU"),
            format!("{each:.3} mCPU"),
            each <= GOAL,
        );
        report.figure(
            "the same: one look at each, and resident memory".to_owned(),
            format!(
                "every {:.1} s, {:.1} MiB",
                3.0 * number(count) * took / asked as f64,
                mebibytes(after.resident_kib)
            ),
        );
        Ok(())
    })
}

/// All addresses of machines that do not exist are this namespace's own: on each of their ports
/// somebody listens, or refuses at once.
fn every_address_is_here(stage: &Stage) -> Result<()> {
    let namespace = stage.seed.netns().context("the seed has no namespace")?;
    let mut ip = Command::new("ip");
    ip.args(["-n", namespace, "route", "replace", "local"]);
    ip.args([objects::SILENT, "dev", "lo"]);
    progress::output(&mut ip).map(drop)
}

async fn apply(client: &Client, name: &str, number: usize) -> Result<()> {
    let api: Api<EtcdCluster> = Api::namespaced(client.clone(), NAMESPACE);
    let object = objects::etcd_cluster(name, number);
    let how = PatchParams::apply("bench");
    api.patch(name, &how, &Patch::Apply(&object)).await?;
    Ok(())
}

/// The stand-ins of all clusters, with the CAs that the operator made for them.
async fn members(client: &Client, names: &[String]) -> Result<Members> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let mut members = Members::default();
    for (number, name) in names.iter().enumerate() {
        let secret = secrets.get(&format!("{name}-etcd")).await?;
        let text = |key: &str| {
            let data = secret.data.as_ref().and_then(|data| data.get(key));
            let bytes = data.with_context(|| format!("{name}-etcd has no {key}"))?;
            Ok::<_, anyhow::Error>(String::from_utf8(bytes.0.clone())?)
        };
        let ca = ClusterCa {
            certificate_pem: text("tls.crt")?,
            key_pem: text("tls.key")?,
        };
        let machines = objects::machines(number).map(|(machine, address)| {
            let address: Ipv4Addr = address.parse().context("an IPv4 address")?;
            Ok((machine, address))
        });
        let machines = machines.into_iter().collect::<Result<Vec<_>>>()?;
        members.add(number as u64, &machines, &ca)?;
    }
    Ok(members)
}

/// Waits until so many clusters say so.
async fn wait(client: &Client, count: usize, condition: &str) -> Result<()> {
    let api: Api<EtcdCluster> = Api::namespaced(client.clone(), NAMESPACE);
    let says = |cluster: &&EtcdCluster| {
        let status = cluster.status.iter();
        let mut said = status.flat_map(|status| &status.conditions);
        said.any(|said| said.type_ == condition && said.status == "True")
    };
    let deadline = Instant::now() + LIMIT;
    loop {
        let objects = api.list(&ListParams::default()).await?;
        let done = objects.iter().filter(says).count();
        if done == count {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{done} of {count} clusters are {condition} after {LIMIT:?}"
        );
        tokio::time::sleep(POLL).await;
    }
}
