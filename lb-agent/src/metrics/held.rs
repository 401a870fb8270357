//! Series that are read out of what the kernel holds.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ipvs::DestinationEntry;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::dataplane::Observed;
use crate::pressure;
use crate::table::{Listener, Table, Weight};

/// What was read last.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    observed: Arc<Observed>,
    buckets: Option<u32>,
}

impl Held {
    /// Takes what was read. The size of the connection table never changes, and is not read each time.
    pub(super) fn learn(&self, observed: Arc<Observed>, buckets: Option<u32>) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.observed = observed;
        last.buckets = buckets.or(last.buckets);
    }
}

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

impl Collector for Held {
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
    for (listener, at, entry) in observed.servers() {
        let labels = ServerLabels::of(listener, at);
        metric(read(entry)).encode(encoder.encode_family(&labels)?)?;
    }
    Ok(())
}

/// How full the connection tracking of this namespace is.
#[derive(Debug)]
pub(super) struct Conntrack;

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
    use crate::metrics::Metrics;
    use crate::table::fixture::{at, http};
    use ipvs::{Counters, Destination};

    #[test]
    fn each_server_has_its_series() {
        let entry = DestinationEntry {
            destination: Destination::masquerade(at(1), 1),
            active_connections: 3,
            inactive_connections: 4,
            persistent_connections: 0,
            counters: Counters {
                connections: 17,
                ..Counters::default()
            },
        };
        let observed = Observed {
            entries: [(http(), Arc::new([(at(1), entry)].into()))].into(),
            ..Observed::default()
        };
        let metrics = Metrics::default();
        metrics.observed(Arc::new(observed), Some(4096));
        let text = metrics.encode().expect("can be written");
        let labels = "{listener=\"80/TCP\",family=\"IPv4\",server=\"10.0.0.1:8080\"}";
        for line in [
            format!("portable_lb_agent_server_connections_total{labels} 17"),
            format!("portable_lb_agent_server_active_connections{labels} 3"),
            "portable_lb_agent_ipvs_connection_table_size 4096".to_owned(),
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in\n{text}");
        }
    }
}
