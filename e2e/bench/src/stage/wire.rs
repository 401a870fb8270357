//! What a suite and its eyes in a node tell each other: one JSON object a line.

use std::net::SocketAddrV4;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where the eyes listen, at their node's address.
pub const PORT: u16 = 7077;

/// What the eyes are asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Request {
    /// What time it is there.
    Time,
    /// Stop the node's own kube-proxy until the eyes close.
    SuspendProxy,
    /// Run a kube-proxy in the network namespace of a pod.
    StartRival {
        /// The pod's name.
        pod: String,
        /// The program and its arguments.
        command: Vec<String>,
    },
    /// End it.
    EndRival,
    /// Whether it rests: has no child, and does nothing for a moment.
    Rests,
    /// Watch a kernel in a pod's network namespace. Answered at once, then with each server that is newer than those
    /// before, and at the end.
    Watch {
        /// The pod's name.
        pod: String,
        /// For what.
        watch: Watched,
    },
    /// What a process takes.
    Usage(Who),
    /// Send a process a signal, by number.
    Signal(Who, i32),
}

/// A process of the node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Who {
    /// The first process of the pod of this name that is not a shell's child of it.
    Pod(String),
    /// The kube-proxy that the eyes started.
    Rival,
    /// The first process whose program has this name.
    Program(String),
}

/// How a kernel balances, and so how it is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kernel {
    /// By IPVS: it is asked for its newest servers again and again.
    Ipvs,
    /// By iptables: each end of an iptables command is looked at.
    Iptables,
}

/// What a kernel is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// By which means.
    pub kernel: Kernel,
    /// For servers whose addresses grow, until the last is there.
    pub servers: Span,
    /// Between two looks, where there is nothing to be told by.
    pub pause: Duration,
}

/// Servers from the first to the last: the newer one has the higher address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The oldest.
    pub first: SocketAddrV4,
    /// The newest.
    pub last: SocketAddrV4,
}

impl Span {
    /// What a kernel is watched for by whoever waits for them.
    #[must_use]
    pub fn watched(self, kernel: Kernel, pause: Duration) -> Watched {
        Watched {
            kernel,
            servers: self,
            pause,
        }
    }

    /// Whether a server is one of them.
    #[must_use]
    pub fn holds(&self, server: SocketAddrV4) -> bool {
        (self.first..=self.last).contains(&server)
    }
}

/// What the eyes answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Nanoseconds of the Unix epoch.
    Time(u64),
    /// Done, or begun.
    Done,
    /// It does.
    Yes,
    /// It doesn't.
    No,
    /// The kernel holds a newer server than before.
    Seen(Sight),
    /// It has long held no newer one, and not the last. What it holds instead, in part.
    Missed(String),
    /// What a process takes.
    Usage(Usage),
    /// It could not be done.
    Failed(String),
}

/// When a server was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// The server.
    pub server: SocketAddrV4,
    /// When it was there, by the node's clock.
    pub at: u64,
    /// When the kernel was last known to hold none so new.
    pub not_before: u64,
    /// How long the threads of the pod's process had waited for a processor until then, since they began, in nanoseconds.
    pub waited: u64,
}

/// What a process takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Resident memory, in KiB.
    pub resident: u64,
    /// The part of it that belongs to no file.
    pub anonymous: u64,
    /// Threads.
    pub threads: u64,
    /// Open file descriptors.
    pub descriptors: u64,
    /// Time on processors since its start, in milliseconds.
    pub busy: u64,
}
