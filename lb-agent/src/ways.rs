//! Whether servers are on the agent's own link: DR changes nothing about a packet, so a router would send it back.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tracing::warn;

use crate::addresses::Addresses;
use crate::facts::{Facts, Wanted};
use crate::link::route::gateway;

/// What the kernel said of the ways to servers.
#[derive(Clone, Debug, Default)]
pub struct Ways(BTreeMap<IpAddr, Option<IpAddr>>);

impl Ways {
    /// The gateway that is between us and a server; none if there is none, or if the kernel was not asked.
    #[must_use]
    pub fn gateway(&self, server: IpAddr) -> Option<IpAddr> {
        self.0.get(&server).copied().flatten()
    }

    /// Routes may have changed: all is asked anew.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    /// Asks the kernel for the servers that are not known, and tells whether there were any.
    pub async fn learn(&mut self, servers: impl IntoIterator<Item = IpAddr>) -> bool {
        let mut is_news = false;
        for server in servers {
            if self.0.contains_key(&server) {
                continue;
            }
            let gateway = gateway(server).await.unwrap_or_else(|error| {
                warn!(error = &error as &dyn std::error::Error, %server, "no route");
                None
            });
            self.0.insert(server, gateway);
            is_news = true;
        }
        is_news
    }
}

/// What is wanted, with what the kernel says of the ways to its servers.
pub async fn wanted(facts: &Facts, addresses: &Addresses, ways: &mut Ways) -> Option<Wanted> {
    let wanted = facts.wanted(addresses, ways)?;
    if ways.learn(wanted.desired.on_link()).await {
        facts.wanted(addresses, ways)
    } else {
        Some(wanted)
    }
}

#[cfg(test)]
impl FromIterator<(IpAddr, IpAddr)> for Ways {
    fn from_iter<I: IntoIterator<Item = (IpAddr, IpAddr)>>(gateways: I) -> Self {
        Self(
            gateways
                .into_iter()
                .map(|(server, gateway)| (server, Some(gateway)))
                .collect(),
        )
    }
}
