//! What the operator counts, in the Prometheus text format. No label ever holds an object's name:
//! the number of time series must not grow with the number of objects, and names are not for
//! everybody who may read metrics.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

type Labels<const N: usize> = [(&'static str, &'static str); N];
/// A float gauge by kind of object.
type Seconds = Family<Labels<1>, Gauge<f64, AtomicU64>>;

/// Every metric. Clones share the same numbers.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    /// Locked only to encode: counting takes no lock of ours.
    registry: Mutex<Registry>,
    reconcile_duration: Family<Labels<1>, Histogram, fn() -> Histogram>,
    reconcile_failures: Family<Labels<3>, Counter>,
    membership_steps: Family<Labels<1>, Counter>,
    cert_not_after: Seconds,
    watch_errors: Family<Labels<1>, Counter>,
    keys_generated: Family<Labels<1>, Counter>,
    api_requests: Family<Labels<1>, Counter>,
    event_failures: Counter,
    leader: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let inner = Inner {
            registry: Mutex::new(Registry::with_prefix("seedbed")),
            reconcile_duration: Family::new_with_constructor(|| {
                // 1 ms to 32 s: an idle pass takes milliseconds, the deadline is a minute.
                Histogram::new(exponential_buckets(0.001, 2.0, 16))
            }),
            reconcile_failures: Family::default(),
            membership_steps: Family::default(),
            cert_not_after: Family::default(),
            watch_errors: Family::default(),
            keys_generated: Family::default(),
            api_requests: Family::default(),
            event_failures: Counter::default(),
            leader: Gauge::default(),
        };
        inner.register();
        Self(Arc::new(inner))
    }
}

impl Inner {
    fn register(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register(
            "reconcile_duration_seconds",
            "Time one reconcile took",
            self.reconcile_duration.clone(),
        );
        registry.register(
            "reconcile_failures",
            "Reconciles that ended in an error",
            self.reconcile_failures.clone(),
        );
        registry.register(
            "membership_steps",
            "Changes made to the members of etcd clusters",
            self.membership_steps.clone(),
        );
        registry.register(
            "cert_not_after_seconds",
            "Unix time at which the first certificate of any object of a kind expires",
            self.cert_not_after.clone(),
        );
        registry.register(
            "watch_errors",
            "Errors of watches, by watched kind",
            self.watch_errors.clone(),
        );
        registry.register(
            "keys_generated",
            "Private keys that were generated, by algorithm",
            self.keys_generated.clone(),
        );
        registry.register(
            "api_requests",
            "Requests sent to the API server of the seed cluster, by verb",
            self.api_requests.clone(),
        );
        registry.register(
            "event_failures",
            "Events that could not be published",
            self.event_failures.clone(),
        );
        registry.register(
            "leader",
            "1 while this replica holds the lease, else 0",
            self.leader.clone(),
        );
    }
}

impl Metrics {
    /// Notes how long one reconcile of an object of `kind` took.
    pub fn reconciled(&self, kind: &'static str, took: Duration) {
        self.0
            .reconcile_duration
            .get_or_create(&[("kind", kind)])
            .observe(took.as_secs_f64());
    }

    /// Counts a reconcile that failed. `class` says what is done about it, `label` what it was.
    pub fn reconcile_failed(&self, kind: &'static str, class: &'static str, label: &'static str) {
        self.0
            .reconcile_failures
            .get_or_create(&[("kind", kind), ("class", class), ("label", label)])
            .inc();
    }

    /// Counts one change to the members of an etcd cluster.
    pub fn membership_step(&self, step: &'static str) {
        self.0
            .membership_steps
            .get_or_create(&[("step", step)])
            .inc();
    }

    /// Sets when the first certificate among all objects of `kind` expires, in Unix seconds.
    pub fn certificates_expire(&self, kind: &'static str, earliest: jiff::Timestamp) {
        #[expect(
            clippy::cast_precision_loss,
            reason = "seconds fit for 285 million years"
        )]
        let seconds = earliest.as_second() as f64;
        self.0
            .cert_not_after
            .get_or_create(&[("kind", kind)])
            .set(seconds);
    }

    /// Counts an error of the watch on `kind`.
    pub fn watch_failed(&self, kind: &'static str) {
        self.0.watch_errors.get_or_create(&[("kind", kind)]).inc();
    }

    /// Counts keys that were generated.
    pub fn keys_generated(&self, algorithm: &'static str, count: u64) {
        self.0
            .keys_generated
            .get_or_create(&[("algorithm", algorithm)])
            .inc_by(count);
    }

    /// Counts a request to the seed's API server.
    pub fn api_request(&self, verb: &'static str) {
        self.0.api_requests.get_or_create(&[("verb", verb)]).inc();
    }

    /// Counts an event that was lost.
    pub fn event_failed(&self) {
        self.0.event_failures.inc();
    }

    /// Says whether this replica leads.
    pub fn leading(&self, leads: bool) {
        self.0.leader.set(i64::from(leads));
    }

    /// All metrics as text (OpenMetrics 1.0).
    pub fn encode(&self) -> String {
        let registry = self
            .0
            .registry
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        // Writing to a String cannot fail; what was encoded until then would still be served.
        if encode(&mut text, &registry).is_err() {
            tracing::error!("cannot encode the metrics");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_documented_ones() {
        let metrics = Metrics::default();
        metrics.reconciled("ControlPlane", Duration::from_millis(3));
        metrics.reconcile_failed("EtcdCluster", "transient", "etcd_unreachable");
        metrics.membership_step("promote");
        metrics.certificates_expire("ControlPlane", "2027-01-01T00:00:00Z".parse().unwrap());
        metrics.watch_failed("Secret");
        metrics.keys_generated("ECDSA-P256", 7);
        metrics.event_failed();
        metrics.leading(true);
        let text = metrics.encode();
        for line in [
            "seedbed_reconcile_duration_seconds_count{kind=\"ControlPlane\"} 1",
            "seedbed_reconcile_failures_total{kind=\"EtcdCluster\",class=\"transient\",\
             label=\"etcd_unreachable\"} 1",
            "seedbed_membership_steps_total{step=\"promote\"} 1",
            "seedbed_cert_not_after_seconds{kind=\"ControlPlane\"} 1798761600.0",
            "seedbed_watch_errors_total{kind=\"Secret\"} 1",
            "seedbed_keys_generated_total{algorithm=\"ECDSA-P256\"} 7",
            "seedbed_event_failures_total 1",
            "seedbed_leader 1",
        ] {
            assert!(text.lines().any(|got| got == line), "{line} not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
