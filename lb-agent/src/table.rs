//! What the kernel should hold, or does hold: services by mark, their servers, and which marks are given out.
//! Pure: knows neither Kubernetes, nor netlink, nor iptables.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use crd::Protocol;

/// The bit that every mark of ours has, and that packets to be masqueraded are known by.
pub const MARK_BIT: u32 = 0x4000_0000;
const MARK: NonZeroU32 = NonZeroU32::new(MARK_BIT).expect("a bit is set");
const UDP_BIT: u32 = 1 << 17;
const V6_BIT: u32 = 1 << 16;

/// A firewall mark of ours, which IPVS knows a service by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(NonZeroU32);

impl Mark {
    /// The number itself.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// The number as a type that knows it is not 0.
    #[must_use]
    pub fn number(self) -> NonZeroU32 {
        self.0
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.get())
    }
}

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// What clients connect to. One mark each, computed from it, so that an agent needs no memory of marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// The address family.
    pub family: Family,
    /// The protocol.
    pub protocol: Protocol,
    /// The port, never 0.
    pub port: u16,
}

impl Listener {
    /// Its mark.
    #[must_use]
    pub fn mark(self) -> Mark {
        let protocol = match self.protocol {
            Protocol::TCP => 0,
            Protocol::UDP => UDP_BIT,
        };
        let family = match self.family {
            Family::V4 => 0,
            Family::V6 => V6_BIT,
        };
        Mark(MARK | protocol | family | u32::from(self.port))
    }

    /// The listener of a mark; `None` for a mark that is not ours.
    #[must_use]
    pub fn from_mark(mark: u32) -> Option<Self> {
        let port = u16::try_from(mark & 0xffff).ok().filter(|port| *port != 0)?;
        let protocol = if mark & UDP_BIT == 0 {
            Protocol::TCP
        } else {
            Protocol::UDP
        };
        let family = if mark & V6_BIT == 0 {
            Family::V4
        } else {
            Family::V6
        };
        let listener = Self {
            family,
            protocol,
            port,
        };
        (listener.mark().get() == mark).then_some(listener)
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} {}", self.port, self.protocol, self.family)
    }
}

/// A scheduler as IPVS knows it: a name, and flags of the service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scheduler {
    /// Its name in the kernel.
    pub name: String,
    /// The service's flags; see `FALLBACK` and `PORT`.
    pub flags: u32,
}

impl Scheduler {
    /// Flag of `sh` and `mh`: another server where the hashed one has weight 0.
    pub const FALLBACK: u32 = 0x8;
    /// Flag of `sh` and `mh`: hash the client's port too.
    pub const PORT: u32 = 0x10;

    /// A scheduler without flags.
    #[must_use]
    pub fn plain(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            flags: 0,
        }
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (flag, name) in [(Self::FALLBACK, "fallback"), (Self::PORT, "port")] {
            if self.flags & flag != 0 {
                write!(f, "+{name}")?;
            }
        }
        match self.flags & !(Self::FALLBACK | Self::PORT) {
            0 => Ok(()),
            odd => write!(f, "+{odd:#x}"),
        }
    }
}

/// A server's share of new connections; 0 takes none and keeps those it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(pub u32);

impl Weight {
    /// Takes no new connections.
    pub const DRAINING: Self = Self(0);
    /// The weight of servers that were given none.
    pub const NORMAL: Self = Self(1);
}

/// How packets reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Forwarding {
    /// Full NAT.
    Nat,
    /// Anything that we did not set: drift.
    Foreign,
}

/// One server of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Server {
    /// Its weight.
    pub weight: Weight,
    /// How packets reach it.
    pub forwarding: Forwarding,
}

impl Server {
    /// A server behind NAT.
    #[must_use]
    pub fn nat(weight: Weight) -> Self {
        Self {
            weight,
            forwarding: Forwarding::Nat,
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weight {}", self.weight.0)?;
        match self.forwarding {
            Forwarding::Nat => Ok(()),
            Forwarding::Foreign => f.write_str(" (foreign forwarding)"),
        }
    }
}

/// One service: a scheduler and its servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// How a server is chosen.
    pub scheduler: Scheduler,
    /// The servers, in a stable order, because `mh` depends on it.
    pub servers: BTreeMap<SocketAddr, Server>,
}

