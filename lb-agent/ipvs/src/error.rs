//! What can go wrong, and what to do about it.
use std::io;
use std::net::SocketAddr;

use nix::errno::Errno;

use crate::{Command, Scheduler, ServiceId};

/// Why IPVS could not be asked, or why it refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel has no IPVS, and could not load it.
    #[error(
        "the kernel has no IPVS; load it on the node with `modprobe ip_vs`, and at each start by a line `ip_vs` in /etc/modules-load.d/ip_vs.conf"
    )]
    FamilyMissing,
    /// The caller may not use IPVS.
    #[error(
        "IPVS needs CAP_NET_ADMIN in the initial user namespace; give the container NET_ADMIN, and the pod hostUsers: true"
    )]
    Permission,
    /// A service to be added is there already.
    #[error("service {0} exists already; set it instead of adding it")]
    ServiceExists(ServiceId),
    /// The service that a command names is not there.
    #[error("service {0} does not exist; add it first")]
    ServiceMissing(ServiceId),
    /// A server to be added is there already.
    #[error("server {1} of service {0} exists already; set it instead of adding it")]
    DestinationExists(ServiceId, SocketAddr),
    /// The server that a command names is not there.
    #[error("server {1} of service {0} does not exist; add it first")]
    DestinationMissing(ServiceId, SocketAddr),
    /// The kernel has no such scheduler, and could not load it.
    #[error("the kernel has no scheduler {0}; load it on the node with `modprobe ip_vs_{0}`")]
    SchedulerUnavailable(Scheduler),
    /// The kernel found a value out of range.
    #[error(
        "the kernel refused to {0}; check address (unicast, the service's family, loopback up), prefix length, thresholds and weight"
    )]
    Invalid(Command, #[source] Errno),
    /// The kernel refused for another reason.
    #[error("the kernel refused to {0}")]
    Refused(Command, #[source] Errno),
    /// The kernel answered a question with an error.
    #[error("the kernel did not answer {question}")]
    Unanswered {
        /// What was asked.
        question: &'static str,
        /// The kernel's error.
        #[source]
        source: Errno,
    },
    /// The netlink socket failed.
    #[error("could not {step} the netlink socket")]
    Socket {
        /// What was tried.
        step: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// No answer came in time. What was sent may have been done: read the tables again.
    #[error("the kernel gave no answer in time; read the tables again before the next change")]
    Timeout,
    /// Answers were lost because the receive buffer was full. Read the tables again.
    #[error("answers of the kernel were lost; read the tables again before the next change")]
    Overrun,
    /// An answer does not follow the protocol.
    #[error("the kernel's answer can't be understood: {0}")]
    Malformed(&'static str),
}

impl Error {
    /// What the kernel means by `errno` in answer to `command`. `ENOENT` has two meanings.
    #[must_use]
    pub fn of_command(command: &Command, errno: Errno) -> Self {
        use Command as C;
        match (errno, command) {
            (Errno::EPERM | Errno::EACCES, _) => Self::Permission,
            (Errno::EEXIST, C::AddService(service)) => Self::ServiceExists(service.id),
            (Errno::EEXIST, C::AddDestination(id, server)) => Self::DestinationExists(*id, server.addr),
            (Errno::ENOENT, C::AddService(service) | C::SetService(service)) => {
                Self::SchedulerUnavailable(service.scheduler.clone())
            }
            (Errno::ENOENT, C::SetDestination(id, server)) => Self::DestinationMissing(*id, server.addr),
            (Errno::ENOENT, C::RemoveDestination(id, addr)) => Self::DestinationMissing(*id, *addr),
            (Errno::ESRCH, _) if command.service().is_some() => command
                .service()
                .map_or(Self::Refused(command.clone(), errno), Self::ServiceMissing),
            (Errno::EINVAL | Errno::ERANGE | Errno::EAFNOSUPPORT, _) => Self::Invalid(command.clone(), errno),
            _ => Self::Refused(command.clone(), errno),
        }
    }

    /// What the kernel means by `errno` in answer to a question.
    pub(crate) fn of_question(question: &'static str, errno: Errno) -> Self {
        match errno {
            Errno::EPERM | Errno::EACCES => Self::Permission,
            source => Self::Unanswered { question, source },
        }
    }
}

/// One command of a batch that the kernel refused. The commands after it were tried all the same.
#[derive(Debug, thiserror::Error)]
#[error("command {index} of the batch failed")]
pub struct Rejection {
    /// Which command, counted from 0 in the order they were put in.
    pub index: usize,
    /// Why.
    #[source]
    pub error: Error,
}
