//! What the table needs around it: sysctls, the balancer's addresses, and to know what was there before.

use std::net::IpAddr;

use tracing::warn;

use super::Agent;
use crate::dataplane::Depth;
use crate::desired::Desired;
use crate::link::{self, LOOPBACK};
use crate::sysctl::{Needs, Sysctls};
use crate::{prepare, pressure};

impl Agent {
    /// Learns which servers take connections already: they need no proof, and those that don't need one.
    pub(super) async fn adopt(&mut self) {
        let found = self.with_kernel(|kernel| kernel.observe(Depth::Servers)).await;
        if let Ok(observed) = found {
            self.facts.see(observed);
        }
    }

    /// Does what the table needs around it. What is sent to the balancer's addresses must be for this machine.
    pub(super) async fn get_ready(&mut self, desired: &Desired) -> Result<(), link::Error> {
        self.facts.asked(&desired.targets);
        if self.needs.as_ref() != Some(&self.needs()) {
            self.look_around().await;
        }
        let addresses = &desired.addresses;
        if self.held.as_ref() == Some(addresses) {
            return Ok(());
        }
        let wanted: Vec<IpAddr> = addresses.iter().copied().collect();
        link::address::hold(LOOPBACK, &wanted).await?;
        link::address::release(LOOPBACK, addresses).await?;
        self.held = Some(addresses.clone());
        Ok(())
    }

    /// Looks at what is around the table: sysctls, the interface.
    pub(super) async fn look_around(&mut self) {
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

    fn needs(&self) -> Needs {
        let needs = Needs::of(self.settings.addresses.families());
        let Some(wanted) = &self.wanted else { return needs };
        let timeouts = wanted.desired.table.timeouts;
        Needs {
            udp_seconds: timeouts.map_or(needs.udp_seconds, |timeouts| timeouts.udp_seconds),
            bypass: wanted.desired.bypass,
            ..needs
        }
    }
}
