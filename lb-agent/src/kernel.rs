//! Our table in IPVS's terms, and back. Pure.

use std::net::{IpAddr, SocketAddr};

use crd::Protocol;
use ipvs::{
    Command, Config, Destination, DestinationEntry, ServiceEntry, ServiceFlags, ServiceId, TunnelFlags,
    TunnelKind,
};

use crate::plan::Step;
use crate::table::{
    Family, Forwarding, Listener, Path, PathMark, Persistence, Scheduler, Scheduling, Server, Timeouts,
    Tunnel, Weight,
};

/// The IPVS commands of a step; none for a step that is about iptables.
pub fn commands(step: &Step) -> Result<Vec<Command>, ipvs::InvalidScheduler> {
    Ok(match step {
        Step::SetTimeouts(timeouts) => vec![Command::SetConfig(config(*timeouts))],
        Step::AddService(listener, how) => vec![Command::AddService(service(*listener, how)?)],
        Step::SetService(listener, how) => vec![Command::SetService(service(*listener, how)?)],
        Step::AddServer(listener, at, server) => vec![add(*listener, *at, *server)],
        Step::SetServer(listener, at, server) => {
            vec![Command::SetDestination(id(*listener), destination(*at, *server))]
        }
        Step::RemoveServer(listener, at) => vec![Command::RemoveDestination(id(*listener), *at)],
        Step::RemoveService(listener) => vec![Command::RemoveService(id(*listener))],
        Step::Reorder(listener, servers) => servers
            .iter()
            .flat_map(|(at, server)| {
                let remove = Command::RemoveDestination(id(*listener), *at);
                [remove, add(*listener, *at, *server)]
            })
            .collect(),
        Step::AddPath(mark, path) => add_path(*mark, *path)?,
        Step::RemovePath(mark) => vec![Command::RemoveService(path_id(*mark))],
        Step::SetRules(..) | Step::RemoveRules(..) => Vec::new(),
    })
}

fn add(listener: Listener, at: SocketAddr, server: Server) -> Command {
    Command::AddDestination(id(listener), destination(at, server))
}

fn add_path(mark: PathMark, path: Path) -> Result<Vec<Command>, ipvs::InvalidScheduler> {
    let service = ipvs::Service {
        id: path_id(mark),
        scheduler: "rr".parse()?,
        flags: ServiceFlags::empty(),
        persistence: None,
    };
    // Whatever port is asked is kept.
    let at = SocketAddr::new(path.server, 0);
    let destination = destination(at, Server::new(Weight::NORMAL, path.forwarding));
    let id = service.id;
    Ok(vec![
        Command::AddService(service),
        Command::AddDestination(id, destination),
    ])
}

/// The service that is the way of a mark.
#[must_use]
pub fn path_id(mark: PathMark) -> ServiceId {
    ServiceId::Mark {
        family: family(mark.family()),
        mark: mark.number(),
    }
}

fn family(family: Family) -> ipvs::Family {
    match family {
        Family::V4 => ipvs::Family::V4,
        Family::V6 => ipvs::Family::V6,
    }
}

/// The way that a service in the kernel is; `None` for one that is none.
#[must_use]
pub fn path(entry: &ServiceEntry) -> Option<PathMark> {
    let ServiceId::Mark { family: found, mark } = entry.service.id else {
        return None;
    };
    PathMark::from_mark(mark.get()).filter(|mark| family(mark.family()) == found)
}

/// Where a way leads. One that does not lead to just one server is foreign, and so made anew.
#[must_use]
pub fn path_to(entries: &[DestinationEntry]) -> Path {
    match entries {
        [entry] => Path {
            server: entry.destination.addr.ip(),
            forwarding: server(entry).forwarding,
        },
        _ => Path {
            server: IpAddr::from([0; 4]),
            forwarding: Forwarding::Foreign,
        },
    }
}

/// The service of a listener.
#[must_use]
pub fn id(listener: Listener) -> ServiceId {
    match listener.socket() {
        Some(addr) => ServiceId::Address {
            protocol: match listener.protocol {
                Protocol::TCP => ipvs::Protocol::Tcp,
                Protocol::UDP => ipvs::Protocol::Udp,
                Protocol::SCTP => ipvs::Protocol::Sctp,
            },
            addr,
        },
        None => ServiceId::Mark {
            family: family(listener.family),
            mark: listener.mark().number(),
        },
    }
}

