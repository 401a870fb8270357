//! What a suite and its eyes in a node tell each other: one JSON object a line.

use std::net::SocketAddrV4;

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
    /// Watch a kernel until it holds a server. Answered twice: at once, and when it does.
    Watch {
        /// In whose network namespace.
        pod: String,
        /// By which means.
        kernel: Kernel,
        /// The server.
        server: SocketAddrV4,
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
    /// By IPVS: its list is read again and again.
    Ipvs,
    /// By iptables: each end of an iptables command is looked at.
    Iptables,
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
    /// The kernel holds the server.
    Seen(Sight),
    /// It does not, and patience is over. What it holds instead, in part.
    Missed(String),
    /// What a process takes.
    Usage(Usage),
    /// It could not be done.
    Failed(String),
}

/// When a server was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// When it was there, by the node's clock.
    pub at: u64,
    /// When the kernel was last known not to hold it.
    pub not_before: u64,
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
