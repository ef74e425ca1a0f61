//! `/healthz`, `/readyz` and `/metrics`, on every replica, whether it leads or not.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;

/// Why the health endpoints are not served.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    #[error("cannot listen on {address}; choose another one with --health-address")]
    Bind {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("serving the health endpoints failed")]
    Serve(#[source] std::io::Error),
}

/// What has to be in order before this replica is ready. Clones share the answer.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    gates: Arc<Mutex<BTreeMap<&'static str, bool>>>,
}

/// One condition of readiness.
#[derive(Clone, Debug)]
pub struct Gate {
    name: &'static str,
    readiness: Readiness,
}

impl Readiness {
    /// A new gate, closed. The replica is ready when every gate is open.
    pub fn gate(&self, name: &'static str) -> Gate {
        let gate = Gate {
            name,
            readiness: self.clone(),
        };
        gate.set(false);
        gate
    }

    /// Names of the gates that are still closed.
    pub fn closed(&self) -> Vec<&'static str> {
        let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates
            .iter()
            .filter(|(_, open)| !**open)
            .map(|(name, _)| *name)
            .collect()
    }
}

impl Gate {
    /// Opens or closes the gate.
    pub fn set(&self, open: bool) {
        self.readiness
            .gates
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(self.name, open);
    }
}

/// Opens the socket; separate from [`serve`] so that a port in use is an error at start-up.
///
/// `[::]` means every address of either family, also on a node whose kernel has no IPv6.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, HealthError> {
    let opened = match TcpListener::bind(address).await {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && !is_in_use(&error) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        opened => opened,
    };
    opened.map_err(|source| HealthError::Bind { address, source })
}

fn is_in_use(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::AddrInUse
}

/// Serves until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> Result<(), HealthError> {
    let app = Router::new()
        // Answering at all is the liveness check: a blocked executor does not.
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz).with_state(readiness))
        .route("/metrics", get(metrics_text).with_state(metrics));
    axum::serve(listener, app)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
        .map_err(HealthError::Serve)
}

async fn readyz(State(readiness): State<Readiness>) -> (StatusCode, String) {
    let closed = readiness.closed();
    if closed.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let mut text = String::new();
    for name in closed {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "not ready: {name}");
    }
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

async fn metrics_text(State(metrics): State<Metrics>) -> impl IntoResponse {
    let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, format)], metrics.encode())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    async fn get_text(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn tells_health_readiness_and_metrics() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (readiness, metrics) = (Readiness::default(), Metrics::default());
        let preflight = readiness.gate("preflight");
        let caches = readiness.gate("caches");
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve(
            listener,
            readiness,
            metrics.clone(),
            shutdown.clone(),
        ));

        assert!(
            get_text(address, "/healthz")
                .await
                .starts_with("HTTP/1.1 200")
        );
        caches.set(true);
        let not_ready = get_text(address, "/readyz").await;
        assert!(not_ready.starts_with("HTTP/1.1 503"), "{not_ready}");
        assert!(
            not_ready.ends_with("\r\n\r\nnot ready: preflight\n"),
            "{not_ready}"
        );
        preflight.set(true);
        assert!(
            get_text(address, "/readyz")
                .await
                .starts_with("HTTP/1.1 200")
        );
        metrics.membership_step("add");
        assert!(
            get_text(address, "/metrics")
                .await
                .contains("step=\"add\"} 1")
        );

        let taken = bind(address).await.expect_err("the port is in use");
        assert!(taken.to_string().contains("--health-address"), "{taken}");
        shutdown.cancel();
        server.await.unwrap().unwrap();
    }
}
