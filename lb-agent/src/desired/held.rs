//! What the kernel holds while something else may be wanted: it spares servers a proof, or asks one of them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::dataplane::Observed;
use crate::health::{Health, Targets};
use crate::table::{Forwarding, Listener, Server, Service, Weight};

type Key = (Listener, SocketAddr);

/// What the kernel held when it was last read, and what that meant at the start.
#[derive(Clone, Debug, Default)]
pub struct Held {
    observed: Option<Arc<Observed>>,
    /// Servers that an agent before this one had put out, and that did not answer yet. `None`: all that a service in
    /// the kernel lacks.
    put_out: Option<BTreeSet<Key>>,
}

impl Held {
    /// Takes what was read.
    pub fn see(&mut self, observed: Arc<Observed>) {
        self.observed = Some(observed);
    }

    /// The servers that are asked from the start on are known. Who answered well is in doubt no more.
    pub fn asked(&mut self, targets: &Targets, health: &Health) {
        if self.observed.is_none() {
            return;
        }
        let is_doubted = |key: &Key| {
            let targets = targets.get(key).into_iter().flatten();
            targets
                .into_iter()
                .any(|target| target.is_doubted && !health.is_proven(target))
        };
        match &mut self.put_out {
            Some(put_out) => put_out.retain(is_doubted),
            None => self.put_out = Some(targets.keys().copied().filter(is_doubted).collect()),
        }
    }

    /// How packets reach a server that takes connections.
    #[must_use]
    pub fn way(&self, listener: Listener, at: SocketAddr) -> Option<Forwarding> {
        let server = self.service(listener)?.servers.get(&at)?;
        is_taking(server).then_some(server.forwarding)
    }

    /// Whether an agent before this one served the listener, and not by this server.
    #[must_use]
    pub fn is_put_out(&self, listener: Listener, at: SocketAddr) -> bool {
        if let Some(put_out) = &self.put_out {
            return put_out.contains(&(listener, at));
        }
        let is_served = |service: &Service| service.servers.values().any(is_taking);
        self.service(listener).is_some_and(is_served) && self.way(listener, at).is_none()
    }

    fn service(&self, listener: Listener) -> Option<&Service> {
        let services = &self.observed.as_ref()?.table.services;
        services.get(&listener).map(Arc::as_ref)
    }
}

fn is_taking(server: &Server) -> bool {
    server.weight != Weight::DRAINING
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::fixture::{at, http, table};
    use crd::Protocol;

    fn seen(servers: &[(u8, u32)]) -> Held {
        let observed = Observed {
            table: table(http(), servers),
            ..Observed::default()
        };
        let mut held = Held::default();
        held.see(Arc::new(observed));
        held
    }

    #[test]
    fn who_is_absent_or_drains_was_put_out() {
        let held = seen(&[(1, 1), (2, 0)]);
        let put_out = [1, 2, 3].map(|octet| held.is_put_out(http(), at(octet)));
        assert_eq!(put_out, [false, true, true]);
        assert_eq!(held.way(http(), at(1)), Some(Forwarding::Nat));
        assert_eq!(held.way(http(), at(2)), None);
    }

    #[test]
    fn where_nobody_served_nobody_was_put_out() {
        let other = Listener::marked(http().family, Protocol::TCP, 81);
        assert!(!Held::default().is_put_out(http(), at(1)));
        assert!(!seen(&[]).is_put_out(http(), at(1)));
        assert!(!seen(&[(2, 0)]).is_put_out(http(), at(1)));
        assert!(!seen(&[(1, 1)]).is_put_out(other, at(1)));
    }

    #[test]
    fn who_comes_later_is_not_in_doubt() {
        let mut held = seen(&[(1, 1)]);
        held.asked(&Targets::new(), &Health::default());
        assert!(!held.is_put_out(http(), at(2)));
    }
}
