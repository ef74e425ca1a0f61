//! The real operator under its own rights, inside the network namespace of a seed.
#![allow(
    dead_code,
    reason = "every test that includes this module uses a part of it"
)]

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::operator_ground::{Space, until};
use crate::testbed::process::{Process, Spawn};

/// How long a graceful stop may take before it counts as hung.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A running `seedbed operator`. Dropping it kills it. All calls have to come from inside the
/// seed's network namespace, as everything in `Ground::run` does.
pub struct Operator {
    process: Process,
    health: SocketAddr,
    user: String,
    log: PathBuf,
}

impl Operator {
    /// Starts a replica that watches the space, under a service account of the replica's name with
    /// the rights of `runtime::permissions`, and logs at debug level. `args` come last.
    pub async fn start(space: &Space<'_>, replica: &str, args: &[&str]) -> Result<Self> {
        let kubeconfig = space.service_account(replica).await?;
        Self::start_by(space, replica, &kubeconfig, args)
    }

    /// The same with this kubeconfig.
    pub fn start_by(
        space: &Space<'_>,
        replica: &str,
        kubeconfig: &Path,
        args: &[&str],
    ) -> Result<Self> {
        let health = free_address()?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_seedbed"));
        command
            .env("KUBECONFIG", kubeconfig)
            .env_remove("RUST_LOG")
            .args(["operator", "--namespace", &space.name])
            .args(["--replica-name", replica])
            .args(["--health-address", &health.to_string()])
            .args(args);
        if !args.contains(&"--log-filter") {
            command.args(["--log-filter", "debug"]);
        }
        let how = Spawn {
            netns: space.ground.seed.netns().map(str::to_owned),
            grace: STOP_LIMIT,
        };
        let name = format!("operator-{}-{replica}", space.name);
        let state = space.ground.seed.state();
        Ok(Self {
            process: Process::spawn(state, &name, &command, &how)?,
            health,
            user: space.user(replica),
            log: state.log(&name),
        })
    }

    /// Its name in the audit log.
    pub fn user(&self) -> &str {
        &self.user
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Everything that it and its predecessors of the same name have logged.
    pub fn log(&self) -> Result<String> {
        std::fs::read_to_string(&self.log)
            .with_context(|| format!("cannot read {}", self.log.display()))
    }

    /// SIGKILL.
    pub fn kill(&self) -> Result<()> {
        self.process.kill()
    }

    /// SIGTERM; an error unless it ends by itself within the limit.
    pub async fn stop(&self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        self.wait_exit().await?;
        let log = self.log()?;
        ensure!(!log.contains("panicked at"), "the operator panicked: {log}");
        Ok(())
    }

    /// SIGSTOP: every thread stands still until [`Operator::thaw`].
    pub fn freeze(&self) -> Result<()> {
        self.process.signal(Signal::STOP)
    }

    pub fn thaw(&self) -> Result<()> {
        self.process.signal(Signal::CONT)
    }

    /// Waits until it has ended by itself.
    pub async fn wait_exit(&self) -> Result<()> {
        let gone = async || Ok((!self.process.is_running()).then_some(()));
        until("the operator to end", gone).await
    }

    /// Status code and body of one of its health endpoints.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.health).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
        let code = head.split(' ').nth(1).context("no status code")?.parse()?;
        Ok((code, body.to_owned()))
    }

    /// Waits until `/readyz` says yes.
    pub async fn ready(&self) -> Result<()> {
        until("the operator to be ready", async || {
            self.process.check()?;
            let answer = self.get("/readyz").await;
            Ok(answer.is_ok_and(|(code, _)| code == 200).then_some(()))
        })
        .await
    }

    /// Sum of all series whose name and labels begin with `prefix`; 0 without any.
    pub async fn metric(&self, prefix: &str) -> Result<f64> {
        let (code, text) = self.get("/metrics").await?;
        if code != 200 {
            bail!("/metrics answered {code}: {text}");
        }
        let value = |line: &str| line.rsplit_once(' ')?.1.parse::<f64>().ok();
        Ok(text
            .lines()
            .filter(|line| line.starts_with(prefix))
            .filter_map(value)
            .sum())
    }

    /// Reconciles of a kind that have ended.
    pub async fn reconciles(&self, kind: &str) -> Result<f64> {
        let series = format!("seedbed_reconcile_duration_seconds_count{{kind=\"{kind}\"}}");
        self.metric(&series).await
    }
}

// Of the network namespace that this thread is in.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}
