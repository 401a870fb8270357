//! What IPVS listens for: a virtual service, and what the kernel tells about it.
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::str::FromStr;

use crate::flags::flags;

/// The address family of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl From<SocketAddr> for Family {
    fn from(addr: SocketAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
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

/// The transport protocol of an address service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// What tells a service from every other in its network namespace.
///
/// A mark can't be 0: the kernel would accept it, and make a TCP service of 0.0.0.0:0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceId {
    /// Every packet with this firewall mark, whatever its protocol.
    Mark {
        /// Which family's packets.
        family: Family,
        /// The mark that `iptables` or `nft` sets.
        mark: NonZeroU32,
    },
    /// Packets to one address and port. An IPv6 scope or flow is not part of the identity; leave them 0.
    Address {
        /// The protocol.
        protocol: Protocol,
        /// The address and port.
        addr: SocketAddr,
    },
}

impl ServiceId {
    /// The family of the service, and so of its servers (unless they are tunnelled to).
    #[must_use]
    pub fn family(&self) -> Family {
        match *self {
            Self::Mark { family, .. } => family,
            Self::Address { addr, .. } => addr.into(),
        }
    }
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mark { family, mark } => write!(f, "{family} mark {mark:#x}"),
            Self::Address { protocol, addr } => write!(f, "{protocol} {addr}"),
        }
    }
}

/// The name of a scheduler, such as `rr` or `wlc`; the kernel loads module `ip_vs_NAME` for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scheduler(String);

impl Scheduler {
    /// The longest name that the kernel takes.
    pub const MAX_LENGTH: usize = 15;

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Scheduler {
    type Err = InvalidScheduler;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let fits = (1..=Self::MAX_LENGTH).contains(&name.len()) && !name.contains('\0');
        if fits {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidScheduler(name.to_owned()))
        }
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A scheduler's name that the kernel would not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a scheduler's name has 1 to 15 bytes and no NUL, not {0:?}")]
pub struct InvalidScheduler(String);

flags! {
    /// How a service schedules. Persistence is not among these: [`Service::persistence`] tells it.
    ServiceFlags: u32 {
        /// Each UDP packet is scheduled on its own. Replies need direct routing or a tunnel.
        ONE_PACKET = 0x4,
        /// The scheduler's first flag: `Fallback` of `sh` and `mh`.
        SCHEDULER_1 = 0x8,
        /// The scheduler's second flag: `Port` of `sh` and `mh`.
        SCHEDULER_2 = 0x10,
        /// The scheduler's third flag.
        SCHEDULER_3 = 0x20,
        /// Nothing to the kernel, which keeps the bit and tells it: whoever sets it knows its own services by it.
        OWNED = 0x4000_0000,
    }
}

/// A client, or a network of clients, comes back to the server it had before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Persistence {
    /// How long after the last connection, in seconds.
    pub timeout_seconds: u32,
    /// Clients equal in this many leading bits count as one: 0 to 32 for IPv4, 1 to 128 for IPv6.
    pub prefix_length: u8,
}

/// A virtual service as one wants it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Service {
    /// What tells it from others.
    pub id: ServiceId,
    /// How servers are chosen.
    pub scheduler: Scheduler,
    /// How the scheduler works.
    pub flags: ServiceFlags,
    /// Whether clients stick to their server.
    pub persistence: Option<Persistence>,
}

/// A virtual service as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEntry {
    /// What it was told to be.
    pub service: Service,
    /// What passed through it.
    pub counters: Counters,
}

/// What passed through a service or a server, since it was made or its counters were zeroed.
///
/// The kernel's estimator collects these every two seconds, and not at all with `net.ipv4.vs.run_estimation=0`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub incoming_packets: u64,
    /// Packets to clients; 0 with direct routing and tunnels, whose replies go another way.
    pub outgoing_packets: u64,
    /// Bytes from clients.
    pub incoming_bytes: u64,
    /// Bytes to clients.
    pub outgoing_bytes: u64,
}
