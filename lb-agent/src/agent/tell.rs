//! What the agent says of itself: status, readiness, metrics, and whom to ask.

use std::sync::Arc;

use crd::AgentRole;
use tracing::{info, warn};

use super::Agent;
use crate::desired::Desired;
use crate::finding::{Finding, Severity};
use crate::http::Readiness;
use crate::report::{Situation, agent_status};

impl Agent {
    /// Tells status, readiness and metrics.
    pub(super) fn tell(&self) {
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
        if let Some(wanted) = &self.wanted {
            self.tell_targets(&wanted.desired);
        }
        let status = agent_status(&Situation {
            identity: self.settings.identity.clone(),
            mtu: self.mtu,
            wanted: self.wanted.as_deref(),
            refusal: self.facts.refusal(),
            programmed: self.programmed,
            observed: self.observed.as_deref(),
            findings: &self.findings,
            trouble: self.trouble.as_ref(),
            role: readiness.is_ok().then_some(AgentRole::Active),
            drains: self.drains.newest(),
            drained: self.drains.counts(),
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

    pub(super) fn blocking(&self) -> Option<&Finding> {
        self.findings
            .iter()
            .find(|finding| finding.severity == Severity::Blocking)
    }
}
