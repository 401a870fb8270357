//! Servers, and how one is chosen.

use std::fmt;
use std::num::NonZeroU16;

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

/// How long, and how exactly, clients are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Persistence {
    /// For so long after the last connection.
    pub seconds: u32,
    /// Clients equal in so many leading bits are one.
    pub prefix: u8,
}

/// How a server is chosen for a new connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scheduling {
    /// The scheduler.
    pub scheduler: Scheduler,
    /// Whether clients come back to the server they had.
    pub persistence: Option<Persistence>,
}

impl Scheduling {
    /// A scheduler without flags, and no persistence.
    #[must_use]
    pub fn plain(name: &str) -> Self {
        Self {
            scheduler: Scheduler::plain(name),
            persistence: None,
        }
    }
}

impl fmt::Display for Scheduling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.scheduler)?;
        match self.persistence {
            Some(Persistence { seconds, prefix }) => write!(f, " persistent {seconds} s by /{prefix}"),
            None => Ok(()),
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

/// How packets are wrapped on the way to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tunnel {
    /// IP in IP.
    Ipip,
    /// Generic UDP encapsulation, to this port.
    Gue(NonZeroU16),
    /// GRE.
    Gre,
}

/// How packets reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Forwarding {
    /// Full NAT.
    Nat,
    /// Unchanged, on the same link.
    Direct,
    /// In a tunnel.
    Tunnel(Tunnel),
    /// Anything that we did not set: drift.
    Foreign,
}

impl fmt::Display for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nat => f.write_str("NAT"),
            Self::Direct => f.write_str("DR"),
            Self::Tunnel(Tunnel::Ipip) => f.write_str("IPIP"),
            Self::Tunnel(Tunnel::Gue(port)) => write!(f, "GUE to port {port}"),
            Self::Tunnel(Tunnel::Gre) => f.write_str("GRE"),
            Self::Foreign => f.write_str("foreign"),
        }
    }
}

/// One server of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Server {
    /// Its weight.
    pub weight: Weight,
    /// How packets reach it.
    pub forwarding: Forwarding,
    /// It takes no new connection with so many entries; 0 is no limit.
    pub entries_limit: u32,
}

impl Server {
    /// A server without a limit.
    #[must_use]
    pub fn new(weight: Weight, forwarding: Forwarding) -> Self {
        Self {
            weight,
            forwarding,
            entries_limit: 0,
        }
    }

    /// A server behind NAT, without a limit.
    #[must_use]
    pub fn nat(weight: Weight) -> Self {
        Self::new(weight, Forwarding::Nat)
    }

    /// The same server, taking no new connections. What is foreign about it is mended.
    #[must_use]
    pub fn draining(self) -> Self {
        let forwarding = match self.forwarding {
            Forwarding::Foreign => Forwarding::Nat,
            known => known,
        };
        Self {
            weight: Weight::DRAINING,
            forwarding,
            ..self
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "weight {}", self.weight.0)?;
        if self.forwarding != Forwarding::Nat {
            write!(f, " by {}", self.forwarding)?;
        }
        match self.entries_limit {
            0 => Ok(()),
            limit => write!(f, " up to {limit} entries"),
        }
    }
}
