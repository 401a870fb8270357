//! Brings the kernel to the wanted table: reads, plans, applies, reads back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::dataplane::{Dataplane, Depth, Error, Observed};
use crate::drain::{Current, Drain};
use crate::plan::plan;
use crate::table::Table;

/// The kernel, and what we know of it.
pub struct Converger {
    dataplane: Dataplane,
    drain: Drain,
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
}

impl Converger {
    /// Over a data plane.
    #[must_use]
    pub fn new(dataplane: Dataplane) -> Self {
        Self {
            dataplane,
            drain: Drain::default(),
            left: None,
        }
    }

    /// Brings the kernel to `wanted`, and lets servers that are gone drain for at most `timeout`.
    pub fn converge(&mut self, wanted: &Table, timeout: Duration, depth: Depth) -> Result<Converged, Error> {
        let before = self.dataplane.read(depth, &wanted.rules)?;
        let drift = self.drift(&before.table);
        let mut table = wanted.clone();
        let active = before.active();
        let current = Current {
            now: Instant::now(),
            table: &before.table,
            active: &active,
        };
        self.drain.extend(&mut table, current, timeout);
        let is_draining = self.drain.is_busy();
        let steps = plan(&before.table, &table);
        if steps.is_empty() {
            self.left = Some(table);
            return Ok(Converged {
                observed: before,
                steps: 0,
                drift,
                is_draining,
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
