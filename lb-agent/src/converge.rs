//! Brings the kernel to the wanted table: plans from what is known, and applies. What the kernel acknowledged it holds.
//!
//! Nobody else should write what is ours, so that between two looks at all of it only that is read which may have
//! changed by itself: the connections of servers whose drain may end. That is done when nobody waits for it, and so is
//! reading back what was changed, a moment later.

mod proof;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, info};

use crate::dataplane::{Dataplane, Depth, Error, Observed};
use crate::drain::{Current, Drain, Ended};
use crate::drift::{Drift, Look};
use crate::plan::{Spot, Step, plan};
use crate::table::{Listener, Table};
use crate::warm_up::WarmUp;
use proof::Proof;

/// So many steps are logged one by one; of more, only how many there are of each kind.
const LOGGED: usize = 32;

/// The kernel, and what we know of it.
pub struct Converger {
    dataplane: Dataplane,
    drain: Drain,
    warm_up: WarmUp,
    drift: Drift,
    proof: Proof,
    /// What the kernel held when we left it. Absent before the first look, and after anything went wrong.
    known: Option<Arc<Observed>>,
}

/// What is wanted now.
#[derive(Clone, Copy)]
struct Goal<'a> {
    table: &'a Table,
    pace: Pace,
    now: Instant,
}

/// What the kernel holds, as far as it is known.
struct View {
    observed: Arc<Observed>,
    /// Whether it was read just now, as far as it may have changed by itself.
    is_read: bool,
    /// How much of it somebody else had changed.
    drift: usize,
}

impl View {
    fn remembered(observed: Arc<Observed>) -> Self {
        Self {
            observed,
            is_read: false,
            drift: 0,
        }
    }

    fn read(observed: Observed, drift: usize) -> Self {
        Self {
            observed: Arc::new(observed),
            is_read: true,
            drift,
        }
    }
}

/// What one convergence did and found.
#[derive(Debug)]
pub struct Converged {
    /// What the kernel holds now; the same as before, if nothing was read.
    pub observed: Arc<Observed>,
    /// How many steps were done.
    pub steps: usize,
    /// How many steps it took to mend what somebody else had changed.
    pub drift: usize,
    /// The drains that ended.
    pub ended: Vec<Ended>,
    /// When to look again, though nothing new is wanted: a weight is to grow, a drain may end, or changes are to be read
    /// back.
    pub next_look: Option<Instant>,
}

/// How fast servers come and go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// How long servers that are gone may drain.
    pub drain: Duration,
    /// How long the share of a new server grows.
    pub warm_up: Duration,
}

impl Converger {
    /// Over a data plane.
    #[must_use]
    pub fn new(dataplane: Dataplane) -> Self {
        Self {
            dataplane,
            drain: Drain::default(),
            warm_up: WarmUp::default(),
            drift: Drift::default(),
            proof: Proof::default(),
            known: None,
        }
    }

    /// Brings the kernel to `wanted` at that pace. News does not wait until what was done before it is read back, unless
    /// that is late.
    pub fn converge(&mut self, wanted: &Table, pace: Pace, depth: Depth) -> Result<Converged, Error> {
        let goal = Goal {
            table: wanted,
            pace,
            now: Instant::now(),
        };
        let mut view = match self.known.take() {
            Some(known) if depth == Depth::Draining => View::remembered(known),
            known => self.look(known, goal, depth)?,
        };
        let (mut steps, mut ended) = self.steps(goal, &view);
        if !view.is_read && self.must_look(goal, steps.is_empty()) {
            view = self.look_again(&view.observed, goal)?;
            let (again, others) = self.steps(goal, &view);
            steps = again;
            ended.extend(others);
        }
        let mut observed = view.observed;
        if !steps.is_empty() {
            let applied = self.dataplane.apply(&steps);
            // Not before: on a busy node whoever copies the log would get the processor first.
            log(&steps);
            applied?;
            let before = Arc::unwrap_or_clone(observed);
            observed = Arc::new(self.dataplane.acknowledged(&steps, before, wanted));
            self.proof.demand(steps.iter().filter_map(Step::spot), goal.now);
        }
        self.known = Some(observed.clone());
        let looks = [self.warm_up.next(), self.proof.due(), self.drain.due(pace.drain)];
        Ok(Converged {
            observed,
            steps: steps.len(),
            drift: view.drift,
            ended,
            next_look: looks.into_iter().flatten().min(),
        })
    }

