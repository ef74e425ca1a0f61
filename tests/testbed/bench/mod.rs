//! Benchmarks: `cargo run --release --example testbed -- bench`, or `make bench`.
//!
//! Answers how fast, how frugal and how small Seedbed is, against the goals of docs/benchmarks.md,
//! with the real program, a real seed and real machines, all in network namespaces of the run. It
//! measures from outside only: `/proc`, the operator's `/metrics`, the seed's `/metrics`.
//!
//! `bring_up` compares with the real kubeadm, `publish` measures latency and scale, `idle` what a
//! settled operator costs, `tokens` node pools (`probe`: control planes meanwhile), `footprint` the
//! binary and the PKI, `planner` a decision about etcd's members, `etcd_scale` many etcd clusters.
//! `operator` and `seed` read the figures of the two sides, `target` asks a control plane whether it
//! is complete, `report` prints.
//! A new benchmark is a [`Benchmark`] and a file.

mod bring_up;
mod etcd_double;
mod etcd_scale;
mod footprint;
mod idle;
mod objects;
mod operator;
mod planner;
mod probe;
mod publish;
mod report;
mod seed;
mod target;
mod tokens;

use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};

use self::report::Report;
use super::progress::say;
use super::stage::Stage;
use super::state::StateDir;
use super::up;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Benchmark {
    /// From booted and from cold machines to a live control plane, against the real kubeadm.
    BringUp,
    /// From applying one ControlPlane to its machine configs.
    Latency,
    /// Many ControlPlanes at once, each count on a fresh seed: time, requests, CPU and memory.
    Scale,
    /// What a settled operator costs: writes, memory and CPU.
    Idle,
    /// What many settled etcd clusters cost.
    EtcdScale,
    /// Tokens of many node pools replaced at once, and what is written in between.
    Tokens,
    /// One decision about the members of etcd.
    Planner,
    /// Size of the program, and time to issue the certificates of a control plane.
    Footprint,
}

/// What to measure, and how often.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Benchmarks to run; none means all.
    benchmarks: Vec<Benchmark>,
    /// Rounds of `bring-up`; the median counts.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Tries of `latency`; the median counts.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..))]
    tries: u32,
    /// Numbers of ControlPlanes for `scale`.
    #[arg(long, value_delimiter = ',', default_value = "100,300,1000")]
    scale: Vec<usize>,
    /// Number of node pools for `tokens`.
    #[arg(long, default_value_t = 1000)]
    pools: usize,
    /// Number of etcd clusters for `etcd-scale`.
    #[arg(long, default_value_t = 1000)]
    clusters: usize,
    /// How long a settled operator is watched, in seconds.
    #[arg(long, default_value_t = 180)]
    idle_seconds: u64,
}

impl Arguments {
    fn includes(&self, benchmark: Benchmark) -> bool {
        self.benchmarks.is_empty() || self.benchmarks.contains(&benchmark)
    }

    fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }
}

/// Runs the benchmarks, cheapest first, and prints what they measured as a table.
pub fn bench(arguments: &Arguments) -> Result<()> {
    let mut report = Report::default();
    let measured = measure(arguments, &mut report);
    // What was measured before a failure is worth seeing.
    report.print();
    measured
}

fn measure(arguments: &Arguments, report: &mut Report) -> Result<()> {
    if arguments.includes(Benchmark::Footprint) {
        footprint::measure(report)?;
    }
    if arguments.includes(Benchmark::Planner) {
        planner::measure(report)?;
    }
    if arguments.includes(Benchmark::Latency) {
        on_a_stage(|stage| publish::latency(stage, arguments.tries, report))?;
    }
    if arguments.includes(Benchmark::Idle) {
        on_a_stage(|stage| idle::measure(stage, arguments.idle(), report))?;
    }
    if arguments.includes(Benchmark::Tokens) {
        on_a_joinable_stage(|stage| tokens::measure(stage, arguments.pools, report))?;
    }
    if arguments.includes(Benchmark::EtcdScale) {
        let (count, watched) = (arguments.clusters, arguments.idle());
        on_a_stage(|stage| etcd_scale::measure(stage, count, watched, report))?;
    }
    if arguments.includes(Benchmark::Scale) {
        let mut runs = Vec::new();
        for count in &arguments.scale {
            runs.push(on_a_stage(|stage| publish::many(stage, *count, report))?);
        }
        publish::compare(&runs, report);
    }
    if arguments.includes(Benchmark::BringUp) {
        on_a_stage(|stage| bring_up::measure(stage, arguments.rounds, arguments.idle(), report))?;
    }
    Ok(())
}

/// Runs `work` on a fresh stage, which is gone afterwards, also after an interrupt.
fn on_a_stage<T: Send>(work: impl FnOnce(&Stage) -> Result<T> + Send) -> Result<T> {
    on_stage(Stage::start, work)
}

/// The same with a seed that machines can join.
fn on_a_joinable_stage<T: Send>(work: impl FnOnce(&Stage) -> Result<T> + Send) -> Result<T> {
    on_stage(Stage::start_joinable, work)
}

fn on_stage<T: Send>(
    start: fn(&StateDir) -> Result<Stage>,
    work: impl FnOnce(&Stage) -> Result<T> + Send,
) -> Result<T> {
    let state = StateDir::for_test("bench")?;
    let mut done = None;
    up::until_interrupted(&state, || {
        let stage = start(&state)?;
        let result = work(&stage);
        if result.is_err() {
            say(&format!(
                "end of the operator's log:\n{}",
                operator::log_tail(&stage)
            ));
        }
        done = Some(result?);
        Ok(())
    })?;
    done.ok_or_else(|| anyhow::anyhow!("interrupted"))
}
