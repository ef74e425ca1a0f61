//! What the operator's process costs, from outside.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::super::progress;
use super::super::release::Replica;
use super::super::stage::Stage;

/// Name of the one replica that benchmarks run.
const REPLICA: &str = "seedbed-0";
/// Clock ticks a second in /proc/PID/stat: 100 on every Linux that Kubernetes runs on.
const TICKS: u32 = 100;
const READY_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// A running operator that leads.
pub struct Operator(Replica);

/// Figures at one moment.
#[derive(Clone, Debug)]
pub struct Usage {
    /// User and system time since the process started; in steps of 10 ms.
    pub cpu: Duration,
    /// Resident memory, in KiB.
    pub resident_kib: u64,
    /// The most that was ever resident, in KiB.
    pub peak_kib: u64,
    /// Requests to the seed since it started, by verb (watch, read, create, update, patch, delete).
    pub requests: BTreeMap<String, u64>,
}

impl Usage {
    /// All requests.
    pub fn total(&self) -> u64 {
        self.requests.values().sum()
    }

    /// Writes, apart from updates, among which are those of the Lease.
    pub fn created_and_patched(&self) -> u64 {
        let count = |verb| self.requests.get(verb).copied().unwrap_or(0);
        count("create") + count("patch")
    }
}

impl Operator {
    /// Starts it and waits until it leads.
    pub fn start(stage: &Stage) -> Result<Self> {
        let operator = Self(stage.operator(REPLICA)?);
        let deadline = Instant::now() + READY_LIMIT;
        while !operator.0.leads().unwrap_or(false) {
            operator.0.process().check()?;
            ensure!(
                Instant::now() < deadline,
                "the operator does not lead: {}",
                operator.0.process().log_tail()
            );
            std::thread::sleep(POLL);
        }
        Ok(operator)
    }

    /// Its figures now.
    pub fn usage(&self) -> Result<Usage> {
        self.0.process().check()?;
        let pid = self.0.process().pid();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(Usage {
            cpu: cpu(pid)?,
            resident_kib: kibibytes(&status, "VmRSS:")?,
            peak_kib: kibibytes(&status, "VmHWM:")?,
            requests: requests(&self.0.get("/metrics")?)?,
        })
    }

    /// Waits until it has created and patched nothing for `quiet`; answers its figures then.
    pub async fn settled(&self, quiet: Duration, limit: Duration) -> Result<Usage> {
        let deadline = Instant::now() + limit;
        let mut last = self.usage()?;
        let mut since = Instant::now();
        while since.elapsed() < quiet {
            ensure!(
                Instant::now() < deadline,
                "the operator still writes after {limit:?}"
            );
            tokio::time::sleep(Duration::from_millis(500)).await;
            let now = self.usage()?;
            if now.created_and_patched() != last.created_and_patched() {
                since = Instant::now();
            }
            last = now;
        }
        Ok(last)
    }
}

/// CPU time of a process and of those of its threads that have ended.
pub fn cpu(pid: i32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // proc_pid_stat(5): fields count from after the name, the first of them is the third of all.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .context("no name in /proc/PID/stat")?
        .1
        .split_whitespace()
        .collect();
    let ticks = |field: usize| -> Result<u32> {
        Ok(fields
            .get(field - 3)
            .context("/proc/PID/stat is short")?
            .parse()?)
    };
    Ok(Duration::from_secs(1) * (ticks(14)? + ticks(15)?) / TICKS)
}

fn kibibytes(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let value = line.and_then(|line| line.split_whitespace().next());
    Ok(value
        .with_context(|| format!("no {name} in /proc/PID/status"))?
        .parse()?)
}

fn requests(metrics: &str) -> Result<BTreeMap<String, u64>> {
    let prefix = "seedbed_api_requests_total{verb=\"";
    let lines = metrics.lines().filter_map(|line| line.strip_prefix(prefix));
    lines
        .map(|line| {
            let (verb, count) = line.split_once("\"} ").context("not a metric")?;
            Ok((verb.to_owned(), count.trim().parse()?))
        })
        .collect()
}

/// The last lines that the operator logged on this stage.
pub fn log_tail(stage: &Stage) -> String {
    progress::tail(&stage.state.log(REPLICA), progress::TAIL_LINES)
}
