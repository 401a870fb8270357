//! Whether servers are on the agent's own link: DR changes nothing about a packet, so a router would send it back.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tracing::warn;

use crate::addresses::Addresses;
use crate::facts::{Facts, Wanted};
use crate::link::route::gateway;

/// What the kernel said of the ways to servers.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    known: BTreeMap<IpAddr, Option<IpAddr>>,
    /// Those that the log has.
    told: BTreeMap<IpAddr, IpAddr>,
}

impl Ways {
    /// The gateway that is between us and a server; none if there is none, or if the kernel was not asked.
    #[must_use]
    pub fn gateway(&self, server: IpAddr) -> Option<IpAddr> {
        self.known.get(&server).copied().flatten()
    }

    /// Routes may have changed: all is asked anew.
    pub fn forget(&mut self) {
        self.known.clear();
    }

    /// Asks the kernel for the servers that are not known, and tells whether there were any.
    pub async fn learn(&mut self, servers: impl IntoIterator<Item = IpAddr>) -> bool {
        let mut is_news = false;
        for server in servers {
            if self.known.contains_key(&server) {
                continue;
            }
            let gateway = gateway(server).await.unwrap_or_else(|error| {
                warn!(error = &error as &dyn std::error::Error, %server, "no route");
                None
            });
            self.tell(server, gateway);
            self.known.insert(server, gateway);
            is_news = true;
        }
        is_news
    }

    fn tell(&mut self, server: IpAddr, gateway: Option<IpAddr>) {
        let before = match gateway {
            Some(gateway) => self.told.insert(server, gateway),
            None => self.told.remove(&server),
        };
        if let Some(gateway) = gateway.filter(|gateway| before != Some(*gateway)) {
            warn!(%server, %gateway, "DR does not reach the server: it is not on this link, but behind a gateway");
        }
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
        let gateways = gateways.into_iter();
        Self {
            known: gateways
                .map(|(server, gateway)| (server, Some(gateway)))
                .collect(),
            ..Self::default()
        }
    }
}
