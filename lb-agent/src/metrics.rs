//! What `/metrics` tells. Labels come from the table and from fixed sets.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipvs::DestinationEntry;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder, text,
};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::dataplane::Observed;
use crate::drain::{Ended, Outcome};
use crate::health::metrics::Probes;
use crate::pressure;
use crate::table::{Listener, Table, Weight};

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
    servers: Arc<Servers>,
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
            servers: Arc::default(),
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
        registry.register_collector(Box::new(self.servers.clone()));
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
        let mut held = self.servers.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.observed = observed;
        held.buckets = buckets.or(held.buckets);
    }

    /// The text that Prometheus reads.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut buffer = String::new();
        text::encode(&mut buffer, &self.registry)?;
        Ok(buffer)
    }
}

#[derive(Debug, Default)]
struct Held {
    observed: Arc<Observed>,
    buckets: Option<u32>,
}

/// Series that are read out of the kernel's table.
#[derive(Debug, Default)]
struct Servers(Mutex<Held>);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct ServerLabels {
    listener: String,
    family: String,
    server: String,
}

impl ServerLabels {
    pub(crate) fn of(listener: Listener, at: SocketAddr) -> Self {
        Self {
            listener: format!("{}/{}", listener.port, listener.protocol),
            family: listener.family.to_string(),
            server: at.to_string(),
        }
    }
}

/// A series a server: its name, its help, and how it is read.
type Series<T> = (&'static str, &'static str, fn(&DestinationEntry) -> T);

const COUNTERS: [Series<u64>; 5] = [
    ("server_connections", "Connections given to the server", |it| {
        it.counters.connections
    }),
    (
        "server_received_packets",
        "Packets from clients to the server",
        |it| it.counters.incoming_packets,
    ),
    (
        "server_sent_packets",
        "Packets from the server to clients",
        |it| it.counters.outgoing_packets,
    ),
    (
        "server_received_bytes",
        "Bytes from clients to the server",
        |it| it.counters.incoming_bytes,
    ),
    ("server_sent_bytes", "Bytes from the server to clients", |it| {
        it.counters.outgoing_bytes
    }),
];

const GAUGES: [Series<i64>; 3] = [
    ("server_active_connections", "Established connections", |it| {
        i64::from(it.active_connections)
    }),
    (
        "server_inactive_connections",
        "Connections in other states, UDP included",
        |it| i64::from(it.inactive_connections),
    ),
    ("server_weight", "Weight of the server; 0 drains", |it| {
        i64::from(it.destination.weight)
    }),
];

impl Collector for Servers {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for series in COUNTERS {
            each_server(&mut encoder, &held.observed, series, ConstCounter::new)?;
        }
        for series in GAUGES {
            each_server(&mut encoder, &held.observed, series, ConstGauge::new)?;
        }
        whole_table(&mut encoder, &held.observed.table)?;
        source_ports(&mut encoder, &held.observed)?;
        let about = "Buckets of the connection table of IPVS; up to Linux 6.12 all pods of a node share them";
        match held.buckets {
            Some(buckets) => gauge(
                &mut encoder,
                "ipvs_connection_table_size",
                about,
                u64::from(buckets),
            ),
            None => Ok(()),
        }
    }
}

fn source_ports(encoder: &mut DescriptorEncoder<'_>, observed: &Observed) -> fmt::Result {
    let Some((_, share)) = pressure::source_ports(observed) else {
        return Ok(());
    };
    let help = "Share of the source ports in use towards the server that has the most";
    let gauge = ConstGauge::new(share);
    let descriptor = encoder.encode_descriptor("source_ports_used_ratio", help, None, gauge.metric_type())?;
    gauge.encode(descriptor)
}

fn whole_table(encoder: &mut DescriptorEncoder<'_>, table: &Table) -> fmt::Result {
    let servers = table
        .services
        .values()
        .flat_map(|service| service.servers.values());
    let draining = servers.filter(|server| server.weight == Weight::DRAINING).count();
    gauge(
        encoder,
        "table_services",
        "Services in the kernel",
        table.services.len() as u64,
    )?;
    gauge(
        encoder,
        "table_servers",
        "Servers in the kernel, draining ones included",
        table.server_count() as u64,
    )?;
    gauge(
        encoder,
        "draining_servers",
        "Servers of weight 0 in the kernel",
        draining as u64,
    )
}

fn each_server<T: Default, M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    observed: &Observed,
    (name, help, read): Series<T>,
    metric: fn(T) -> M,
) -> fmt::Result {
    let kind = metric(T::default()).metric_type();
    let mut encoder = encoder.encode_descriptor(name, help, None, kind)?;
    for ((listener, at), entry) in &observed.servers {
        let labels = ServerLabels::of(*listener, *at);
        metric(read(entry)).encode(encoder.encode_family(&labels)?)?;
    }
    Ok(())
}

/// How full the connection tracking of this namespace is.
#[derive(Debug)]
struct Conntrack;

impl Collector for Conntrack {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Some(tracked) = pressure::tracked() else {
            return Ok(());
        };
        let (count, limit) = ("conntrack_entries", "conntrack_entries_limit");
        let help = "Connections tracked in the agent's namespace";
        gauge(&mut encoder, count, help, tracked.count)?;
        let help = "Most connections tracked in a namespace of the node";
        gauge(&mut encoder, limit, help, tracked.limit)
    }
}

pub(crate) fn gauge(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: u64) -> fmt::Result {
    let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
    gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crd::Protocol;
    use ipvs::{Counters, Destination};

    #[test]
    fn each_server_has_its_series() {
        let listener = Listener::marked(crate::table::Family::V4, Protocol::TCP, 80);
        let at: SocketAddr = "10.0.0.1:8080".parse().expect("an address");
        let entry = DestinationEntry {
            destination: Destination::masquerade(at, 1),
            active_connections: 3,
            inactive_connections: 4,
            persistent_connections: 0,
            counters: Counters {
                connections: 17,
                ..Counters::default()
            },
        };
        let observed = Observed {
            servers: [((listener, at), entry)].into(),
            ..Observed::default()
        };
        let metrics = Metrics::default();
        metrics.observed(Arc::new(observed), Some(4096));
        metrics.programmed_in(Duration::from_millis(15));
        metrics.failed("ProgrammingFailed");
        let text = metrics.encode().expect("can be written");
        let labels = "{listener=\"80/TCP\",family=\"IPv4\",server=\"10.0.0.1:8080\"}";
        for line in [
            format!("portable_lb_agent_server_connections_total{labels} 17"),
            format!("portable_lb_agent_server_active_connections{labels} 3"),
            "portable_lb_agent_ipvs_connection_table_size 4096".to_owned(),
            "portable_lb_agent_programming_latency_seconds_count 1".to_owned(),
            "portable_lb_agent_converge_errors_total{reason=\"ProgrammingFailed\"} 1".to_owned(),
            "portable_lb_agent_drift_steps_total 0".to_owned(),
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn cut_connections_are_counted() {
        let cut = |connections| Ended {
            listener: Listener::marked(crate::table::Family::V4, Protocol::TCP, 80),
            server: ([10, 0, 0, 1], 8080).into(),
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
