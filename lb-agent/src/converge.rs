//! Brings the kernel to the wanted table: reads, plans, applies, reads back.
//!
//! Nobody else should write what is ours, so that between two looks at all of it only that is read which a change
//! touches, or which may have changed by itself: the connections of servers that go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, info};

use crate::dataplane::{Dataplane, Depth, Error, Observed};
use crate::drain::{Current, Drain, Ended};
use crate::drift::{Drift, Look};
use crate::plan::{Spot, Step, plan};
use crate::table::{Listener, Table, Weight};

/// So many steps are logged one by one; of more, only how many there are of each kind.
const LOGGED: usize = 32;
use crate::warm_up::WarmUp;

/// The kernel, and what we know of it.
pub struct Converger {
    dataplane: Dataplane,
    drain: Drain,
    warm_up: WarmUp,
    drift: Drift,
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
    /// When the weight of a new server is to grow.
    pub next_growth: Option<Instant>,
}

/// How servers come and go.
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
            known: None,
        }
    }

    /// Brings the kernel to `wanted` at that pace.
    pub fn converge(&mut self, wanted: &Table, pace: Pace, depth: Depth) -> Result<Converged, Error> {
        let (mut observed, drift) = self.look(wanted, depth)?;
        let mut table = wanted.clone();
        let now = Instant::now();
        self.warm_up.scale(&mut table, &observed.table, pace.warm_up, now);
        let active = observed.active();
        let current = Current {
            now,
            table: &observed.table,
            active: &active,
        };
        let ended = self.drain.extend(&mut table, current, pace.drain);
        let steps = plan(&observed.table, &table);
        if !steps.is_empty() {
            log(&steps);
            self.dataplane.apply(&steps)?;
            observed = self.look_back(observed, &steps, wanted)?;
            if let Some(step) = plan(&observed.table, &table).first() {
                return Err(Error::NotTaken(step.to_string()));
            }
        }
        self.known = Some(observed.clone());
        Ok(Converged {
            observed,
            steps: steps.len(),
            drift,
            is_draining: self.drain.is_busy(),
            ended,
            next_growth: self.warm_up.next(),
        })
    }

    /// What the kernel holds, and how much of it somebody else changed. What we knew is forgotten until all went
    /// well: what is left half done is no drift.
    fn look(&mut self, wanted: &Table, depth: Depth) -> Result<(Arc<Observed>, usize), Error> {
        let Some(known) = self.known.take() else {
            let observed = self.dataplane.read(depth, &wanted.rules)?;
            return Ok((Arc::new(observed), 0));
        };
        let (found, look) = if depth == Depth::Draining {
            let going = going(&known.table, wanted);
            if going.is_empty() {
                return Ok((known, 0));
            }
            let again = self.dataplane.read_again(&going, (*known).clone(), &wanted.rules);
            (again?, Look::Part)
        } else {
            (self.dataplane.read(depth, &wanted.rules)?, Look::Whole)
        };
        let mending = plan(&found.table, &known.table);
        let drift = self.drift.tell(mending.iter().map(ToString::to_string), look);
        Ok((Arc::new(found), drift))
    }

    fn look_back(
        &mut self,
        before: Arc<Observed>,
        steps: &[Step],
        wanted: &Table,
    ) -> Result<Arc<Observed>, Error> {
        let touched: BTreeSet<Spot> = steps.iter().filter_map(Step::spot).collect();
        let before = Arc::unwrap_or_clone(before);
        let observed = self.dataplane.read_again(&touched, before, &wanted.rules)?;
        Ok(Arc::new(observed))
    }

    /// Reads what the kernel holds, and changes nothing.
    pub fn observe(&mut self, depth: Depth) -> Result<Arc<Observed>, Error> {
        self.dataplane.read(depth, &BTreeMap::new()).map(Arc::new)
    }

    /// The kernel's own facts about IPVS.
    pub fn info(&mut self) -> Result<ipvs::Info, Error> {
        self.dataplane.info()
    }
}

/// Services with servers that go, or take nothing new.
fn going(known: &Table, wanted: &Table) -> BTreeSet<Spot> {
    let has_going = |listener: &Listener| {
        let stay = wanted.services.get(listener).map(|service| &service.servers);
        move |at, weight| weight == Weight::DRAINING || !stay.is_some_and(|stay| stay.contains_key(at))
    };
    let services = known.services.iter();
    let going = services.filter(|(listener, service)| {
        let goes = has_going(listener);
        service.servers.iter().any(|(at, server)| goes(at, server.weight))
    });
    going.map(|(listener, _)| Spot::Listener(*listener)).collect()
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
