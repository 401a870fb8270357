//! The agent's one loop: facts come in, and only it touches the kernel.

mod kernel;
mod resync;
mod surroundings;
mod tell;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crd::AgentStatus;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::addresses::Addresses;
use crate::converge::Converger;
use crate::dataplane::{Depth, Observed};
use crate::drain::history::History;
use crate::drift::SysctlDrift;
use crate::facts::{Fact, Facts, Wanted};
use crate::finding::Finding;
use crate::health::Targets;
use crate::http::{Readiness, Refresh};
use crate::metrics::Metrics;
use crate::report::{Identity, Trouble};
use crate::sysctl::Needs;
use crate::trust::Trust;
use crate::ways::{self, Ways};
use resync::Resync;

/// A change that comes after a rest is done at once. Those that come so soon after the last work are done together, so
/// that a stream of changes costs a bounded part of the processor.
const REST: Duration = Duration::from_millis(20);
/// How often connections are counted before it leaves.
const LEAVING_POLL: Duration = Duration::from_secs(1);
/// The longest pause after failures in a row: a missing module may be loaded any time.
const PATIENCE: Duration = Duration::from_secs(15);
/// The least time between two wake-ups is far below what the liveness probe allows.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// So long clients may still be sent here after the pod was told to go.
const LINGER: Duration = Duration::from_secs(5);

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

/// The agent.
pub struct Agent {
    settings: Settings,
    outlets: Outlets,
    facts: Facts,
    /// Computed once a wake-up; `None` until all is known.
    wanted: Option<Arc<Wanted>>,
    /// Absent while it is at work, or after a panic in it.
    converger: Option<Converger>,
    observed: Option<Arc<Observed>>,
    /// Some good table is in the kernel: this attracts traffic. The generation is only told.
    has_table: bool,
    programmed: Option<i64>,
    trouble: Option<Trouble>,
    findings: Vec<Finding>,
    sysctl_drift: SysctlDrift,
    mtu: Option<u32>,
    ways: Ways,
    /// The balancer's addresses that are known to be taken.
    held: Option<BTreeSet<IpAddr>>,
    /// What the sysctls were set for.
    needs: Option<Needs>,
    failures: u32,
    drains: History,
    /// When the kernel is to be looked at, though nothing new is wanted.
    next_look: Option<Instant>,
    leaving: Option<Instant>,
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

impl Agent {
    /// An agent that knows nothing yet.
    #[must_use]
    pub fn new(settings: Settings, outlets: Outlets) -> Self {
        Self {
            settings,
            outlets,
            facts: Facts::default(),
            wanted: None,
            converger: None,
            observed: None,
            has_table: false,
            programmed: None,
            trouble: None,
            findings: Vec::new(),
            sysctl_drift: SysctlDrift::default(),
            mtu: None,
            ways: Ways::default(),
            held: None,
            needs: None,
            failures: 0,
            drains: History::default(),
            next_look: None,
            leaving: None,
        }
    }

    /// Serves until told to stop. It never clears the table.
    pub async fn run(mut self, mut inlets: Inlets) {
        let mut resync = Resync::new(self.settings.resync, Instant::now());
        loop {
            self.outlets.heartbeat.send_replace(Instant::now());
            let depth = if resync.begin(Instant::now()) {
                Depth::All
            } else if self.leaving.is_some() {
                // It goes when no connection is left, so all are counted.
                Depth::Servers
            } else {
                Depth::Draining
            };
            if depth == Depth::All {
                self.ways.forget();
                self.held = None;
            }
            self.want().await;
            if depth == Depth::All || self.blocking().is_some() {
                self.look_around().await;
            }
            let had_failed = self.failures > 0;
            self.converge(depth).await;
            if had_failed && self.failures == 0 {
                // A module that came brings its sysctls with it.
                self.look_around().await;
            }
            self.tell();
            if self.may_leave() {
                info!("leaving; the table stays");
                return;
            }
            self.wait(&mut inlets, &mut resync).await;
        }
    }

