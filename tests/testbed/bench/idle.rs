//! What the operator costs when there is nothing to do.

use std::time::Duration;

use anyhow::Result;
use kube::Client;
use kube::api::{Patch, PatchParams};
use seedbed::crd::ControlPlane;

use super::super::progress::say;
use super::super::stage::{NAMESPACE, Stage};
use super::objects;
use super::operator::Operator;
use super::report::{Report, mebibytes};
use super::seed;

const MEMORY_GOAL: f64 = 40.0;
/// Nothing written for so long: it has settled.
const QUIET: Duration = Duration::from_secs(15);
const LIMIT: Duration = Duration::from_secs(600);

/// One ControlPlane whose machines do not answer.
pub fn measure(stage: &Stage, watched: Duration, report: &mut Report) -> Result<()> {
    seed::add_silent_addresses(stage)?;
    let operator = Operator::start(stage)?;
    seed::with_client(stage, |client| async move {
        let api = kube::Api::<ControlPlane>::namespaced(client.clone(), NAMESPACE);
        let object = objects::without_machines("idle", 0);
        api.patch("idle", &PatchParams::apply("bench"), &Patch::Apply(&object))
            .await?;
        watch(
            &client,
            &operator,
            "one control plane, no machine answers",
            watched,
            report,
        )
        .await
    })
}

/// Watches a settled operator for a while.
pub async fn watch(
    client: &Client,
    operator: &Operator,
    what: &str,
    watched: Duration,
    report: &mut Report,
) -> Result<()> {
    let before = operator.settled(QUIET, LIMIT).await?;
    let writes = seed::writes(client).await?;
    say(&format!("{what}: watched for {watched:?}"));
    tokio::time::sleep(watched).await;
    let after = operator.usage()?;
    let writes = seed::since(&writes, &seed::writes(client).await?);
    let written: u64 = writes.values().sum();
    let period = format!("{} s idle, {what}", watched.as_secs());
    report.goal(
        format!("{period}: writes to the seed, Leases apart"),
        "0",
        if written == 0 {
            "0".to_owned()
        } else {
            format!("{written} {writes:?}")
        },
        written == 0,
    );
    let resident = mebibytes(after.resident_kib);
    report.goal(
        format!("{period}: resident memory"),
        format!("≤ {MEMORY_GOAL} MiB"),
        format!(
            "{resident:.1} MiB ({:.1} MiB at the peak)",
            mebibytes(after.peak_kib)
        ),
        resident <= MEMORY_GOAL,
    );
    let cpu = (after.cpu - before.cpu).as_secs_f64() / watched.as_secs_f64();
    let reads = |usage: &super::operator::Usage| usage.requests.get("read").copied().unwrap_or(0);
    report.figure(
        format!("{period}: CPU and reads, Leases included"),
        format!(
            "{:.2} mCPU, {:.2} reads a second",
            cpu * 1000.0,
            (reads(&after) - reads(&before)) as f64 / watched.as_secs_f64()
        ),
    );
    Ok(())
}
