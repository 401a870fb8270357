//! The agent's one loop: facts come in, and only it touches the kernel.

mod surroundings;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crd::{AgentRole, AgentStatus};
use k8s_openapi::jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::addresses::Addresses;
use crate::converge::{Converged, Converger, Pace};
use crate::dataplane::{Dataplane, Depth, Error, Observed};
use crate::desired::Desired;
use crate::drain::history::History;
use crate::drift::SysctlDrift;
use crate::facts::{Fact, Facts, Wanted};
use crate::finding::{Finding, Severity};
use crate::health::Targets;
use crate::http::{Readiness, Refresh};
use crate::metrics::Metrics;
use crate::report::{Identity, Situation, Trouble, agent_status};
use crate::sysctl::{Needs, Sysctls};
use crate::trust::Trust;
use crate::ways::{self, Ways};
use crate::{link, prepare, pressure};

/// Changes that come together are done together.
const COALESCE: Duration = Duration::from_millis(20);
/// How often draining connections are counted.
const DRAIN_POLL: Duration = Duration::from_secs(1);
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
    is_draining: bool,
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
            is_draining: false,
            drains: History::default(),
            next_look: None,
            leaving: None,
        }
    }

    /// Serves until told to stop. It never clears the table.
    pub async fn run(mut self, mut inlets: Inlets) {
        let mut resync = Instant::now();
        loop {
            self.outlets.heartbeat.send_replace(Instant::now());
            let depth = if resync <= Instant::now() {
                Depth::All
            } else {
                Depth::Draining
            };
            let had_failed = self.failures > 0;
            if depth == Depth::All || self.blocking().is_some() {
                self.look_around().await;
            }
            if depth == Depth::All {
                resync = Instant::now() + self.settings.resync;
                self.ways.forget();
                self.held = None;
            }
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
            self.wait(&mut inlets, resync).await;
        }
    }

    /// Waits until there is a reason to look at the kernel again.
    async fn wait(&mut self, inlets: &mut Inlets, resync: Instant) {
        let wake_up = self.next_wake_up(resync);
        loop {
            tokio::select! {
                Some(fact) = inlets.facts.recv() => return self.take(fact, &mut inlets.facts).await,
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

    /// Takes a fact, and those that come right after it.
    async fn take(&mut self, first: Fact, facts: &mut mpsc::Receiver<Fact>) {
        let before = self.facts.refusal().cloned();
        self.facts.take(first, &self.settings.trust);
        let end = Instant::now() + COALESCE;
        while let Ok(Some(fact)) = timeout_at(end, facts.recv()).await {
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
        if self.is_draining || self.leaving.is_some() {
            wake_up = wake_up.min(now + DRAIN_POLL);
        }
        if self.failures > 0 {
            let pause = Duration::from_secs(1 << (self.failures - 1).min(4)).min(PATIENCE);
            wake_up = wake_up.min(now + pause);
        }
        wake_up
    }

    /// Looks at what is around the table: sysctls, the interface.
    async fn look_around(&mut self) {
        let (sysctls, needs) = (Sysctls::default(), self.needs());
        let changed = self.sysctl_drift.find(&sysctls, &needs);
        let found = prepare::read(prepare::FINDINGS.as_ref());
        let before = std::mem::replace(&mut self.findings, found);
        self.findings.extend(sysctls.set(&needs));
        self.needs = Some(needs);
        let late = prepare::too_early(prepare::FINDINGS.as_ref(), &self.findings);
        self.findings.extend(late);
        if let Some(observed) = &self.observed {
            self.findings
                .extend(pressure::findings(observed, pressure::tracked()));
        }
        self.findings.sort();
        let known = before.iter().chain(&self.findings);
        let drift = self.sysctl_drift.tell(changed, known);
        self.outlets.metrics.drift.inc_by(drift as u64);
        match link::mtu().await {
            Ok(mtu) => self.mtu = mtu,
            Err(error) => warn!(error = &error as &dyn std::error::Error, "MTU not known"),
        }
    }

    /// Brings the kernel to what is wanted; before that is known, only looks at what is there.
    async fn converge(&mut self, depth: Depth) {
        if self.observed.is_none() {
            self.adopt().await;
        }
        let addresses = &self.settings.addresses;
        let Some(wanted) = ways::wanted(&self.facts, addresses, &mut self.ways).await else {
            return self.observe(depth).await;
        };
        if let Err(error) = self.get_ready(&wanted.desired).await {
            self.learn(Err(Error::Address(error)));
            return;
        }
        let pace = Pace {
            drain: wanted.drain_timeout,
            warm_up: wanted.warm_up,
        };
        let table = wanted.desired.table;
        let depth = if self.failures > 0 { Depth::All } else { depth };
        let result = self
            .with_kernel(move |kernel| kernel.converge(&table, pace, depth))
            .await;
        let is_done = result.is_ok();
        self.learn(result);
        if is_done {
            self.has_table = true;
            if self.programmed != Some(wanted.generation) {
                info!(generation = wanted.generation, "programmed");
                self.programmed = Some(wanted.generation);
            }
            if let Some(changed) = self.facts.take_changed() {
                self.outlets.metrics.programmed_in(changed.elapsed());
            }
        }
    }

    fn needs(&self) -> Needs {
        let needs = Needs::of(self.settings.addresses.families());
        let Some(wanted) = self.wanted() else { return needs };
        let timeouts = wanted.desired.table.timeouts;
        Needs {
            udp_seconds: timeouts.map_or(needs.udp_seconds, |timeouts| timeouts.udp_seconds),
            bypass: wanted.desired.bypass,
            ..needs
        }
    }

    async fn observe(&mut self, depth: Depth) {
        let result = self.with_kernel(move |kernel| kernel.observe(depth)).await;
        self.learn(result.map(|observed| Converged {
            observed,
            steps: 0,
            drift: 0,
            is_draining: false,
            ended: Vec::new(),
            next_look: None,
        }));
    }

    fn wanted(&self) -> Option<Wanted> {
        self.facts.wanted(&self.settings.addresses, &self.ways)
    }

    /// Runs a job on the kernel, off the loop's thread. After a panic the next job starts from what is in the kernel.
    async fn with_kernel<T, F>(&mut self, job: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Converger) -> Result<T, Error> + Send + 'static,
    {
        let fresh = || Converger::new(Dataplane::new(&self.settings.addresses.families()));
        let mut converger = self.converger.take().unwrap_or_else(fresh);
        let work = tokio::task::spawn_blocking(move || {
            let result = job(&mut converger);
            (converger, result)
        });
        match work.await {
            Ok((converger, result)) => {
                self.converger = Some(converger);
                result
            }
            Err(error) => Err(Error::Panicked(error)),
        }
    }

    fn learn(&mut self, result: Result<Converged, Error>) {
        match result {
            Ok(converged) => {
                self.failures = 0;
                self.trouble = None;
                self.is_draining = converged.is_draining;
                self.drains.note(&converged.ended, Timestamp::now());
                self.outlets.metrics.drained(&converged.ended);
                self.next_look = converged.next_look.map(Instant::from_std);
                self.outlets.metrics.steps.inc_by(converged.steps as u64);
                self.outlets.metrics.drift.inc_by(converged.drift as u64);
                // A table found at start was good when it was made.
                self.has_table |= is_complete(&converged.observed);
                self.observed = Some(converged.observed);
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                let trouble = Trouble::from(&error);
                self.outlets.metrics.failed(trouble.reason);
                if self.trouble.as_ref() != Some(&trouble) {
                    error!(
                        error = &error as &dyn std::error::Error,
                        "the kernel is not as wanted; trying again"
                    );
                }
                self.trouble = Some(trouble);
            }
        }
    }

    /// Reads the counters anew, for the metrics.
    async fn refresh(&mut self) {
        let result = self
            .with_kernel(|kernel| Ok((kernel.observe(Depth::Servers)?, kernel.info()?)))
            .await;
        if let Ok((observed, info)) = result {
            self.outlets
                .metrics
                .observed(observed, Some(info.connection_table_size));
        }
    }

    /// Tells status, readiness and metrics.
    fn tell(&self) {
        let readiness = self.readiness();
        let metrics = &self.outlets.metrics;
        metrics.ready.set(i64::from(readiness.is_ok()));
        metrics.generation.set(self.programmed.unwrap_or_default());
        metrics
            .findings
            .set(i64::try_from(self.findings.len()).unwrap_or(i64::MAX));
        if let Some(observed) = &self.observed {
            metrics.observed(observed.clone(), None);
        }
        let wanted = self.wanted();
        if let Some(wanted) = &wanted {
            self.tell_targets(&wanted.desired);
        }
        let status = agent_status(&Situation {
            identity: self.settings.identity.clone(),
            mtu: self.mtu,
            wanted: wanted.as_ref(),
            refusal: self.facts.refusal(),
            programmed: self.programmed,
            observed: self.observed.as_deref(),
            findings: &self.findings,
            trouble: self.trouble.as_ref(),
            role: readiness.is_ok().then_some(AgentRole::Active),
            drains: self.drains.newest(),
        });
        self.outlets.status.send_if_modified(|old| {
            let is_new = *old != status;
            *old = status;
            is_new
        });
        self.outlets.readiness.send_if_modified(|old| {
            let is_new = *old != readiness;
            if is_new {
                info!(?readiness, "readiness changed");
            }
            *old = readiness;
            is_new
        });
    }

    /// Tells which servers to ask, and where all fail.
    fn tell_targets(&self, desired: &Desired) {
        let targets = &desired.targets;
        self.outlets.targets.send_if_modified(|old| {
            let is_new = **old != *targets;
            if is_new {
                *old = Arc::new(targets.clone());
            }
            is_new
        });
        let targets = self.outlets.targets.borrow().clone();
        let probes = &self.outlets.metrics.probes;
        for listener in probes.wanted(targets, &desired.panicking) {
            warn!(%listener, "all servers fail their health check, so all stay");
        }
    }

    /// It stays so while it leaves: Kubernetes knows itself whether the pod goes, or only the container is replaced.
    fn readiness(&self) -> Readiness {
        match (&self.trouble, self.blocking()) {
            (Some(trouble), _) if !self.has_table => Err(format!("{}: {}", trouble.reason, trouble.message)),
            (_, Some(finding)) => Err(format!("{}: {finding}", finding.reason())),
            _ if !self.has_table => Err("no table yet".to_owned()),
            _ => Ok(()),
        }
    }

    fn blocking(&self) -> Option<&Finding> {
        self.findings
            .iter()
            .find(|finding| finding.severity == Severity::Blocking)
    }

    fn may_leave(&self) -> bool {
        let Some(since) = self.leaving else { return false };
        let Farewell::Linger(limit) = self.settings.farewell else {
            return true;
        };
        let drain = self.wanted().map(|wanted| wanted.drain_timeout);
        let limit = limit.or(drain).unwrap_or_default().max(LINGER);
        let waited = since.elapsed();
        let active: u32 = self
            .observed
            .iter()
            .flat_map(|it| it.servers.values())
            .map(|it| it.active_connections)
            .sum();
        waited >= limit || waited >= LINGER && active == 0
    }
}

/// Whether a table that was found serves something.
fn is_complete(observed: &Observed) -> bool {
    let mut services = observed.table.services.values();
    observed.has_rules && services.any(|service| !service.servers.is_empty())
}
