//! Lets servers that go away keep their connections for a while. Pure: the clock is given.
//!
//! A server that is in the kernel and no longer wanted gets weight 0 first. It is removed when it has had no connection
//! for a moment, or its time is over. Who comes back is wanted again, and gets its weight back.

pub mod history;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crd::Protocol;

use crate::plan::Difference;
use crate::table::{Listener, Servers, Service, Table, Weight};

/// UDP has no end of a connection: its flows stay on a server of weight 0 as long as packets come.
const UDP_GRACE: Duration = Duration::from_secs(5);

/// A handshake under way is no active connection yet, and one that closes none any more.
const SETTLE: Duration = Duration::from_secs(2);

/// How often connections are counted, and how late at most. To count one server's the kernel lists all of its service.
const COUNT: Duration = Duration::from_secs(1);

type Key = (Listener, SocketAddr);

/// Numbers of connections that the removal of a server would cut: the established ones; of UDP all.
pub type ActiveConnections = BTreeMap<Key, u32>;

/// Remembers since when each server drains.
#[derive(Debug, Default)]
pub struct Drain {
    since: BTreeMap<Key, Instant>,
    /// When connections were counted last.
    counted: Option<Instant>,
}

/// What the kernel holds, and when.
#[derive(Clone, Copy, Debug)]
pub struct Current<'a> {
    /// The time.
    pub now: Instant,
    /// Its table.
    pub table: &'a Table,
    /// Its connections.
    pub active: &'a ActiveConnections,
    /// Whether they were counted now. No drain ends by an older number.
    pub is_counted: bool,
}

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// All connections had ended.
    Finished,
    /// The time was over, and connections were reset.
    Cut,
    /// UDP flows go on at other servers.
    Moved,
    /// The server is wanted again.
    Returned,
}

/// A server whose drain ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Whose server.
    pub listener: Listener,
    /// The server.
    pub server: SocketAddr,
    /// How.
    pub outcome: Outcome,
    /// Connections that were cut, moved or kept.
    pub connections: u32,
}

impl Ended {
    /// The server as the status names it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.server, self.listener.protocol)
    }
}

impl Drain {
    /// Adds to `wanted` the servers of the current table that still drain. Tells which drains end with it.
    pub fn extend(&mut self, wanted: &mut Table, current: Current<'_>, timeout: Duration) -> Vec<Ended> {
        let mut ended = self.returned(wanted, current);
        if current.is_counted {
            self.counted = Some(current.now);
        }
        let mut draining = BTreeSet::new();
        for (listener, is, shall) in current.table.services.apart(&wanted.services) {
            let gone = Difference::between(is, shall).gone;
            for (address, server) in gone {
                let key = (*listener, *address);
                let since = *self.since.entry(key).or_insert(current.now);
                let elapsed = current.now.saturating_duration_since(since);
                // Only at weight 0 does "no connections" mean that none will come.
                let is_idle =
                    server.weight == Weight::DRAINING && elapsed >= SETTLE && current.connections(key) == 0;
                if current.is_counted && (is_idle || elapsed >= limit(*listener, timeout)) {
                    ended.push(current.ended(key));
                } else {
                    draining.insert(key);
                }
            }
        }
        self.since.retain(|key, _| draining.contains(key));
        keep(draining, current.table, wanted);
        ended
    }

    /// The listeners of which a drain may end now, so that connections count.
    #[must_use]
    pub fn undecided(&self, timeout: Duration, now: Instant) -> BTreeSet<Listener> {
        let may_end = self.may_end(timeout).filter(|(_, since)| *since <= now);
        may_end.map(|(listener, _)| listener).collect()
    }

    /// When connections are to be counted next, if any server drains.
    #[must_use]
    pub fn due(&self, timeout: Duration) -> Option<Instant> {
        let first = self.may_end(timeout).map(|(_, since)| since).min()?;
        let again = self.counted.map(|counted| counted + COUNT.min(timeout));
        Some(again.map_or(first, |again| first.max(again)))
    }

    /// Whether they are to be counted before anything else.
    #[must_use]
    pub fn is_late(&self, timeout: Duration, now: Instant) -> bool {
        self.due(timeout)
            .is_some_and(|due| due + COUNT.min(timeout) <= now)
    }

    /// For each server that drains, from when on its drain may end.
    fn may_end(&self, timeout: Duration) -> impl Iterator<Item = (Listener, Instant)> {
        let may_end = move |((listener, _), since): (&Key, &Instant)| {
            (*listener, *since + SETTLE.min(limit(*listener, timeout)))
        };
        self.since.iter().map(may_end)
    }

    /// The servers that drain.
    pub fn servers(&self) -> impl Iterator<Item = (Listener, SocketAddr)> {
        self.since.keys().copied()
    }

    /// Whether any server drains.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.since.is_empty()
    }

    fn returned(&self, wanted: &Table, current: Current<'_>) -> Vec<Ended> {
        let is_wanted = |(listener, address): &&Key| {
            let service = wanted.services.get(listener);
            service.is_some_and(|service| service.servers.contains_key(address))
        };
        let back = self.since.keys().filter(is_wanted);
        let returned = |key: &Key| Ended {
            outcome: Outcome::Returned,
            ..current.ended(*key)
        };
        back.map(returned).collect()
    }
}

impl Current<'_> {
    fn connections(&self, key: Key) -> u32 {
        self.active.get(&key).copied().unwrap_or_default()
    }

    fn ended(&self, key: Key) -> Ended {
        let (listener, server) = key;
        let connections = self.connections(key);
        let outcome = match (connections, listener.protocol) {
            (0, _) => Outcome::Finished,
            (_, Protocol::UDP) => Outcome::Moved,
            _ => Outcome::Cut,
        };
        Ended {
            listener,
            server,
            outcome,
            connections,
        }
    }
}

/// Adds draining servers to a table.
fn keep(draining: BTreeSet<Key>, current: &Table, wanted: &mut Table) {
    for (listener, address) in draining {
        let Some(service) = current.services.get(&listener) else {
            continue;
        };
        // A service that is gone from the spec stays until its connections end, without its mark.
        let scheduling = &service.scheduling;
        let kept = wanted.services.get_or_insert_with(listener, || {
            Arc::new(Service {
                scheduling: scheduling.clone(),
                servers: Servers::new(),
            })
        });
        if let Some(server) = service.servers.get(&address) {
            Arc::make_mut(kept).servers.insert(address, server.draining());
        }
    }
}

fn limit(listener: Listener, timeout: Duration) -> Duration {
    match listener.protocol {
        Protocol::TCP | Protocol::SCTP => timeout,
        Protocol::UDP => timeout.min(UDP_GRACE),
    }
}

#[cfg(test)]
mod tests;
