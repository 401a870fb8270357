//! The servers of a service: where they are, how packets reach them, and what the kernel tells about them.
use std::net::SocketAddr;
use std::num::NonZeroU16;

use crate::Counters;
use crate::flags::flags;

/// How packets reach a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forwarding {
    /// The destination is rewritten, and replies must come back through this machine (NAT).
    Masquerade,
    /// Delivered on this machine.
    Local,
    /// Sent unchanged to the server's link-layer address; same link and same port only.
    Direct,
    /// Wrapped and sent to the server, which answers on its own; same port only.
    Tunnel {
        /// The wrapping.
        kind: TunnelKind,
        /// Checksums of the wrapping.
        flags: TunnelFlags,
    },
    /// Sent on unchanged to where it was going (cache clusters).
    Bypass,
}

/// How a tunnelled packet is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TunnelKind {
    /// IP in IP.
    Ipip,
    /// Generic UDP encapsulation.
    Gue {
        /// The UDP port that the server's tunnel listens on.
        port: NonZeroU16,
    },
    /// GRE.
    Gre,
}

flags! {
    /// Checksums of GUE and GRE tunnels; none for IPIP.
    TunnelFlags: u16 {
        /// The wrapping carries a checksum.
        CHECKSUM = 0x1,
        /// GUE: the receiver computes the inner checksum.
        REMOTE_CHECKSUM = 0x2,
    }
}

/// A server as one wants it. Its address is its identity within the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The server's address and port. Port 0 keeps the port that the client asked for.
    pub addr: SocketAddr,
    /// How packets reach it.
    pub forwarding: Forwarding,
    /// Its share of new connections; 0 gives it none, and keeps those it has.
    pub weight: u32,
    /// No new connection from this many entries on, counting those in `TIME_WAIT`; 0 is no limit.
    pub upper_threshold: u32,
    /// New connections again below this many entries; 0 is three quarters of the upper threshold.
    pub lower_threshold: u32,
}

impl Destination {
    /// A server reached by NAT, without thresholds.
    #[must_use]
    pub fn masquerade(addr: SocketAddr, weight: u32) -> Self {
        let forwarding = Forwarding::Masquerade;
        Self {
            addr,
            forwarding,
            weight,
            upper_threshold: 0,
            lower_threshold: 0,
        }
    }
}

/// A server as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationEntry {
    /// What it was told to be.
    pub destination: Destination,
    /// Established connections.
    pub active_connections: u32,
    /// Connections in any other state, `TIME_WAIT` and UDP included.
    pub inactive_connections: u32,
    /// Persistence entries.
    pub persistent_connections: u32,
    /// What passed through it.
    pub counters: Counters,
}
