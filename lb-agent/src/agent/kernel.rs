//! The loop's work on the kernel, and what it learns of it.

use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;
use tracing::{error, info};

use super::Agent;
use crate::converge::{Converged, Converger, Pace};
use crate::dataplane::{Dataplane, Depth, Error, Observed};
use crate::report::Trouble;

impl Agent {
    /// Brings the kernel to what is wanted; before that is known, only looks at what is there.
    pub(super) async fn converge(&mut self, depth: Depth) {
        let Some(wanted) = self.wanted.clone() else {
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
        let generation = wanted.generation;
        let depth = if self.failures > 0 { Depth::All } else { depth };
        let result = self
            .with_kernel(move |kernel| kernel.converge(&wanted.desired.table, pace, depth))
            .await;
        let is_done = result.is_ok();
        self.learn(result);
        if is_done {
            self.has_table = true;
            if self.programmed != Some(generation) {
                info!(generation, "programmed");
                self.programmed = Some(generation);
            }
            if let Some(changed) = self.facts.take_changed() {
                self.outlets.metrics.programmed_in(changed.elapsed());
            }
        }
    }

    async fn observe(&mut self, depth: Depth) {
        let result = self.with_kernel(move |kernel| kernel.observe(depth)).await;
        self.learn(result.map(|observed| Converged {
            observed,
            steps: 0,
            drift: 0,
            ended: Vec::new(),
            next_look: None,
        }));
    }

    /// Runs a job on the kernel, off the loop's thread. After a panic the next job starts from what is in the kernel.
    pub(super) async fn with_kernel<T, F>(&mut self, job: F) -> Result<T, Error>
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
                self.drains.note(&converged.ended, Timestamp::now());
                self.outlets.metrics.drained(&converged.ended);
                self.next_look = converged.next_look.map(Instant::from_std);
                self.outlets.metrics.steps.inc_by(converged.steps as u64);
                self.outlets.metrics.drift.inc_by(converged.drift as u64);
                // A table found at start was good when it was made.
                self.has_table |= is_complete(&converged.observed);
                self.facts.see(converged.observed.clone());
                self.observed = Some(converged.observed);
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                self.next_look = None;
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
    pub(super) async fn refresh(&mut self) {
        let result = self
            .with_kernel(|kernel| Ok((kernel.observe(Depth::Servers)?, kernel.info()?)))
            .await;
        if let Ok((observed, info)) = result {
            self.outlets
                .metrics
                .observed(observed, Some(info.connection_table_size));
        }
    }
}

/// Whether a table that was found serves something.
fn is_complete(observed: &Observed) -> bool {
    let mut services = observed.table.services.values();
    observed.has_rules && services.any(|service| !service.servers.is_empty())
}