fn service(listener: Listener, how: &Scheduling) -> Result<ipvs::Service, ipvs::InvalidScheduler> {
    let mut flags = ServiceFlags::from_bits(how.scheduler.flags);
    // A mark tells whose a service is; an address doesn't.
    if listener.address.is_some() {
        flags = flags | ServiceFlags::OWNED;
    }
    Ok(ipvs::Service {
        id: id(listener),
        scheduler: how.scheduler.name.parse()?,
        flags,
        persistence: how.persistence.map(|it| ipvs::Persistence {
            timeout_seconds: it.seconds,
            prefix_length: it.prefix,
        }),
    })
}

fn config(timeouts: Timeouts) -> Config {
    Config {
        tcp_seconds: timeouts.tcp_seconds,
        tcp_fin_seconds: timeouts.tcp_fin_seconds,
        udp_seconds: timeouts.udp_seconds,
    }
}

/// The timeouts in the kernel.
#[must_use]
pub fn timeouts(config: Config) -> Timeouts {
    Timeouts {
        tcp_seconds: config.tcp_seconds,
        tcp_fin_seconds: config.tcp_fin_seconds,
        udp_seconds: config.udp_seconds,
    }
}

/// A server as the kernel is told of it.
#[must_use]
pub fn destination(at: SocketAddr, server: Server) -> Destination {
    let tunnel = |kind| ipvs::Forwarding::Tunnel {
        kind,
        flags: TunnelFlags::empty(),
    };
    let forwarding = match server.forwarding {
        Forwarding::Nat | Forwarding::Foreign => ipvs::Forwarding::Masquerade,
        Forwarding::Direct => ipvs::Forwarding::Direct,
        Forwarding::Tunnel(Tunnel::Ipip) => tunnel(TunnelKind::Ipip),
        Forwarding::Tunnel(Tunnel::Gue(port)) => tunnel(TunnelKind::Gue { port }),
        Forwarding::Tunnel(Tunnel::Gre) => tunnel(TunnelKind::Gre),
    };
    Destination {
        forwarding,
        upper_threshold: server.entries_limit,
        ..Destination::masquerade(at, server.weight.0)
    }
}

/// The listener of a service in the kernel, and how it schedules; `None` for one that is not ours.
#[must_use]
pub fn listener(entry: &ServiceEntry) -> Option<(Listener, Scheduling)> {
    let listener = match entry.service.id {
        ServiceId::Mark { family, mark } => {
            let listener = Listener::from_mark(mark.get())?;
            let found = match family {
                ipvs::Family::V4 => Family::V4,
                ipvs::Family::V6 => Family::V6,
            };
            (listener.family == found).then_some(listener)?
        }
        ServiceId::Address { .. } if !entry.service.flags.contains(ServiceFlags::OWNED) => return None,
        ServiceId::Address { protocol, addr } => at_address(protocol, addr),
    };
    let owned = ServiceFlags::OWNED.bits();
    Some((listener, scheduling(entry, entry.service.flags.bits() & !owned)))
}

/// The listener of a service that we made, and that somebody changed so that it no longer says whose it is. It
/// schedules as nothing that is ever wanted, and so is set anew.
#[must_use]
pub fn disowned(entry: &ServiceEntry) -> Option<(Listener, Scheduling)> {
    let ServiceId::Address { protocol, addr } = entry.service.id else {
        return None;
    };
    let flags = entry.service.flags.bits() | ServiceFlags::OWNED.bits();
    Some((at_address(protocol, addr), scheduling(entry, flags)))
}

fn at_address(protocol: ipvs::Protocol, addr: SocketAddr) -> Listener {
    Listener {
        family: Family::of(addr.ip()),
        protocol: match protocol {
            ipvs::Protocol::Tcp => Protocol::TCP,
            ipvs::Protocol::Udp => Protocol::UDP,
            ipvs::Protocol::Sctp => Protocol::SCTP,
        },
        port: addr.port(),
        address: Some(addr.ip()),
    }
}

