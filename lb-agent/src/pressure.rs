//! What fills up: source ports towards a server, and the table of tracked connections. Told before it is full, since
//! then new connections fail one by one and nothing says why.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;

use crd::Protocol;

use crate::dataplane::Observed;
use crate::finding::{Finding, Kind, Severity};
use crate::table::Forwarding;

/// Ports that masquerading chooses from for one server: 1024 to 65535.
const SOURCE_PORTS: u64 = 64_512;
/// Told from so many per cent on.
const PER_CENT: u32 = 80;
/// How long connection tracking holds the port of a TCP connection that has ended; see `sysctl`.
const TIME_WAIT_SECONDS: u64 = 30;

/// The number of tracked connections of this network namespace, and the most there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// Those there are.
    pub count: u64,
    /// Those there may be.
    pub limit: u64,
}

/// What connection tracking says; nothing where it is not there.
#[must_use]
pub fn tracked() -> Option<Tracked> {
    let read = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/sys/net/netfilter/{name}"));
        text.ok()?.trim().parse().ok()
    };
    Some(Tracked {
        count: read("nf_conntrack_count")?,
        limit: read("nf_conntrack_max")?,
    })
}

/// Source ports in use towards the server that has the most, as a share of all of them.
#[must_use]
pub fn source_ports(observed: &Observed) -> Option<(SocketAddr, f64)> {
    let fin = observed.table.timeouts.map_or(120, |it| it.tcp_fin_seconds);
    let mut used: BTreeMap<(Protocol, SocketAddr), u64> = BTreeMap::new();
    for (listener, at, entry) in observed.servers() {
        let server = observed
            .table
            .services
            .get(&listener)
            .and_then(|it| it.servers.get(&at));
        if server.is_some_and(|server| server.forwarding == Forwarding::Nat) {
            // IPVS remembers connections that have ended for longer than their ports are held.
            let ended = u64::from(entry.inactive_connections);
            let held = match listener.protocol {
                Protocol::TCP => ended * TIME_WAIT_SECONDS / u64::from(fin).max(TIME_WAIT_SECONDS),
                Protocol::UDP | Protocol::SCTP => ended,
            };
            *used.entry((listener.protocol, at)).or_default() += u64::from(entry.active_connections) + held;
        }
    }
    let ((_, at), most) = used.into_iter().max_by_key(|(_, ports)| *ports)?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let share = most as f64 / SOURCE_PORTS as f64;
    Some((at, share))
}

/// What is nearly full.
#[must_use]
pub fn findings(observed: &Observed, tracked: Option<Tracked>) -> Vec<Finding> {
    let per_cent = |share: f64| format!("{:.0} % full", share * 100.0);
    let ports = source_ports(observed).filter(|(_, share)| *share * 100.0 >= f64::from(PER_CENT));
    let ports = ports.map(|(at, share)| {
        pressure(
            format!("the set of source ports towards {at}"),
            per_cent(share),
            "add servers or agents, or let clients and servers keep connections open for longer",
        )
    });
    let tracked = tracked.filter(|it| it.limit > 0 && it.count * 100 >= it.limit * u64::from(PER_CENT));
    let tracked = tracked.map(|it| {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let share = it.count as f64 / it.limit as f64;
        pressure(
            "the table of tracked connections".to_owned(),
            per_cent(share),
            "raise net.netfilter.nf_conntrack_max on the node, or limit new connections by spec.limits",
        )
    });
    ports.into_iter().chain(tracked).collect()
}

fn pressure(name: String, got: String, remedy: &str) -> Finding {
    Finding {
        severity: Severity::Degrading,
        kind: Kind::Pressure,
        name,
        wanted: format!("below {PER_CENT} %"),
        got,
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Family, Listener, Scheduling, Server, Service, Weight};
    use ipvs::{Counters, Destination, DestinationEntry};
    use std::sync::Arc;

    fn observed(protocol: Protocol, active: u32, inactive: u32) -> Observed {
        let at = SocketAddr::from(([10, 0, 0, 1], 80));
        let mut observed = Observed::default();
        for port in [80, 81] {
            let listener = Listener::marked(Family::V4, protocol, port);
            let service = Service {
                scheduling: Scheduling::plain("rr"),
                servers: [(at, Server::nat(Weight::NORMAL))].into(),
            };
            observed.table.services.insert(listener, service.into());
            let entry = DestinationEntry {
                destination: Destination::masquerade(at, 1),
                active_connections: active,
                inactive_connections: inactive,
                persistent_connections: 0,
                counters: Counters::default(),
            };
            observed.entries.insert(listener, Arc::new([(at, entry)].into()));
        }
        observed
    }

    fn told(protocol: Protocol, active: u32, inactive: u32) -> usize {
        findings(&observed(protocol, active, inactive), None).len()
    }

    #[test]
    fn ports_towards_a_server_are_counted_over_all_its_listeners() {
        assert_eq!(told(Protocol::TCP, 25_000, 0), 0);
        assert_eq!(told(Protocol::TCP, 26_000, 0), 1);
    }

    #[test]
    fn tcp_that_has_ended_counts_while_its_port_is_held() {
        assert_eq!(told(Protocol::TCP, 0, 100_000), 0);
        assert_eq!(told(Protocol::TCP, 0, 104_000), 1);
        assert_eq!(told(Protocol::UDP, 0, 26_000), 1);
    }

    #[test]
    fn a_full_table_of_connections_is_told_with_what_to_do() {
        let tracked = |count| findings(&Observed::default(), Some(Tracked { count, limit: 1000 }));
        assert_eq!(tracked(799), []);
        let text = tracked(800)[0].to_string();
        assert!(
            text.contains("80 % full") && text.contains("nf_conntrack_max"),
            "{text}"
        );
    }
}
