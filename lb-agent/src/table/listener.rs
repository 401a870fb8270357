//! What clients connect to, and the firewall mark that IPVS knows it by.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use crd::Protocol;

/// The bit that every mark of ours has, and that packets to be masqueraded are known by.
pub const MARK_BIT: u32 = 0x4000_0000;
const MARK: NonZeroU32 = NonZeroU32::new(MARK_BIT).expect("a bit is set");
const PROTOCOL_SHIFT: u32 = 17;
const V6_BIT: u32 = 1 << 16;
/// Packets to a listener at an address. IPVS looks for a service of the mark first, and there is none of such a mark,
/// even while one of the listener's plain mark still drains.
const ADDRESS_BIT: u32 = 1 << 19;

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
    /// The protocol; TCP where it is all ports of every protocol.
    pub protocol: Protocol,
    /// The port, or the first of a range. 0 is all ports of the balancer.
    pub port: u16,
    /// The address, where IPVS knows the service by its address and not by its mark.
    pub address: Option<IpAddr>,
}

impl Listener {
    /// A listener that IPVS knows by its mark.
    #[must_use]
    pub fn marked(family: Family, protocol: Protocol, port: u16) -> Self {
        Self {
            family,
            protocol,
            port,
            address: None,
        }
    }

    /// All ports of the balancer as one.
    #[must_use]
    pub fn all_ports(family: Family) -> Self {
        Self::marked(family, Protocol::TCP, 0)
    }

    /// The same listener, whatever address it is at.
    #[must_use]
    pub fn anywhere(self) -> Self {
        Self {
            address: None,
            ..self
        }
    }

    /// Its address and port, where IPVS knows it by them.
    #[must_use]
    pub fn socket(self) -> Option<SocketAddr> {
        self.address.map(|address| SocketAddr::new(address, self.port))
    }

    /// Its mark. A listener at an address has one too: packets that have it are masqueraded.
    #[must_use]
    pub fn mark(self) -> Mark {
        let protocol: u32 = match self.protocol {
            Protocol::TCP => 0,
            Protocol::UDP => 1,
            Protocol::SCTP => 2,
        };
        let family = match self.family {
            Family::V4 => 0,
            Family::V6 => V6_BIT,
        };
        let address = if self.address.is_some() { ADDRESS_BIT } else { 0 };
        Mark(MARK | protocol << PROTOCOL_SHIFT | family | address | u32::from(self.port))
    }

    /// The listener that IPVS knows by a mark; `None` for a mark that is not ours.
    #[must_use]
    pub fn from_mark(mark: u32) -> Option<Self> {
        let port = u16::try_from(mark & 0xffff).ok()?;
        let protocol = match mark >> PROTOCOL_SHIFT & 3 {
            0 => Protocol::TCP,
            1 => Protocol::UDP,
            2 => Protocol::SCTP,
            _ => return None,
        };
        let family = if mark & V6_BIT == 0 {
            Family::V4
        } else {
            Family::V6
        };
        let listener = Self::marked(family, protocol, port);
        let is_possible = port != 0 || listener == Self::all_ports(family);
        (is_possible && listener.mark().get() == mark).then_some(listener)
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.socket() {
            _ if self.port == 0 => write!(f, "all ports {}", self.family),
            Some(socket) => write!(f, "{socket}/{}", self.protocol),
            None => write!(f, "{}/{} {}", self.port, self.protocol, self.family),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn listeners() -> impl Strategy<Value = Listener> {
        let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
        let protocol = prop_oneof![Just(Protocol::TCP), Just(Protocol::UDP), Just(Protocol::SCTP)];
        (family, protocol, 1..=u16::MAX)
            .prop_map(|(family, protocol, port)| Listener::marked(family, protocol, port))
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
        let mark = |family, protocol, port| Listener::marked(family, protocol, port).mark().get();
        assert_eq!(mark(Family::V4, Protocol::TCP, 80), 0x4000_0050);
        assert_eq!(mark(Family::V6, Protocol::TCP, 80), 0x4001_0050);
        assert_eq!(mark(Family::V4, Protocol::UDP, 53), 0x4002_0035);
        assert_eq!(mark(Family::V4, Protocol::SCTP, 53), 0x4004_0035);
        assert_eq!(Listener::all_ports(Family::V6).mark().get(), 0x4001_0000);
        for foreign in [80, 0x4002_0000, 0x4006_0050, 0x4008_0050] {
            assert_eq!(Listener::from_mark(foreign), None, "{foreign:#x}");
        }
    }
}
