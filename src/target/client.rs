//! Reaching one machine's API server.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::AuthInfo;
use kube::{Client, Config};
use secrecy::SecretString;
use x509_parser::pem::Pem;

use crate::domain::HostPort;
use crate::kube_ext::apply::{CallError, within};
use crate::pki::KeyPair;

/// How long a connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a request may take, connection included.
pub const CALL_DEADLINE: Duration = Duration::from_secs(5);
/// How long the health question may take.
const READYZ_DEADLINE: Duration = Duration::from_secs(3);

/// Why no client could be made. Never shows a key.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{0} is not the address of an API server")]
    Address(String),
    #[error("the cluster CA is not a PEM certificate")]
    Ca,
    #[error("cannot set up TLS for {server}")]
    Tls {
        server: String,
        #[source]
        source: Box<kube::Error>,
    },
}

/// A client of the API server at `server`, trusting `ca_certificate_pem` only and known by
/// `identity`. Uses no proxy and no retries of its own: whoever calls asks again on the next pass.
pub fn connect(
    server: &HostPort,
    ca_certificate_pem: &str,
    identity: &KeyPair,
) -> Result<Client, ClientError> {
    let url = format!("https://{server}")
        .parse()
        .map_err(|_| ClientError::Address(server.to_string()))?;
    let ca = Pem::iter_from_buffer(ca_certificate_pem.as_bytes())
        .map(|block| block.map(|block| block.contents))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| ClientError::Ca)?;
    if ca.is_empty() {
        return Err(ClientError::Ca);
    }
    let mut config = Config::new(url);
    config.root_cert = Some(ca);
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.default_retry = false;
    config.auth_info = AuthInfo {
        client_certificate_data: Some(STANDARD.encode(&identity.certificate_pem)),
        client_key_data: Some(SecretString::from(
            STANDARD.encode(identity.key_pem.as_bytes()),
        )),
        ..AuthInfo::default()
    };
    Client::try_from(config).map_err(|source| ClientError::Tls {
        server: server.to_string(),
        source: Box::new(source),
    })
}

/// The answer to `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Serves.
    Ready,
    /// Answers, but is not ready yet; names what is missing.
    NotReady(String),
    /// Gave no answer.
    Unreachable(String),
}

impl Readiness {
    /// Whether the API server serves.
    pub fn is_ready(&self) -> bool {
        *self == Self::Ready
    }
}

/// Asks one API server whether it is ready (`/readyz`).
pub async fn readyz(client: &Client) -> Readiness {
    let request = match http::Request::get("/readyz").body(Vec::new()) {
        Ok(request) => request,
        Err(error) => return Readiness::Unreachable(error.to_string()),
    };
    match within(READYZ_DEADLINE, client.request_text(request)).await {
        Ok(_) => Readiness::Ready,
        Err(CallError::Api(error)) if matches!(*error, kube::Error::Api(_)) => {
            Readiness::NotReady(error.to_string())
        }
        Err(error) => Readiness::Unreachable(error.to_string()),
    }
}