    /// Computes what is wanted now.
    async fn want(&mut self) {
        if self.observed.is_none() {
            self.adopt().await;
        }
        let mut wanted = ways::wanted(&self.facts, &self.settings.addresses, &mut self.ways).await;
        if let (Some(wanted), Some(before)) = (&mut wanted, &self.wanted) {
            wanted.desired.table.share(&before.desired.table);
        }
        self.wanted = wanted.map(Arc::new);
    }

    /// Waits until there is a reason to look at the kernel again.
    async fn wait(&mut self, inlets: &mut Inlets, resync: &mut Resync) {
        let wake_up = self.next_wake_up(resync.next());
        let rested = Instant::now() + REST;
        loop {
            tokio::select! {
                Some(fact) = inlets.facts.recv() => {
                    let learnt = gather(fact, &mut inlets.facts, rested).await;
                    resync.put_off(Instant::now());
                    return self.take(learnt);
                }
                Some(done) = inlets.refreshes.recv() => {
                    self.refresh().await;
                    let _ = done.send(());
                }
                () = inlets.stop.cancelled(), if self.leaving.is_none() => {
                    info!("told to stop");
                    self.leaving = Some(Instant::now());
                    return;
                }
                () = sleep_until(wake_up) => return,
            }
        }
    }

    fn take(&mut self, learnt: Vec<Fact>) {
        let before = self.facts.refusal().cloned();
        for fact in learnt {
            self.facts.take(fact, &self.settings.trust);
        }
        if let Some(refusal) = self
            .facts
            .refusal()
            .filter(|refusal| before.as_ref() != Some(refusal))
        {
            let (generation, problem) = (refusal.generation, &refusal.message);
            error!(
                generation,
                problem, "the object is not served; the previous one still is"
            );
        }
    }

    fn next_wake_up(&self, resync: Instant) -> Instant {
        let now = Instant::now();
        let mut wake_up = resync.min(now + HEARTBEAT);
        if let Some(look) = self.next_look {
            wake_up = wake_up.min(look);
        }
        if self.leaving.is_some() {
            wake_up = wake_up.min(now + LEAVING_POLL);
        }
        if self.failures > 0 {
            let pause = Duration::from_secs(1 << (self.failures - 1).min(4)).min(PATIENCE);
            wake_up = wake_up.min(now + pause);
        }
        wake_up
    }

    fn may_leave(&self) -> bool {
        let Some(since) = self.leaving else { return false };
        let Farewell::Linger(limit) = self.settings.farewell else {
            return true;
        };
        let drain = self.wanted.as_ref().map(|wanted| wanted.drain_timeout);
        let limit = limit.or(drain).unwrap_or_default().max(LINGER);
        let waited = since.elapsed();
        let active: u32 = self
            .observed
            .iter()
            .flat_map(|it| it.servers())
            .map(|(.., entry)| entry.active_connections)
            .sum();
        waited >= limit || waited >= LINGER && active == 0
    }
}

/// The first, those that wait behind it, and those that come before all rested.
async fn gather<T>(first: T, more: &mut mpsc::Receiver<T>, rested: Instant) -> Vec<T> {
    let mut all = vec![first];
    while let Ok(Some(next)) = timeout_at(rested, more.recv()).await {
        all.push(next);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn after_a_rest_nobody_waits_for_more() {
        let (sender, mut receiver) = mpsc::channel(4);
        sender.send(2).await.expect("room");
        // The sender is alive: to wait for more would be to wait for ever.
        let rested = Instant::now();
        assert_eq!(gather(1, &mut receiver, rested).await, [1, 2]);
        assert_eq!(gather(3, &mut receiver, rested).await, [3]);
    }

    #[tokio::test]
    async fn what_comes_before_all_rested_is_done_together() {
        let (sender, mut receiver) = mpsc::channel(4);
        let later = async move {
            tokio::task::yield_now().await;
            sender.send(2).await
        };
        let rested = Instant::now() + Duration::from_hours(1);
        let (learnt, sent) = tokio::join!(gather(1, &mut receiver, rested), later);
        assert_eq!((learnt, sent), (vec![1, 2], Ok(())));
    }
}
