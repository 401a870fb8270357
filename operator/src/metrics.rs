//! What the operator counts.

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// The step of a reconcile that failed: a word of a fixed set.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Step {
    step: &'static str,
}

/// All series, and the registry that renders them.
pub struct Metrics {
    registry: Registry,
    /// Reconciles begun.
    pub reconciles: Counter,
    errors: Family<Step, Counter>,
    /// Balancers of our class.
    pub objects: Gauge,
    /// Children deleted because their balancer is gone.
    pub swept: Counter,
    last_duration: Gauge<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("portable_lb_operator"),
            reconciles: Counter::default(),
            errors: Family::default(),
            objects: Gauge::default(),
            swept: Counter::default(),
            last_duration: Gauge::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("reconciles", "Reconciles begun", metrics.reconciles.clone());
        registry.register(
            "errors",
            "Reconciles that failed, by step",
            metrics.errors.clone(),
        );
        registry.register(
            "objects",
            "Balancers of this operator's class",
            metrics.objects.clone(),
        );
        registry.register(
            "swept",
            "Children deleted without a balancer",
            metrics.swept.clone(),
        );
        registry.register(
            "last_reconcile_duration_seconds",
            "Duration of the last reconcile",
            metrics.last_duration.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// Counts a failure in one step.
    pub fn failed(&self, step: &'static str) {
        self.errors.get_or_create(&Step { step }).inc();
    }

    /// Notes how long a reconcile took.
    pub fn took(&self, duration: Duration) {
        self.last_duration.set(duration.as_secs_f64());
    }

    /// The text that Prometheus reads.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a string fails only if a series can't encode itself; what is there then is still told.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_carry_the_prefix_and_errors_their_step() {
        let metrics = Metrics::default();
        metrics.failed("apply");
        let text = metrics.render();
        assert!(
            text.contains("portable_lb_operator_errors_total{step=\"apply\"} 1"),
            "{text}"
        );
        assert!(text.contains("portable_lb_operator_objects 0"), "{text}");
    }
}
