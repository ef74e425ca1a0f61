//! Asking a control plane, machine by machine, whether it is complete. In-process and over kept
//! connections: programs started again and again would take the CPU from what is measured.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};

use super::super::machine::Machine;

const POLL: Duration = Duration::from_millis(100);
const CALL: Duration = Duration::from_secs(2);

/// When each part was complete, counted from `began`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Milestones {
    pub first_api_server: Option<Duration>,
    pub api_servers: Option<Duration>,
    pub voters: Option<Duration>,
    pub nodes: Option<Duration>,
}

impl Milestones {
    /// When everything was complete.
    pub fn complete(&self) -> Option<Duration> {
        Some(self.api_servers?.max(self.voters?).max(self.nodes?))
    }
}

/// Waits until each machine's API server is ready, each is a voter of etcd by its own answer, and
/// each is a registered Node. `kubeconfig` is an administrator's. Runs inside the network.
pub async fn complete(
    machines: &[Machine],
    kubeconfig: &str,
    began: Instant,
    limit: Duration,
) -> Result<Milestones> {
    let clients = machines
        .iter()
        .map(|machine| Ok((machine.name().to_owned(), client(machine, kubeconfig)?)))
        .collect::<Result<BTreeMap<_, _>>>()?;
    let mut reached = Milestones::default();
    loop {
        let ready = futures::future::join_all(clients.values().map(is_ready)).await;
        let now = Some(began.elapsed());
        if let Some(index) = ready.iter().position(|ready| *ready) {
            reached.first_api_server = reached.first_api_server.or(now);
            let client = clients.values().nth(index).context("no such client")?;
            if reached.nodes.is_none() && nodes(client).await == machines.len() {
                reached.nodes = Some(began.elapsed());
            }
        }
        if reached.api_servers.is_none() && ready.iter().all(|ready| *ready) {
            reached.api_servers = now;
        }
        if reached.voters.is_none() && all_vote(machines).await {
            reached.voters = Some(began.elapsed());
        }
        if reached.complete().is_some() {
            return Ok(reached);
        }
        if began.elapsed() > limit {
            bail!("the control plane is not complete after {limit:?}: {reached:?}");
        }
        tokio::time::sleep(POLL).await;
    }
}

fn client(machine: &Machine, kubeconfig: &str) -> Result<Client> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig)?;
    let options = KubeConfigOptions::default();
    let config =
        futures::executor::block_on(kube::Config::from_custom_kubeconfig(kubeconfig, &options));
    let mut config = config?;
    config.cluster_url = format!("https://{}:6443", machine.address()).parse()?;
    config.connect_timeout = Some(CALL);
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

async fn is_ready(client: &Client) -> bool {
    let Ok(request) = http::Request::get("/readyz").body(Vec::new()) else {
        return false;
    };
    matches!(
        tokio::time::timeout(CALL, client.request_text(request)).await,
        Ok(Ok(_))
    )
}

async fn nodes(client: &Client) -> usize {
    let api: Api<Node> = Api::all(client.clone());
    let listed = tokio::time::timeout(CALL, api.list_metadata(&ListParams::default())).await;
    listed.map_or(0, |list| list.map_or(0, |list| list.items.len()))
}

/// Whether every member says of itself that it votes, in a cluster that has a leader and as many
/// voters as there are machines.
async fn all_vote(machines: &[Machine]) -> bool {
    let votes = machines
        .iter()
        .map(|machine| votes(machine, machines.len()));
    let votes = futures::future::join_all(votes).await;
    votes.into_iter().all(|vote| vote.unwrap_or(false))
}

async fn votes(machine: &Machine, expected: usize) -> Result<bool> {
    let pki = |file: &str| fs::read(machine.file(&format!("/etc/kubernetes/pki/etcd/{file}")));
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(pki("ca.crt")?))
        .identity(Identity::from_pem(pki("server.crt")?, pki("server.key")?));
    let options = ConnectOptions::new()
        .with_tls(tls)
        .with_connect_timeout(CALL)
        .with_timeout(CALL);
    let url = format!("https://{}:2379", machine.address());
    let mut client = etcd_client::Client::connect([url], Some(options)).await?;
    let status = client.status().await?;
    let members = client.member_list().await?;
    let started = members
        .members()
        .iter()
        .filter(|m| !m.is_learner() && !m.name().is_empty());
    Ok(status.leader() != 0 && !status.is_learner() && started.count() == expected)
}
