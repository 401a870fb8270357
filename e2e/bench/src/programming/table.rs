//! The tables that everybody programs, and the same in the words of each rival.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use crd::Protocol;
use lb_agent::kernel;
use lb_agent::plan::plan;
use lb_agent::table::{Family, Listener, Scheduling, Server, Servers, Service, Table, Weight};

/// The first port that is listened on.
const FIRST_PORT: u16 = 1000;
/// So many servers each of several services has.
const TOGETHER: usize = 10;

/// How servers are spread over services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// All are of one.
    One,
    /// Ten each.
    Many,
}

impl Spread {
    pub(crate) const ALL: [Self; 2] = [Self::One, Self::Many];

    /// The name of the setting.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::One => "one service",
            Self::Many => "services of ten",
        }
    }

    /// A table with so many servers, of which none listens anywhere.
    pub(crate) fn table(self, servers: usize) -> Table {
        let mut of_each: BTreeMap<Listener, Vec<usize>> = BTreeMap::new();
        for number in 0..servers {
            of_each.entry(self.listener(number)).or_default().push(number);
        }
        let service = |numbers: Vec<usize>| {
            Arc::new(Service {
                servers: numbers.into_iter().map(server).collect(),
                ..empty()
            })
        };
        let services = of_each.into_iter().map(|(at, numbers)| (at, service(numbers)));
        Table {
            services: services.collect(),
            ..Table::default()
        }
    }

    /// Adds the server of that number.
    pub(crate) fn add(self, table: &mut Table, number: usize) {
        let services = &mut table.services;
        let service = services.get_or_insert_with(self.listener(number), || empty().into());
        Arc::make_mut(service).servers.extend([server(number)]);
    }

    /// Gives the server of that number another weight.
    pub(crate) fn weigh(self, table: &mut Table, number: usize, weight: u32) {
        if let Some(server) = self.server(table, number) {
            server.weight = Weight(weight);
        }
    }

    /// Removes the server of that number.
    pub(crate) fn remove(self, table: &mut Table, number: usize) {
        if let Some(service) = table.services.get_mut(&self.listener(number)) {
            Arc::make_mut(service).servers.remove(&address(number));
        }
    }

    fn server(self, table: &mut Table, number: usize) -> Option<&mut Server> {
        let service = table.services.get_mut(&self.listener(number))?;
        Arc::make_mut(service).servers.get_mut(&address(number))
    }

    fn listener(self, number: usize) -> Listener {
        let service = match self {
            Self::One => 0,
            Self::Many => number / TOGETHER,
        };
        let port = u16::try_from(service)
            .unwrap_or_default()
            .saturating_add(FIRST_PORT);
        Listener::marked(Family::V4, Protocol::TCP, port)
    }
}

fn empty() -> Service {
    Service {
        scheduling: Scheduling::plain("wlc"),
        servers: Servers::new(),
    }
}

fn server(number: usize) -> (SocketAddr, Server) {
    (address(number), Server::nat(Weight::NORMAL))
}

/// Nobody is there: nothing is ever sent.
pub(crate) fn address(number: usize) -> SocketAddr {
    let [_, a, b, c] = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
    SocketAddr::from(([10, 100 + a, b, c], 8080))
}

/// The commands of `ipvsadm` that lead from a table to another, in the order of our own plan.
pub(crate) fn ipvsadm(current: &Table, wanted: &Table) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for step in plan(current, wanted) {
        lines.extend(kernel::commands(&step)?.iter().map(ipvs::Command::ipvsadm));
    }
    Ok(lines)
}

/// The configuration of keepalived for a table. The service of `round` comes last.
pub(crate) fn keepalived(table: &Table, round: u32) -> String {
    let mut text = String::new();
    for (listener, service) in table.services.iter() {
        let _ = write!(
            text,
            "virtual_server fwmark {} {{\n  lvs_sched wlc\n  lvs_method NAT\n  protocol TCP\n",
            listener.mark().get()
        );
        for (at, server) in service.servers.iter() {
            let _ = writeln!(
                text,
                "  real_server {} {} {{ weight {} }}",
                at.ip(),
                at.port(),
                server.weight.0
            );
        }
        text.push_str("}\n");
    }
    let _ = write!(
        text,
        "virtual_server fwmark 1 {{\n  lvs_sched rr\n  lvs_method NAT\n  protocol TCP\n  \
         real_server 10.99.0.1 1 {{ weight {round} }}\n}}\n"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_as_many_servers_as_are_asked_for() {
        for spread in Spread::ALL {
            assert_eq!(spread.table(1000).server_count(), 1000);
        }
        assert_eq!(Spread::One.table(1000).services.len(), 1);
        assert_eq!(Spread::Many.table(1000).services.len(), 100);
    }

    #[test]
    fn rivals_are_told_the_same() {
        let empty = Table::default();
        let (before, mut after) = (Spread::Many.table(11), Spread::Many.table(11));
        assert_eq!(ipvsadm(&empty, &before).unwrap().len(), 2 + 11);
        Spread::Many.weigh(&mut after, 0, 7);
        Spread::Many.remove(&mut after, 3);
        assert_eq!(
            ipvsadm(&before, &after).unwrap(),
            [
                "-e -f 1073742824 -r 10.100.0.0:8080 -m -w 7",
                "-d -f 1073742824 -r 10.100.0.3:8080"
            ]
        );
        let text = keepalived(&after, 5);
        assert!(
            text.contains("real_server 10.100.0.0 8080 { weight 7 }"),
            "{text}"
        );
        assert!(
            text.ends_with("real_server 10.99.0.1 1 { weight 5 }\n}\n"),
            "{text}"
        );
    }
}
