//! Changes of the kernel's tables as data, and how many of them travel together.
use std::fmt;
use std::net::SocketAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST};

use crate::message::Request;
use crate::{Config, Destination, Service, ServiceId};

/// How many commands travel in one datagram. None has more than 168 bytes, so that is 63 KiB at most, far below
/// the usual limit of 208 KiB; more of them at once gain next to nothing.
pub(crate) const TOGETHER: usize = 384;

/// One change of the kernel's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Adds a service that isn't there yet.
    AddService(Service),
    /// Changes all of a service but its identity; its servers and connections stay.
    SetService(Service),
    /// Removes a service and its servers.
    RemoveService(ServiceId),
    /// Adds a server that isn't there yet.
    AddDestination(ServiceId, Destination),
    /// Changes all of a server but its address; its connections stay.
    SetDestination(ServiceId, Destination),
    /// Removes a server. Its connections are reset if `net.ipv4.vs.expire_nodest_conn` is 1, else they hang.
    RemoveDestination(ServiceId, SocketAddr),
    /// Sets the timeouts of this network namespace.
    SetConfig(Config),
    /// Sets the counters of one service, or of all, to 0.
    Zero(Option<ServiceId>),
    /// Removes every service of this network namespace.
    Flush,
}

impl Command {
    /// The service that the command is about.
    #[must_use]
    pub fn service(&self) -> Option<ServiceId> {
        match self {
            Self::AddService(service) | Self::SetService(service) => Some(service.id),
            Self::RemoveService(id)
            | Self::AddDestination(id, _)
            | Self::SetDestination(id, _)
            | Self::RemoveDestination(id, _) => Some(*id),
            Self::Zero(id) => *id,
            Self::SetConfig(_) | Self::Flush => None,
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddService(Service { id, scheduler, .. }) => write!(f, "add service {id} {scheduler}"),
            Self::SetService(Service { id, scheduler, .. }) => write!(f, "set service {id} {scheduler}"),
            Self::RemoveService(id) => write!(f, "remove service {id}"),
            Self::AddDestination(id, Destination { addr, weight, .. }) => {
                write!(f, "add server {addr} weight {weight} to service {id}")
            }
            Self::SetDestination(id, Destination { addr, weight, .. }) => {
                write!(f, "set server {addr} weight {weight} of service {id}")
            }
            Self::RemoveDestination(id, addr) => write!(f, "remove server {addr} from service {id}"),
            Self::SetConfig(_) => f.write_str("set the timeouts"),
            Self::Zero(Some(id)) => write!(f, "zero the counters of service {id}"),
            Self::Zero(None) => f.write_str("zero all counters"),
            Self::Flush => f.write_str("remove every service"),
        }
    }
}

/// Commands for [`Client::apply`](crate::Client::apply), done in this order.
///
/// They are not a transaction: the kernel goes on after one that it refuses. Order them make-before-break.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    commands: Vec<Command>,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a command at the end.
    pub fn push(&mut self, command: Command) {
        self.commands.push(command);
    }

    /// The commands, in order.
    #[must_use]
    pub fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// How many commands there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }
}

impl FromIterator<Command> for Batch {
    fn from_iter<I: IntoIterator<Item = Command>>(commands: I) -> Self {
        Self {
            commands: commands.into_iter().collect(),
        }
    }
}

impl Extend<Command> for Batch {
    fn extend<I: IntoIterator<Item = Command>>(&mut self, commands: I) {
        self.commands.extend(commands);
    }
}

/// The messages of commands that travel together, numbered from `sequence`.
///
/// The kernel always tells errors, so only the last asks for an acknowledgment: many times faster than one each.
pub(crate) fn pack(commands: &[Command], family: u16, mut sequence: u32) -> Vec<u8> {
    let mut messages = Vec::new();
    let mut left = commands.len();
    for command in commands {
        left -= 1;
        let flags = if left == 0 {
            NLM_F_REQUEST | NLM_F_ACK
        } else {
            NLM_F_REQUEST
        };
        Request {
            family,
            command: command.number(),
            flags,
            sequence,
        }
        .emit(&mut messages, |buffer| command.put_attributes(buffer));
        sequence = sequence.wrapping_add(1);
    }
    messages
}
