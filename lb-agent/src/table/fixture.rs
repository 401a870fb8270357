//! Small tables for tests.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crd::Protocol;

use super::{Family, Listener, Rules, Scheduling, Server, Service, Table, Weight};

pub(crate) fn http() -> Listener {
    Listener::marked(Family::V4, Protocol::TCP, 80)
}

pub(crate) fn at(octet: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, octet], 8080))
}

/// One service with servers of these weights, and the rule that leads packets to it.
pub(crate) fn table(listener: Listener, servers: &[(u8, u32)]) -> Table {
    let servers = servers
        .iter()
        .map(|(octet, weight)| (at(*octet), Server::nat(Weight(*weight))))
        .collect();
    let service = Service {
        scheduling: Scheduling::plain("rr"),
        servers,
    };
    Table {
        services: [(listener, service.into())].into(),
        rules: BTreeMap::from([(listener.family, Rules::marking([listener]))]),
        ..Table::default()
    }
}
