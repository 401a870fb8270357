//! What the agent is made of and whom it speaks with.

use std::sync::Arc;
use std::time::Duration;

use crd::AgentStatus;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::addresses::Addresses;
use crate::endpoints::Trust;
use crate::facts::Fact;
use crate::health::Targets;
use crate::http::{Readiness, Refresh};
use crate::metrics::Metrics;
use crate::report::Identity;

/// What the agent is told at start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who it is.
    pub identity: Identity,
    /// Its own addresses.
    pub addresses: Addresses,
    /// Whose addresses it takes.
    pub trust: Trust,
    /// How often everything is read back.
    pub resync: Duration,
    /// What it does when told to stop.
    pub farewell: Farewell,
}

/// What to do when told to stop. The table stays in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// Go at once: the kernel goes on alone.
    AtOnce,
    /// The pod is going: serve on until nobody is connected, for at most so long, or the object's drain timeout.
    Linger(Option<Duration>),
}

/// The ends of the channels that the agent speaks through.
pub struct Outlets {
    /// Its entry in the object's status.
    pub status: watch::Sender<AgentStatus>,
    /// Whether it attracts traffic.
    pub readiness: watch::Sender<Readiness>,
    /// When it last was awake.
    pub heartbeat: watch::Sender<Instant>,
    /// Which servers are to be asked whether they serve.
    pub targets: watch::Sender<Arc<Targets>>,
    /// What it measures.
    pub metrics: Arc<Metrics>,
}

/// The ends of the channels that the agent is spoken to through.
pub struct Inlets {
    /// What is learnt.
    pub facts: mpsc::Receiver<Fact>,
    /// Who wants fresh counters.
    pub refreshes: mpsc::Receiver<Refresh>,
    /// Told to stop.
    pub stop: CancellationToken,
}
