//! What is wanted while servers are to be reached by another way than before: the old way, until the new one is proven.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Desired, Inputs};
use crate::health::{Reason, Target};
use crate::table::{Forwarding, Listener};

impl Desired {
    /// Whether servers take connections by another way than is wanted, and not all of them have answered by the wanted
    /// one, or failed to. If none has answered, they go on so: nothing that works is lost.
    pub(super) fn is_switching(&self, inputs: &Inputs<'_>) -> bool {
        let (mut is_undecided, mut is_proven, mut is_other) = (false, false, false);
        for ((listener, at), targets) in &self.targets {
            let wanted = self.wanted_way(*listener, *at);
            let way = inputs.held.way(*listener, *at);
            if !way.is_some_and(|way| is_known(way) && Some(way) != wanted) {
                continue;
            }
            is_other = true;
            let in_doubt = |target: &&Target| inputs.health.doubt(target).is_some();
            let mut doubted = targets.iter().filter(in_doubt).peekable();
            is_proven |= doubted.peek().is_none();
            is_undecided |= doubted.any(|target| inputs.health.found(target).is_none());
        }
        is_other && (is_undecided || !is_proven)
    }

    /// Lets servers that take connections go on as they do. All others wait.
    pub(super) fn keep_ways(&mut self, inputs: &Inputs<'_>) {
        let mut masquerades = false;
        for ((listener, at), targets) in &self.targets {
            let service = self.table.services.get_mut(listener);
            let Some(servers) = service.map(|service| &mut Arc::make_mut(service).servers) else {
                continue;
            };
            let way = inputs.held.way(*listener, *at).filter(|way| is_known(*way));
            if let (Some(way), Some(server)) = (way, servers.get_mut(at)) {
                server.forwarding = way;
                masquerades |= way == Forwarding::Nat;
            } else {
                servers.remove(at);
                let doubt = targets.iter().find_map(|target| inputs.health.doubt(target));
                let reason = doubt.unwrap_or(Reason::Unproven);
                self.failing.insert((*listener, *at), reason);
            }
        }
        for rules in self.table.rules.values_mut() {
            rules.masquerades = masquerades;
        }
    }

    fn wanted_way(&self, listener: Listener, at: SocketAddr) -> Option<Forwarding> {
        let server = self.table.services.get(&listener)?.servers.get(&at)?;
        Some(server.forwarding)
    }
}

/// Whether it is one that we set.
fn is_known(way: Forwarding) -> bool {
    way != Forwarding::Foreign
}
