//! What `/metrics` tells. Labels come from the table and from fixed sets.

mod held;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::dataplane::Observed;
use crate::drain::{Ended, Outcome};
use crate::health::metrics::Probes;
use held::{Conntrack, Held};
pub(crate) use held::{ServerLabels, gauge};

/// Seconds from a change of slices to the kernel.
const LATENCY: [f64; 12] = [0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 30.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct ReasonLabel {
    pub(crate) reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: Outcome,
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let word = match self {
            Self::Finished => "Finished",
            Self::Cut => "Cut",
            Self::Moved => "Moved",
            Self::Returned => "Returned",
        };
        EncodeLabelValue::encode(&word, encoder)
    }
}

/// All series, and the registry that prints them.
pub struct Metrics {
    registry: Registry,
    /// What the kernel held when it was last read.
    held: Arc<Held>,
    /// What is measured of health checks.
    pub probes: Arc<Probes>,
    /// Steps that were done.
    pub steps: Counter,
    /// Steps that mended what somebody else had changed.
    pub drift: Counter,
    /// 1 while traffic is attracted.
    pub ready: Gauge,
    /// The generation that the kernel holds.
    pub generation: Gauge,
    /// Findings of `prepare`.
    pub findings: Gauge,
    errors: Family<ReasonLabel, Counter>,
    drains: Family<OutcomeLabel, Counter>,
    cut: Counter,
    latency: Histogram,
    last_latency: Gauge<f64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("portable_lb_agent"),
            held: Arc::default(),
            probes: Arc::default(),
            steps: Counter::default(),
            drift: Counter::default(),
            ready: Gauge::default(),
            generation: Gauge::default(),
            findings: Gauge::default(),
            errors: Family::default(),
            drains: Family::default(),
            cut: Counter::default(),
            latency: Histogram::new(LATENCY),
            last_latency: Gauge::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of the agent", build);
        registry.register("steps", "Changes made to the kernel", self.steps.clone());
        let drift = "Changes made by others to the agent's table, rules and sysctls, and mended";
        registry.register("drift_steps", drift, self.drift.clone());
        registry.register(
            "converge_errors",
            "Times the kernel could not be brought to the table",
            self.errors.clone(),
        );
        let drains = "Servers that ended draining, once a listener";
        registry.register("drains", drains, self.drains.clone());
        let cut = "Connections that were reset since the drain time was over";
        registry.register("cut_connections", cut, self.cut.clone());
        registry.register("ready", "Whether traffic is attracted", self.ready.clone());
        registry.register(
            "programmed_generation",
            "Generation that the kernel holds",
            self.generation.clone(),
        );
        let findings = "Modules, sysctls and files that are not as they should be";
        registry.register("findings", findings, self.findings.clone());
        let (help, last) = (
            "Time from a change of endpoints to the kernel",
            "The newest of programming_latency",
        );
        registry.register_with_unit("programming_latency", help, Unit::Seconds, self.latency.clone());
        registry.register_with_unit(
            "last_programming_latency",
            last,
            Unit::Seconds,
            self.last_latency.clone(),
        );
        registry.register_collector(Box::new(self.held.clone()));
        registry.register_collector(Box::new(Conntrack));
        Probes::register(&self.probes, registry);
    }

    /// A change of endpoints took this long to the kernel.
    pub fn programmed_in(&self, latency: Duration) {
        self.latency.observe(latency.as_secs_f64());
        self.last_latency.set(latency.as_secs_f64());
    }

    /// The kernel could not be brought to the table. The reason is one of a fixed set.
    pub fn failed(&self, reason: &'static str) {
        self.errors.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Drains ended.
    pub fn drained(&self, ended: &[Ended]) {
        for drain in ended {
            let outcome = drain.outcome;
            self.drains.get_or_create(&OutcomeLabel { outcome }).inc();
            if outcome == Outcome::Cut {
                self.cut.inc_by(drain.connections.into());
            }
        }
    }

    /// What the kernel holds.
    pub fn observed(&self, observed: Arc<Observed>, buckets: Option<u32>) {
        self.held.learn(observed, buckets);
    }

    /// The text that Prometheus reads.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut buffer = String::new();
        text::encode(&mut buffer, &self.registry)?;
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::fixture::{at, http};

    #[test]
    fn what_happened_is_counted() {
        let metrics = Metrics::default();
        metrics.programmed_in(Duration::from_millis(15));
        metrics.failed("ProgrammingFailed");
        let text = metrics.encode().expect("can be written");
        for line in [
            "portable_lb_agent_programming_latency_seconds_count 1",
            "portable_lb_agent_converge_errors_total{reason=\"ProgrammingFailed\"} 1",
            "portable_lb_agent_drift_steps_total 0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn cut_connections_are_counted() {
        let cut = |connections| Ended {
            listener: http(),
            server: at(1),
            outcome: Outcome::Cut,
            connections,
        };
        let metrics = Metrics::default();
        metrics.drained(&[cut(3), cut(4)]);
        let text = metrics.encode().expect("can be written");
        assert!(
            text.contains("portable_lb_agent_drains_total{outcome=\"Cut\"} 2\n"),
            "{text}"
        );
        assert!(
            text.contains("portable_lb_agent_cut_connections_total 7\n"),
            "{text}"
        );
    }
}