/// Everything of ours in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The services.
    pub services: BTreeMap<Listener, Service>,
    /// The listeners whose packets get their mark, by family. No entry: our rules are absent or damaged.
    pub marked: BTreeMap<Family, BTreeSet<Listener>>,
}

impl Table {
    /// The part that all agents of a balancer share: what takes new connections, without what drains.
    #[must_use]
    pub fn serving(&self) -> Self {
        let is_marked = |listener: &Listener| {
            self.marked
                .get(&listener.family)
                .is_some_and(|marked| marked.contains(listener))
        };
        let mut serving = self.clone();
        serving.services.retain(|listener, _| is_marked(listener));
        for service in serving.services.values_mut() {
            service
                .servers
                .retain(|_, server| server.weight != Weight::DRAINING);
        }
        serving
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

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (listener, service) in &self.services {
            writeln!(f, "{listener} {} {}", listener.mark(), service.scheduler)?;
            for (address, server) in &service.servers {
                writeln!(f, "  {address} {server}")?;
            }
        }
        for (family, marked) in &self.marked {
            write!(f, "{family} marks")?;
            for listener in marked {
                write!(f, " {}", listener.mark())?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn listeners() -> impl Strategy<Value = Listener> {
        let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
        let protocol = prop_oneof![Just(Protocol::TCP), Just(Protocol::UDP)];
        (family, protocol, 1..=u16::MAX).prop_map(|(family, protocol, port)| Listener {
            family,
            protocol,
            port,
        })
    }

    proptest! {
        #[test]
        fn a_mark_and_its_listener_are_one(listener in listeners()) {
            prop_assert_eq!(Listener::from_mark(listener.mark().get()), Some(listener));
            prop_assert_ne!(listener.mark().get() & MARK_BIT, 0);
        }

        #[test]
        fn a_foreign_mark_is_never_taken_for_ours(mark: u32) {
            if let Some(listener) = Listener::from_mark(mark) {
                prop_assert_eq!(listener.mark().get(), mark);
            }
        }
    }

    #[test]
    fn marks_are_part_of_the_contract() {
        let listener = |family, protocol, port| Listener {
            family,
            protocol,
            port,
        };
        assert_eq!(listener(Family::V4, Protocol::TCP, 80).mark().get(), 0x4000_0050);
        assert_eq!(listener(Family::V6, Protocol::TCP, 80).mark().get(), 0x4001_0050);
        assert_eq!(listener(Family::V4, Protocol::UDP, 53).mark().get(), 0x4002_0035);
        assert_eq!(Listener::from_mark(0x4000_0000), None);
        assert_eq!(Listener::from_mark(80), None);
    }

    #[test]
    fn draining_servers_and_unmarked_services_do_not_change_the_hash() {
        let http = Listener {
            family: Family::V4,
            protocol: Protocol::TCP,
            port: 80,
        };
        let old = Listener { port: 81, ..http };
        let at = |octet| SocketAddr::from(([10, 0, 0, octet], 8080));
        let service = |servers: &[(u8, u32)]| Service {
            scheduler: Scheduler::plain("wlc"),
            servers: servers
                .iter()
                .map(|(octet, weight)| (at(*octet), Server::nat(Weight(*weight))))
                .collect(),
        };
        let marked = BTreeMap::from([(Family::V4, BTreeSet::from([http]))]);
        let plain = Table {
            services: BTreeMap::from([(http, service(&[(1, 1)]))]),
            marked: marked.clone(),
        };
        let services = BTreeMap::from([(http, service(&[(1, 1), (2, 0)])), (old, service(&[(3, 0)]))]);
        let draining = Table { services, marked };
        assert_ne!(plain.hash(), draining.hash());
        assert_eq!(plain.hash(), draining.serving().hash());
    }
}
