//! The command line of `seedbed operator`. The chart's Deployment uses exactly these flags.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use super::lease::{Timings, TimingsError};
use super::telemetry::LogFormat;
use crate::domain::parse_go_duration;

/// Settings of a running operator.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Namespace of the operator itself, where its Lease lives.
    #[arg(long, env = "POD_NAMESPACE", default_value = "seedbed-system")]
    pub namespace: String,

    /// Namespaces whose objects are reconciled, separated by commas. Default: the operator's own.
    #[arg(long, value_delimiter = ',', value_name = "NAMESPACE")]
    pub watch_namespaces: Vec<String>,

    /// Name of this replica, shown as holder of the Lease and in events.
    #[arg(long, env = "POD_NAME", default_value = "seedbed")]
    pub replica_name: String,

    /// Address of /healthz, /readyz and /metrics; [::] is every address, IPv4 too.
    #[arg(long, default_value = "[::]:8080")]
    pub health_address: SocketAddr,

    /// How log lines look.
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,

    /// What is logged, as in RUST_LOG: a level, or a list of target=level.
    #[arg(
        long,
        env = "RUST_LOG",
        default_value = "info,kube_client::client::builder=off"
    )]
    pub log_filter: String,

    /// Objects of one kind that are reconciled at the same time, 1 to 64; of node pools a quarter as many.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub concurrency: u16,

    /// Name of the Lease that decides which replica writes.
    #[arg(long, default_value = "seedbed")]
    pub lease_name: String,

    /// How long the other replicas wait for a leader that does not renew; whole seconds.
    #[arg(long, default_value = "15s", value_parser = parse_go_duration)]
    pub lease_duration: Duration,

    /// How long a leader goes on without a successful renewal; less than the lease duration.
    #[arg(long, default_value = "10s", value_parser = parse_go_duration)]
    pub lease_renew_deadline: Duration,

    /// Pause between two attempts to renew or to acquire the Lease.
    #[arg(long, default_value = "2s", value_parser = parse_go_duration)]
    pub lease_retry_period: Duration,
}

impl Settings {
    /// The namespaces whose objects are reconciled, each once.
    pub fn watched(&self) -> Vec<String> {
        if self.watch_namespaces.is_empty() {
            return vec![self.namespace.clone()];
        }
        let mut namespaces = self.watch_namespaces.clone();
        namespaces.sort();
        namespaces.dedup();
        namespaces
    }

    /// The timings of the leader election, checked.
    pub fn lease_timings(&self) -> Result<Timings, TimingsError> {
        Timings {
            lease_duration: self.lease_duration,
            renew_deadline: self.lease_renew_deadline,
            retry_period: self.lease_retry_period,
        }
        .validated()
    }

    /// A name for this process that no other process has, not even one restarted in the same pod:
    /// it must not take its predecessor's lease for its own.
    pub fn identity(&self) -> String {
        format!("{}_{:016x}", self.replica_name, rand::random::<u64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        settings: Settings,
    }

    fn parse(args: &[&str]) -> Result<Settings, clap::Error> {
        let args = std::iter::once("operator").chain(args.iter().copied());
        Cli::try_parse_from(args).map(|cli| cli.settings)
    }

    #[test]
    fn defaults_are_those_of_client_go() {
        let settings = parse(&["--namespace", "seed"]).unwrap();
        assert_eq!(settings.lease_timings(), Ok(Timings::default()));
        assert_eq!(settings.watched(), ["seed"]);
        assert_ne!(settings.identity(), settings.identity());
    }

    #[test]
    fn watched_namespaces_are_a_set() {
        let settings = parse(&["--watch-namespaces", "b,a,b"]).unwrap();
        assert_eq!(settings.watched(), ["a", "b"]);
    }

    #[test]
    fn timings_that_could_elect_two_leaders_are_refused() {
        let settings = parse(&["--lease-renew-deadline", "15s"]).unwrap();
        let error = settings.lease_timings().unwrap_err().to_string();
        assert!(
            error.contains("must be longer than the renew deadline"),
            "{error}"
        );
        let settings = parse(&["--lease-retry-period", "6s"]).unwrap();
        assert!(settings.lease_timings().is_err());
        let settings = parse(&["--lease-duration", "15500ms"]).unwrap();
        assert!(settings.lease_timings().is_err());
        assert!(parse(&["--lease-duration", "soon"]).is_err());
        assert!(parse(&["--concurrency", "0"]).is_err());
    }
}
