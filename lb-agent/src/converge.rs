//! Brings the kernel to the wanted table: reads, plans, applies, reads back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::dataplane::{Dataplane, Depth, Error, Observed};
use crate::drain::{Current, Drain, Ended};
use crate::plan::plan;
use crate::table::Table;
use crate::warm_up::WarmUp;

/// The kernel, and what we know of it.
pub struct Converger {
    dataplane: Dataplane,
    drain: Drain,
    warm_up: WarmUp,
    /// What the kernel held after our last change.
    left: Option<Table>,
}

/// What one convergence did and found.
#[derive(Debug)]
pub struct Converged {
    /// What the kernel holds now.
    pub observed: Observed,
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
            left: None,
        }
    }

    /// Brings the kernel to `wanted` at that pace.
    pub fn converge(&mut self, wanted: &Table, pace: Pace, depth: Depth) -> Result<Converged, Error> {
        let before = self.dataplane.read(depth, &wanted.rules)?;
        let drift = self.drift(&before.table);
        let mut table = wanted.clone();
        let now = Instant::now();
        self.warm_up.scale(&mut table, &before.table, pace.warm_up, now);
        let next_growth = self.warm_up.next();
        let active = before.active();
        let current = Current {
            now,
            table: &before.table,
            active: &active,
        };
        let ended = self.drain.extend(&mut table, current, pace.drain);
        let is_draining = self.drain.is_busy();
        let steps = plan(&before.table, &table);
        if steps.is_empty() {
            self.left = Some(table);
            return Ok(Converged {
                observed: before,
                steps: 0,
                drift,
                is_draining,
                ended,
                next_growth,
            });
        }
        for step in &steps {
            info!(%step, "apply");
        }
        // What is left half done is no drift.
        self.left = None;
        self.dataplane.apply(&steps)?;
        let observed = self.dataplane.read(Depth::Servers, &wanted.rules)?;
        if let Some(step) = plan(&observed.table, &table).first() {
            return Err(Error::NotTaken(step.to_string()));
        }
        self.left = Some(table);
        Ok(Converged {
            observed,
            steps: steps.len(),
            drift,
            is_draining,
            ended,
            next_growth,
        })
    }

    /// Reads what the kernel holds, and changes nothing.
    pub fn observe(&mut self, depth: Depth) -> Result<Observed, Error> {
        self.dataplane.read(depth, &BTreeMap::new())
    }

    /// The kernel's own facts about IPVS.
    pub fn info(&mut self) -> Result<ipvs::Info, Error> {
        self.dataplane.info()
    }

    /// Nobody but us should change the table: what differs from how we left it is drift.
    fn drift(&self, found: &Table) -> usize {
        let Some(left) = &self.left else { return 0 };
        let mending = plan(found, left);
        for step in &mending {
            warn!(%step, "drift: somebody changed the table; mending it");
        }
        mending.len()
    }
}
