//! Our table in IPVS's terms, and back. Pure.

use std::net::SocketAddr;

use ipvs::{Command, Destination, DestinationEntry, ServiceEntry, ServiceFlags, ServiceId};

use crate::plan::Step;
use crate::table::{Family, Forwarding, Listener, Scheduler, Server, Weight};

/// `IP_VS_SVC_F_PERSISTENT`, which we never set.
const PERSISTENT: u32 = 0x1;

/// The IPVS command of a step; `None` for a step that is about iptables.
pub fn command(step: &Step) -> Result<Option<Command>, ipvs::InvalidScheduler> {
    Ok(Some(match step {
        Step::AddService(listener, scheduler) => Command::AddService(service(*listener, scheduler)?),
        Step::SetScheduler(listener, scheduler) => Command::SetService(service(*listener, scheduler)?),
        Step::AddServer(listener, at, server) => {
            Command::AddDestination(id(*listener), destination(*at, *server))
        }
        Step::SetServer(listener, at, server) => {
            Command::SetDestination(id(*listener), destination(*at, *server))
        }
        Step::RemoveServer(listener, at) => Command::RemoveDestination(id(*listener), *at),
        Step::RemoveService(listener) => Command::RemoveService(id(*listener)),
        Step::SetRules(..) | Step::RemoveRules(..) => return Ok(None),
    }))
}

/// The service of a listener.
#[must_use]
pub fn id(listener: Listener) -> ServiceId {
    let family = match listener.family {
        Family::V4 => ipvs::Family::V4,
        Family::V6 => ipvs::Family::V6,
    };
    ServiceId::Mark {
        family,
        mark: listener.mark().number(),
    }
}

fn service(listener: Listener, scheduler: &Scheduler) -> Result<ipvs::Service, ipvs::InvalidScheduler> {
    Ok(ipvs::Service {
        id: id(listener),
        scheduler: scheduler.name.parse()?,
        flags: ServiceFlags::from_bits(scheduler.flags),
        persistence: None,
    })
}

fn destination(at: SocketAddr, server: Server) -> Destination {
    Destination::masquerade(at, server.weight.0)
}

/// The listener and scheduler of a service in the kernel; `None` for one that is not ours.
#[must_use]
pub fn listener(entry: &ServiceEntry) -> Option<(Listener, Scheduler)> {
    let ServiceId::Mark { family, mark } = entry.service.id else {
        return None;
    };
    let listener = Listener::from_mark(mark.get())?;
    let is_of_family = matches!(
        (family, listener.family),
        (ipvs::Family::V4, Family::V4) | (ipvs::Family::V6, Family::V6)
    );
    let persistent = if entry.service.persistence.is_some() {
        PERSISTENT
    } else {
        0
    };
    let scheduler = Scheduler {
        name: entry.service.scheduler.as_str().to_owned(),
        flags: entry.service.flags.bits() | persistent,
    };
    is_of_family.then_some((listener, scheduler))
}

/// A server in the kernel. Whatever we would not have set makes it foreign, so that it is set anew.
#[must_use]
pub fn server(entry: &DestinationEntry) -> Server {
    let found = &entry.destination;
    let is_ours = *found == Destination::masquerade(found.addr, found.weight);
    Server {
        weight: Weight(found.weight),
        forwarding: if is_ours {
            Forwarding::Nat
        } else {
            Forwarding::Foreign
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::listeners;
    use ipvs::Counters;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(at in listeners(), flags in 0..8_u32, weight in 0..1000_u32) {
            let scheduler = Scheduler { name: "mh".into(), flags: flags << 2 };
            let step = Step::AddService(at, scheduler.clone());
            let Some(Command::AddService(service)) = command(&step).expect("a valid name") else {
                panic!("another command");
            };
            let entry = ServiceEntry { service, counters: Counters::default() };
            prop_assert_eq!(listener(&entry), Some((at, scheduler)));

            let wanted = Server::nat(Weight(weight));
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