fn scheduling(entry: &ServiceEntry, flags: u32) -> Scheduling {
    Scheduling {
        scheduler: Scheduler {
            name: entry.service.scheduler.as_str().to_owned(),
            flags,
        },
        persistence: entry.service.persistence.map(|it| Persistence {
            seconds: it.timeout_seconds,
            prefix: it.prefix_length,
        }),
    }
}

/// A server in the kernel. Whatever we would not have set makes it foreign, so that it is set anew.
#[must_use]
pub fn server(entry: &DestinationEntry) -> Server {
    let found = &entry.destination;
    let forwarding = match found.forwarding {
        ipvs::Forwarding::Masquerade => Forwarding::Nat,
        ipvs::Forwarding::Direct => Forwarding::Direct,
        ipvs::Forwarding::Tunnel { kind, .. } => Forwarding::Tunnel(match kind {
            TunnelKind::Ipip => Tunnel::Ipip,
            TunnelKind::Gue { port } => Tunnel::Gue(port),
            TunnelKind::Gre => Tunnel::Gre,
        }),
        ipvs::Forwarding::Local | ipvs::Forwarding::Bypass => Forwarding::Foreign,
    };
    let server = Server {
        weight: Weight(found.weight),
        forwarding,
        entries_limit: found.upper_threshold,
    };
    if *found == destination(found.addr, server) {
        server
    } else {
        Server {
            forwarding: Forwarding::Foreign,
            ..server
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::listeners;
    use ipvs::Counters;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(at in listeners(), own: bool, flags in 0..8_u32, weight in 0..1000_u32) {
            let scheduling = Scheduling {
                scheduler: Scheduler { name: "mh".into(), flags: flags << 2 },
                persistence: own.then_some(Persistence { seconds: 5, prefix: 24 }),
            };
            let address = match at.family {
                Family::V4 => "10.0.0.1",
                Family::V6 => "fd00::1",
            };
            let at = Listener { address: own.then(|| address.parse().expect("an address")), ..at };
            let step = Step::AddService(at, scheduling.clone());
            let [Command::AddService(service)] = &commands(&step).expect("a valid name")[..] else {
                panic!("another command");
            };
            let entry = ServiceEntry { service: service.clone(), counters: Counters::default() };
            prop_assert_eq!(listener(&entry), Some((at, scheduling)));

            let ways = [
                Forwarding::Nat,
                Forwarding::Direct,
                Forwarding::Tunnel(Tunnel::Ipip),
                Forwarding::Tunnel(Tunnel::Gue(6080.try_into().expect("not 0"))),
                Forwarding::Tunnel(Tunnel::Gre),
            ];
            let wanted = Server {
                entries_limit: flags,
                ..Server::new(Weight(weight), ways[weight as usize % ways.len()])
            };
            let entry = DestinationEntry {
                destination: destination("10.0.0.1:80".parse().expect("an address"), wanted),
                active_connections: 0,
                inactive_connections: 0,
                persistent_connections: 0,
                counters: Counters::default(),
            };
            prop_assert_eq!(server(&entry), wanted);
        }
    }

    #[test]
    fn a_foreign_service_is_not_taken_for_ours() {
        let entry = |id| ServiceEntry {
            service: ipvs::Service {
                id,
                scheduler: "rr".parse().expect("a name"),
                flags: ServiceFlags::empty(),
                persistence: None,
            },
            counters: Counters::default(),
        };
        let mark = |family, number: u32| ServiceId::Mark {
            family,
            mark: number.try_into().expect("not 0"),
        };
        assert_eq!(listener(&entry(mark(ipvs::Family::V4, 1))), None);
        assert_eq!(listener(&entry(mark(ipvs::Family::V6, 0x4000_0050))), None);
        assert!(listener(&entry(mark(ipvs::Family::V4, 0x4000_0050))).is_some());
        let addr = "10.0.0.1:80".parse().expect("an address");
        assert_eq!(
            listener(&entry(ServiceId::Address {
                protocol: ipvs::Protocol::Tcp,
                addr
            })),
            None
        );
    }
}