    /// What to change right now: new servers warm up, and those that go drain. Mostly there are neither, and then one
    /// plan is enough.
    fn steps(&mut self, goal: Goal<'_>, view: &View) -> (Vec<Step>, Vec<Ended>) {
        let observed = &view.observed;
        let steps = plan(&observed.table, goal.table);
        if gone(&steps).next().is_none() && !self.drain.is_busy() && goal.pace.warm_up.is_zero() {
            self.warm_up = WarmUp::default();
            return (steps, Vec::new());
        }
        let mut table = goal.table.clone();
        let active = observed.active(gone(&steps).chain(self.drain.servers()));
        let current = Current {
            now: goal.now,
            table: &observed.table,
            active: &active,
            is_counted: view.is_read,
        };
        self.warm_up.scale(&mut table, current, goal.pace.warm_up);
        let ended = self.drain.extend(&mut table, current, goal.pace.drain);
        (plan(&observed.table, &table), ended)
    }

    /// Whether to read back now what was changed, and to count the connections of servers that drain.
    fn must_look(&self, goal: Goal<'_>, is_idle: bool) -> bool {
        let Goal { pace, now, .. } = goal;
        let looks = [self.drain.due(pace.drain), self.proof.due()];
        let is_due = looks.into_iter().flatten().any(|due| due <= now);
        is_idle && is_due || self.drain.is_late(pace.drain, now)
    }

    /// What the kernel holds, and how much of it somebody else changed. What we knew is forgotten until all went
    /// well: what is left half done is no drift.
    fn look(&mut self, known: Option<Arc<Observed>>, goal: Goal<'_>, depth: Depth) -> Result<View, Error> {
        let observed = self.dataplane.read(depth, goal.table)?;
        self.proof.forget();
        let mending = known.map(|known| plan(&observed.table, &known.table));
        let drift = mending.map_or(0, |mending| self.tell_drift(&mending, Look::Whole));
        Ok(View::read(observed, drift))
    }

    /// The same of that part which we changed, or in which a drain may end. What differs from what the kernel
    /// acknowledged somebody else has changed, unless it is found so again and again.
    fn look_again(&mut self, known: &Observed, goal: Goal<'_>) -> Result<View, Error> {
        let mut spots = self.proof.take();
        let undecided = self.drain.undecided(goal.pace.drain, goal.now);
        spots.extend(undecided.into_iter().map(Spot::Listener));
        let observed = self.dataplane.read_again(&spots, known.clone(), goal.table)?;
        let mending = plan(&observed.table, &known.table);
        self.proof.check(&mending)?;
        let drift = self.tell_drift(&mending, Look::Part);
        Ok(View::read(observed, drift))
    }

    fn tell_drift(&mut self, mending: &[Step], look: Look) -> usize {
        self.drift.tell(mending.iter().map(ToString::to_string), look)
    }

    /// Reads what the kernel holds, and changes nothing.
    pub fn observe(&mut self, depth: Depth) -> Result<Arc<Observed>, Error> {
        self.dataplane.read(depth, &Table::default()).map(Arc::new)
    }

    /// The kernel's own facts about IPVS.
    pub fn info(&mut self) -> Result<ipvs::Info, Error> {
        self.dataplane.info()
    }
}

/// The servers that these steps remove.
fn gone(steps: &[Step]) -> impl Iterator<Item = (Listener, SocketAddr)> {
    steps.iter().filter_map(|step| match step {
        Step::RemoveServer(listener, at) => Some((*listener, *at)),
        _ => None,
    })
}

fn log(steps: &[Step]) {
    if steps.len() <= LOGGED {
        for step in steps {
            info!(%step, "apply");
        }
        return;
    }
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for step in steps {
        debug!(%step, "apply");
        *kinds.entry(step.kind()).or_default() += 1;
    }
    info!(steps = ?kinds, "apply");
}
