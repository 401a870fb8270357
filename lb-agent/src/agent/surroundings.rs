//! What the table needs around it: the balancer's addresses, and to know what was there before.

use std::net::IpAddr;

use super::Agent;
use crate::dataplane::Depth;
use crate::desired::Desired;
use crate::link::{self, LOOPBACK};
use crate::table::Weight;

impl Agent {
    /// Learns which servers take connections already: they need no proof that the way to them leads there.
    pub(super) async fn adopt(&mut self) {
        let found = self.with_kernel(|kernel| kernel.observe(Depth::Servers)).await;
        let Ok(observed) = found else { return };
        let services = observed.table.services.iter();
        let servers = services.flat_map(|(listener, service)| {
            let taking = service
                .servers
                .iter()
                .filter(|(_, server)| server.weight != Weight::DRAINING);
            taking.map(|(at, server)| ((*listener, *at), server.forwarding))
        });
        self.facts.adopt(servers.collect());
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
}
