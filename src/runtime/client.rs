//! The client for the seed's API server: bounded, counted, and unable to write without the lease.

use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Method, Request, Response};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::limit::ConcurrencyLimitLayer;
use tower::{BoxError, Layer, Service};

use super::lease::Leadership;
use super::metrics::Metrics;

/// How long a request may take until its answer begins. Watches are exempt: they wait for events.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Requests whose answer has not begun, at the same time. Over HTTP/1.1 each needs a connection of
/// its own, which is kept with its buffers for a minute and a half.
const MOST_AT_ONCE: usize = 16;
/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a request was not sent, or not waited for any longer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// A write was asked for by a process that does not lead.
    #[error("refused to send a write: this replica does not hold the lease")]
    NotLeading,
    /// The API server did not begin to answer.
    #[error("the API server did not answer within {0:?}")]
    NoAnswer(Duration),
}

/// A client for reading, for the lease itself and for the start-up checks.
pub fn unfenced(config: Config, metrics: &Metrics) -> kube::Result<Client> {
    build(config, metrics, None)
}

/// A client whose writes fail with [`RequestError::NotLeading`] as soon as the lease is not held.
/// Everything that changes objects gets this one.
pub fn fenced(config: Config, metrics: &Metrics, leadership: Leadership) -> kube::Result<Client> {
    build(config, metrics, Some(leadership))
}

fn build(
    mut config: Config,
    metrics: &Metrics,
    leadership: Option<Leadership>,
) -> kube::Result<Client> {
    // kube would retry 429, 503 and 504 up to 15 times inside one call, for minutes; the work
    // queue retries with a backoff that can be seen.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    let layer = GuardLayer {
        metrics: metrics.clone(),
        leadership,
        answer_timeout: ANSWER_TIMEOUT,
    };
    // Outermost: whoever had to wait is asked for the lease afterwards.
    Ok(ClientBuilder::try_from(config)?
        .with_layer(&layer)
        .with_layer(&ConcurrencyLimitLayer::new(MOST_AT_ONCE))
        .build())
}

#[derive(Clone)]
struct GuardLayer {
    metrics: Metrics,
    leadership: Option<Leadership>,
    answer_timeout: Duration,
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard {
            inner,
            guard: self.clone(),
        }
    }
}

struct Guard<S> {
    inner: S,
    guard: GuardLayer,
}

impl<S, B> Service<Request<Body>> for Guard<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let verb = verb(&request);
        if let Some(leadership) = &self.guard.leadership
            && verb.writes()
            && !leadership.is_held()
        {
            return Box::pin(async { Err(RequestError::NotLeading.into()) });
        }
        self.guard.metrics.api_request(verb.label());
        let limit = self.guard.answer_timeout;
        let answer = self.inner.call(request);
        Box::pin(async move {
            if verb == Verb::Watch {
                return answer.await.map_err(Into::into);
            }
            match tokio::time::timeout(limit, answer).await {
                Ok(answer) => answer.map_err(Into::into),
                Err(_) => Err(RequestError::NoAnswer(limit).into()),
            }
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Read,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
}

impl Verb {
    fn writes(self) -> bool {
        !matches!(self, Self::Read | Self::Watch)
    }

    fn label(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

fn verb(request: &Request<Body>) -> Verb {
    match *request.method() {
        Method::GET | Method::HEAD | Method::OPTIONS => {
            let query = request.uri().query().unwrap_or_default();
            if query.split('&').any(|pair| pair == "watch=true") {
                Verb::Watch
            } else {
                Verb::Read
            }
        }
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE => Verb::Delete,
        // Anything unknown counts as a write, to be on the safe side.
        _ => Verb::Create,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::clock::Clock;
    use k8s_openapi::api::core::v1::Secret;
    use kube::Api;
    use kube::api::{DeleteParams, Patch, PatchParams, PostParams};

    /// A client over a service that answers every request after `delay` with an empty Secret.
    fn client(leadership: Option<Leadership>, metrics: &Metrics, delay: Duration) -> Client {
        let layer = GuardLayer {
            metrics: metrics.clone(),
            leadership,
            answer_timeout: Duration::from_secs(20),
        };
        let server = tower::service_fn(move |_: Request<Body>| async move {
            tokio::time::sleep(delay).await;
            Ok::<_, BoxError>(Response::new(Body::from(b"{\"metadata\":{}}".to_vec())))
        });
        Client::new(layer.layer(server), "default")
    }

    #[tokio::test]
    async fn only_a_leader_writes_but_everybody_reads() {
        let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
        let leadership = Leadership::none(clock.clone());
        let metrics = Metrics::default();
        let client = client(Some(leadership.clone()), &metrics, Duration::ZERO);
        let api: Api<Secret> = Api::namespaced(client, "default");
        let secret = Secret::default();
        let patch = Patch::Merge(&secret);

        api.get("a").await.expect("reading needs no lease");
        let refused = [
            api.create(&PostParams::default(), &secret).await.err(),
            api.replace("a", &PostParams::default(), &secret)
                .await
                .err(),
            api.patch("a", &PatchParams::default(), &patch).await.err(),
            api.delete("a", &DeleteParams::default()).await.err(),
        ];
        for error in refused {
            let error = error.expect("a write without the lease").to_string();
            assert!(error.contains("does not hold the lease"), "{error}");
        }

        leadership.set(Some(Duration::from_secs(10)));
        api.patch("a", &PatchParams::default(), &patch)
            .await
            .expect("the leader writes");
        clock.advance(Duration::from_secs(10));
        api.patch("a", &PatchParams::default(), &patch)
            .await
            .expect_err("a term that ran out refuses by itself");
        let text = metrics.encode();
        assert!(text.contains("seedbed_api_requests_total{verb=\"patch\"} 1"));
        assert!(text.contains("seedbed_api_requests_total{verb=\"read\"} 1"));
        assert!(!text.contains("verb=\"create\""));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_server_is_not_waited_for() {
        let client = client(None, &Metrics::default(), Duration::from_secs(3600));
        let api: Api<Secret> = Api::namespaced(client, "default");
        let error = api.get("a").await.expect_err("no answer").to_string();
        assert!(error.contains("did not answer within 20s"), "{error}");
    }
}
