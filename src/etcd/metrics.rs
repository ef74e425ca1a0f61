//! The one figure of etcd that its API does not tell: which peers a member is connected to.

use std::collections::BTreeSet;
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
/// The gauge of connections, 1 or 0 for each pair of members.
const ACTIVE_PEERS: &str = "etcd_network_active_peers{";

/// Asks the member at `client_url`, which serves its metrics to whoever may be its client.
pub async fn active_peers(
    client_url: &str,
    credentials: &EtcdCredentials,
) -> Result<BTreeSet<MemberId>, EtcdError> {
    let failed = |message: String| EtcdError::Call {
        endpoint: client_url.to_owned(),
        class: EtcdErrorClass::Retry,
        message,
    };
    let client = client(client_url, credentials).map_err(failed)?;
    let request = http::Request::get("/metrics").body(Vec::new());
    let request = request.map_err(|error| failed(error.to_string()))?;
    let asked = tokio::time::timeout(METRICS_TIMEOUT, client.request_text(request));
    match asked.await {
        Ok(Ok(text)) => Ok(connected(&text)),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(EtcdError::Timeout {
            endpoint: client_url.to_owned(),
            seconds: METRICS_TIMEOUT.as_secs(),
        }),
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

/// The `Remote` of every pair whose gauge is not 0, in Prometheus' text format.
fn connected(metrics: &str) -> BTreeSet<MemberId> {
    metrics.lines().filter_map(connected_peer).collect()
}

fn connected_peer(line: &str) -> Option<MemberId> {
    let (labels, value) = line.strip_prefix(ACTIVE_PEERS)?.split_once('}')?;
    let connections: f64 = value.trim().parse().ok()?;
    let (_, remote) = labels.split_once("Remote=\"")?;
    let id = remote.split('"').next()?.parse().ok()?;
    (connections > 0.0).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_read_from_the_metrics() {
        let metrics = "# HELP etcd_network_active_peers The current number of active peers.\n\
            # TYPE etcd_network_active_peers gauge\n\
            etcd_network_active_peers{Local=\"8e9e05c52164694d\",Remote=\"91bc3c398fb3c146\"} 1\n\
            etcd_network_active_peers{Local=\"8e9e05c52164694d\",Remote=\"fd422379fda50e48\"} 0\n\
            etcd_network_active_peers{Local=\"8e9e05c52164694d\",Remote=\"nonsense\"} 1\n\
            etcd_network_peer_sent_bytes_total{To=\"fd422379fda50e48\"} 12\n";
        let peers = connected(metrics);
        assert_eq!(peers, BTreeSet::from([MemberId(0x91bc_3c39_8fb3_c146)]));
    }
}
