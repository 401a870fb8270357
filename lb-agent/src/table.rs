//! What the kernel should hold, or does hold: services, their servers, and the rules that lead packets to them.
//! Pure: knows neither Kubernetes, nor netlink, nor iptables.

mod blocks;
#[cfg(test)]
pub(crate) mod fixture;
mod key;
mod listener;
mod path;
mod rules;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

pub use blocks::Blocks;
pub use key::Key;
pub use listener::{Family, Listener, MARK_BIT, Mark};
pub use path::{Path, PathMark, path_marks};
pub use rules::{MarkRule, Rules};
pub use server::{Forwarding, Persistence, Scheduler, Scheduling, Server, Tunnel, Weight};

#[cfg(test)]
pub(crate) use listener::tests::listeners;

/// The servers of a service.
pub type Servers = Blocks<SocketAddr, Server>;

/// The services. What two tables share is copied when one of them changes it.
pub type Services = Blocks<Listener, Arc<Service>>;

/// One service: how it schedules, and its servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// How a server is chosen.
    pub scheduling: Scheduling,
    /// The servers, in a stable order, because `mh` depends on it.
    pub servers: Servers,
}

/// How long connections without packets are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Established ones of TCP, in seconds.
    pub tcp_seconds: u32,
    /// Those of TCP that have ended, in seconds.
    pub tcp_fin_seconds: u32,
    /// Flows of UDP, in seconds.
    pub udp_seconds: u32,
}

/// Everything of ours in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The services.
    pub services: Services,
    /// The rules of each family. No entry: they are absent or damaged.
    pub rules: BTreeMap<Family, Rules>,
    /// The ways to single servers, for questions.
    pub paths: BTreeMap<PathMark, Path>,
    /// The timeouts; `None` where nothing is said of them.
    pub timeouts: Option<Timeouts>,
    /// The services whose servers were not added in the order of their addresses, as a fresh agent adds them.
    pub unordered: BTreeSet<Listener>,
}

impl Service {
    /// Whether agents choose alike only if their servers are in the same order: those that go on with each other's
    /// connections, which tunnels and `mh` make possible.
    #[must_use]
    pub fn needs_order(&self) -> bool {
        let tunnelled = |server: &Server| matches!(server.forwarding, Forwarding::Tunnel(_));
        self.scheduling.scheduler.name == "mh" && self.servers.values().any(tunnelled)
    }
}

impl Table {
    /// The part that all agents of a balancer share: what takes new connections, without what drains and without
    /// addresses that are an agent's own.
    #[must_use]
    pub fn serving(&self) -> Self {
        let marked: BTreeSet<Mark> = self.rules.values().flat_map(Rules::given).collect();
        let is_taking = |server: &Server| server.weight != Weight::DRAINING;
        let taking = |service: &Arc<Service>| {
            let mut service = service.clone();
            if !service.servers.values().all(is_taking) {
                let servers = &mut Arc::make_mut(&mut service).servers;
                servers.retain(|_, server| is_taking(server));
            }
            service
        };
        let services = self.services.iter();
        let services = services.filter(|(listener, _)| marked.contains(&listener.mark()));
        Self {
            services: services
                .map(|(listener, service)| (listener.anywhere(), taking(service)))
                .collect(),
            // Who is asked how is no part of what is served.
            paths: BTreeMap::new(),
            ..self.clone()
        }
    }

    /// Shares with `other` what is equal there of the services: it is held once, and found equal at once.
    pub fn share(&mut self, other: &Self) {
        self.services.share(&other.services, share);
    }

    /// The same of one service, and of those that are in a block with it.
    pub fn share_at(&mut self, listener: Listener, other: &Self) {
        self.services.share_at(listener, &other.services, share);
    }

    /// A hash of the table: equal tables have equal hashes, on every machine and in every version.
    #[must_use]
    pub fn hash(&self) -> String {
        format!("{:016x}", crd::names::fnv1a(self.to_string().as_bytes()))
    }

    /// The number of servers, one counted once a listener.
    #[must_use]
    pub fn server_count(&self) -> usize {
        self.services.values().map(|service| service.servers.len()).sum()
    }
}

fn share(service: &mut Arc<Service>, same: &Arc<Service>) {
    if same == service {
        service.clone_from(same);
    } else {
        Arc::make_mut(service).servers.share(&same.servers, |_, _| {});
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (listener, service) in self.services.iter() {
            write!(f, "{listener} {} {}", listener.mark(), service.scheduling)?;
            if service.needs_order() && self.unordered.contains(listener) {
                f.write_str(" unordered")?;
            }
            writeln!(f)?;
            for (address, server) in service.servers.iter() {
                writeln!(f, "  {address} {server}")?;
            }
        }
        for (family, rules) in &self.rules {
            writeln!(f, "{family} {rules}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draining_servers_and_unmarked_services_do_not_change_the_hash() {
        let http = Listener::marked(Family::V4, crd::Protocol::TCP, 80);
        let old = Listener { port: 81, ..http };
        let at = |octet| SocketAddr::from(([10, 0, 0, octet], 8080));
        let service = |servers: &[(u8, u32)]| {
            let servers = servers.iter();
            Arc::new(Service {
                scheduling: Scheduling::plain("wlc"),
                servers: servers
                    .map(|(octet, weight)| (at(*octet), Server::nat(Weight(*weight))))
                    .collect(),
            })
        };
        let rules = BTreeMap::from([(Family::V4, Rules::marking([http]))]);
        let plain = Table {
            services: [(http, service(&[(1, 1)]))].into(),
            rules: rules.clone(),
            ..Table::default()
        };
        let services = [(http, service(&[(1, 1), (2, 0)])), (old, service(&[(3, 0)]))].into();
        let draining = Table {
            services,
            rules,
            ..Table::default()
        };
        assert_ne!(plain.hash(), draining.hash());
        assert_eq!(plain.hash(), draining.serving().hash());
    }

    #[test]
    fn an_agents_own_address_does_not_change_the_hash() {
        let with = |address: &str| {
            let http = Listener::marked(Family::V4, crd::Protocol::TCP, 80);
            let own = Listener {
                address: address.parse().ok(),
                ..http
            };
            let service = Service {
                scheduling: Scheduling::plain("wlc"),
                servers: Servers::new(),
            };
            Table {
                services: [(own, service.into())].into(),
                rules: BTreeMap::from([(Family::V4, Rules::marking([http]))]),
                ..Table::default()
            }
        };
        assert_ne!(with("10.0.0.1").hash(), with("10.0.0.2").hash());
        assert_eq!(
            with("10.0.0.1").serving().hash(),
            with("10.0.0.2").serving().hash()
        );
    }
}
