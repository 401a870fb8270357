//! Whether servers may take new connections, by asking them.
//!
//! [`check`] reads the spec, [`probe`] asks once, [`tally`] makes a verdict of several answers, [`monitor`] does so for
//! all servers and tells the loop, and [`Health`] is what the loop knows of it. What servers send is untrusted: it is
//! read up to a bound, and parsed by functions that never panic ([`http`], [`dns`], [`grpc`]).

pub mod check;
pub mod dns;
pub mod grpc;
pub mod http;
pub mod metrics;
pub mod monitor;
pub mod probe;
pub mod reason;
pub mod select;
pub mod tally;
pub mod tls;

pub use check::{Check, Checks};
pub use reason::Reason;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::table::Listener;

/// Whom to ask what, and by which way. Equal targets are asked once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The server, with the port that is asked.
    pub server: SocketAddr,
    /// What is connected to: the server itself, or an address that leads to it.
    pub to: SocketAddr,
    /// The firewall mark of what is sent.
    pub mark: Option<NonZeroU32>,
    /// The own address that is asked from, where the kernel should not choose.
    pub source: Option<IpAddr>,
    /// What is asked.
    pub check: Arc<Check>,
}

impl Target {
    /// A server that is asked at its own address.
    #[must_use]
    pub fn direct(server: SocketAddr, check: Arc<Check>) -> Self {
        let mut server = server;
        if let Some(port) = check.port {
            server.set_port(port);
        }
        Self {
            server,
            to: server,
            mark: None,
            source: None,
            check,
        }
    }
}

/// Whom to ask for each server of a listener. A listener for several ports may have several checks.
pub type Targets = BTreeMap<(Listener, SocketAddr), Vec<Target>>;

/// A verdict that is new: why the target fails, or that it does no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whom it is about.
    pub target: Target,
    /// Why it fails; `None`: it may take new connections.
    pub failure: Option<Reason>,
}

/// All verdicts. Who is not proven to fail may take new connections.
#[derive(Clone, Debug, Default)]
pub struct Health {
    failing: BTreeMap<Target, Reason>,
}

impl Health {
    /// Takes a verdict in.
    pub fn take(&mut self, change: Change) {
        match change.failure {
            Some(reason) => self.failing.insert(change.target, reason),
            None => self.failing.remove(&change.target),
        };
    }

    /// Why the target must take no new connections, if so.
    #[must_use]
    pub fn failure(&self, target: &Target) -> Option<Reason> {
        self.failing.get(target).copied()
    }
}
