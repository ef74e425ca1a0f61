//! What of etcd its API does not tell: which peers a member is connected to.
//!
//! The gauge of connections is not enough: in a member that has joined others it can stay above 0
//! long after a peer is gone (`etcd_model` found it), and for minutes where a peer hangs. So a leader
//! is asked, too, whom it hears from: everybody answers its heartbeats.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::AuthInfo;
use kube::{Client, Config};
use secrecy::SecretString;
use x509_parser::pem::Pem;

use super::client::{CONNECT_TIMEOUT, EtcdCredentials};
use super::error::{EtcdError, EtcdErrorClass};
use crate::domain::MemberId;

/// Longest wait for all metrics of a member.
const METRICS_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two looks at whom a leader has heard.
const LOOK: Duration = Duration::from_millis(250);
/// So many looks at most: several heartbeats of the slowest network.
const LOOKS: u32 = 12;
/// The gauge of connections for each pair of members.
const ACTIVE_PEERS: (&str, &str) = ("etcd_network_active_peers{", "Remote=\"");
/// The counter of what came from each peer.
const RECEIVED: (&str, &str) = ("etcd_network_peer_received_bytes_total{", "From=\"");
/// 1 for a leader.
const IS_LEADER: &str = "etcd_server_is_leader ";

/// Asks the member at `client_url`, which serves its metrics to whoever may be its client: whom it is
/// connected to, and if it leads, whom of these it hears from.
pub async fn active_peers(
    client_url: &str,
    credentials: &EtcdCredentials,
) -> Result<BTreeSet<MemberId>, EtcdError> {
    let client = client(client_url, credentials).map_err(|why| failed(client_url, why))?;
    let mut text = metrics(&client, client_url).await?;
    if !leads(&text) {
        return Ok(connected(&text));
    }
    let before = figures(&text, RECEIVED);
    let mut heard = BTreeSet::new();
    for _ in 0..LOOKS {
        tokio::time::sleep(LOOK).await;
        text = metrics(&client, client_url).await?;
        heard = connected(&text);
        let all = heard.len();
        let received = figures(&text, RECEIVED);
        heard.retain(|id| received.get(id) > before.get(id));
        if heard.len() == all {
            break;
        }
    }
    Ok(heard)
}

async fn metrics(client: &Client, client_url: &str) -> Result<String, EtcdError> {
    let request = http::Request::get("/metrics").body(Vec::new());
    let request = request.map_err(|error| failed(client_url, error.to_string()))?;
    let asked = tokio::time::timeout(METRICS_TIMEOUT, client.request_text(request));
    match asked.await {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(error)) => Err(failed(client_url, error.to_string())),
        Err(_) => Err(EtcdError::Timeout {
            endpoint: client_url.to_owned(),
            seconds: METRICS_TIMEOUT.as_secs(),
        }),
    }
}

fn failed(client_url: &str, message: String) -> EtcdError {
    EtcdError::Call {
        endpoint: client_url.to_owned(),
        class: EtcdErrorClass::Retry,
        message,
    }
}

fn client(client_url: &str, credentials: &EtcdCredentials) -> Result<Client, String> {
    let url = client_url
        .parse()
        .map_err(|_| format!("{client_url} is not a URL"))?;
    let ca = Pem::iter_from_buffer(credentials.ca_pem.as_bytes())
        .map(|block| block.map(|block| block.contents))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("the etcd CA is not PEM: {error}"))?;
    let mut config = Config::new(url);
    config.root_cert = Some(ca);
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.default_retry = false;
    config.auth_info = AuthInfo {
        client_certificate_data: Some(STANDARD.encode(&credentials.certificate_pem)),
        client_key_data: Some(SecretString::from(
            STANDARD.encode(credentials.key_pem.as_bytes()),
        )),
        ..AuthInfo::default()
    };
    Client::try_from(config).map_err(|error| error.to_string())
}

/// Every peer whose gauge of connections is not 0.
fn connected(metrics: &str) -> BTreeSet<MemberId> {
    let gauges = figures(metrics, ACTIVE_PEERS).into_iter();
    gauges
        .filter(|(_, connections)| *connections > 0.0)
        .map(|(peer, _)| peer)
        .collect()
}

fn leads(metrics: &str) -> bool {
    let mut values = metrics
        .lines()
        .filter_map(|line| line.strip_prefix(IS_LEADER));
    values.next().is_some_and(|value| value.trim() == "1")
}

/// A metric of peers in Prometheus' text format, by the peer's ID in this label.
fn figures(metrics: &str, (name, label): (&str, &str)) -> BTreeMap<MemberId, f64> {
    let figure = |line: &str| {
        let (labels, value) = line.strip_prefix(name)?.split_once('}')?;
        let (_, id) = labels.split_once(label)?;
        let id = id.split('"').next()?.parse().ok()?;
        Some((id, value.trim().parse().ok()?))
    };
    metrics.lines().filter_map(figure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "\
        # HELP etcd_network_active_peers The current number of active peers.\n\
        # TYPE etcd_network_active_peers gauge\n\
        etcd_network_active_peers{Local=\"8e9e05c52164694d\",Remote=\"91bc3c398fb3c146\"} 2\n\
        etcd_network_active_peers{Local=\"8e9e05c52164694d\",Remote=\"fd422379fda50e48\"} 0\n\
        etcd_network_active_peers{Local=\"8e9e05c52164694d\",Remote=\"nonsense\"} 1\n\
        etcd_network_peer_received_bytes_total{From=\"91bc3c398fb3c146\"} 1.2345e+06\n\
        etcd_network_peer_sent_bytes_total{To=\"fd422379fda50e48\"} 12\n\
        etcd_server_is_leader 1\n";

    #[test]
    fn connections_are_read_from_the_metrics() {
        let peer = MemberId(0x91bc_3c39_8fb3_c146);
        assert_eq!(connected(METRICS), BTreeSet::from([peer]));
        assert_eq!(
            figures(METRICS, RECEIVED),
            BTreeMap::from([(peer, 1_234_500.0)])
        );
    }

    #[test]
    fn only_a_leader_says_that_it_leads() {
        assert!(leads(METRICS));
        assert!(!leads("etcd_server_is_leader 0\n"));
        assert!(!leads(""));
    }
}
