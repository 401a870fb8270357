//! Brings the kernel to the wanted table: plans from what is known, and applies. What the kernel acknowledged it holds.
//!
//! Nobody else should write what is ours, so that between two looks at all of it only that is read which may have
//! changed by itself: the connections of servers whose drain may end. What was changed is read back a moment later,
//! when nobody waits for it.

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

/// What one convergence did and found.
#[derive(Debug)]
pub struct Converged {
    /// What the kernel holds now; the same as before, if nothing was read.
    pub observed: Arc<Observed>,
    /// How many steps were done.
    pub steps: usize,
    /// How many steps it took to mend what somebody else had changed.
    pub drift: usize,
    /// Whether servers still drain.
    pub is_draining: bool,
    /// The drains that ended.
    pub ended: Vec<Ended>,
    /// When to look again, though nothing new is wanted: a weight is to grow, or changes are to be read back.
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

    /// Brings the kernel to `wanted` at that pace.
    pub fn converge(&mut self, wanted: &Table, pace: Pace, depth: Depth) -> Result<Converged, Error> {
        let (mut observed, mut drift) = self.look(wanted, pace, depth)?;
        let (mut steps, mut ended) = self.steps(wanted, pace, &observed);
        if steps.is_empty() && self.proof.is_due() {
            (observed, drift) = self.prove(&observed, wanted)?;
            let (again, others) = self.steps(wanted, pace, &observed);
            steps = again;
            ended.extend(others);
        }
        if !steps.is_empty() {
            log(&steps);
            self.dataplane.apply(&steps)?;
            let before = Arc::unwrap_or_clone(observed);
            observed = Arc::new(self.dataplane.acknowledged(&steps, before, wanted));
            self.proof.demand(steps.iter().filter_map(Step::spot));
        }
        self.known = Some(observed.clone());
        Ok(Converged {
            observed,
            steps: steps.len(),
            drift,
            is_draining: self.drain.is_busy(),
            ended,
            next_look: self.warm_up.next().into_iter().chain(self.proof.due()).min(),
        })
    }

    /// What to change right now: new servers warm up, and those that go drain. Mostly there are neither, and then one
    /// plan is enough.
    fn steps(&mut self, wanted: &Table, pace: Pace, observed: &Observed) -> (Vec<Step>, Vec<Ended>) {
        let steps = plan(&observed.table, wanted);
        if gone(&steps).next().is_none() && !self.drain.is_busy() && pace.warm_up.is_zero() {
            self.warm_up = WarmUp::default();
            return (steps, Vec::new());
        }
        let mut table = wanted.clone();
        let active = observed.active(gone(&steps).chain(self.drain.servers()));
        let current = Current {
            now: Instant::now(),
            table: &observed.table,
            active: &active,
        };
        self.warm_up.scale(&mut table, current, pace.warm_up);
        let ended = self.drain.extend(&mut table, current, pace.drain);
        (plan(&observed.table, &table), ended)
    }

    /// What the kernel holds, and how much of it somebody else changed. What we knew is forgotten until all went
    /// well: what is left half done is no drift.
    fn look(&mut self, wanted: &Table, pace: Pace, depth: Depth) -> Result<(Arc<Observed>, usize), Error> {
        let Some(known) = self.known.take() else {
            let observed = self.dataplane.read(depth, wanted)?;
            return Ok((Arc::new(observed), 0));
        };
        let (found, look) = if depth == Depth::Draining {
            let mut undecided = self.drain.undecided(Instant::now(), pace.drain);
            if pace.drain.is_zero() {
                undecided.extend(gone(&plan(&known.table, wanted)).map(|(listener, _)| listener));
            }
            if undecided.is_empty() {
                return Ok((known, 0));
            }
            let spots = undecided.into_iter().map(Spot::Listener).collect();
            let again = self.dataplane.read_again(&spots, (*known).clone(), wanted);
            (again?, Look::Part)
        } else {
            self.proof.forget();
            (self.dataplane.read(depth, wanted)?, Look::Whole)
        };
        let drift = self.tell_drift(&plan(&found.table, &known.table), look);
        Ok((Arc::new(found), drift))
    }

    /// Reads back what was changed. What differs from what the kernel acknowledged somebody else has changed, unless
    /// it is found so again and again.
    fn prove(&mut self, known: &Observed, wanted: &Table) -> Result<(Arc<Observed>, usize), Error> {
        let spots = self.proof.take();
        let found = self.dataplane.read_again(&spots, known.clone(), wanted)?;
        let mending = plan(&found.table, &known.table);
        self.proof.check(&mending)?;
        let drift = self.tell_drift(&mending, Look::Part);
        Ok((Arc::new(found), drift))
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
