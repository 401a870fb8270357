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

use crate::along::apart;
use crate::plan::Difference;
use crate::table::{Listener, Servers, Service, Table, Weight};

/// UDP has no end of a connection: its flows stay on a server of weight 0 as long as packets come.
const UDP_GRACE: Duration = Duration::from_secs(5);

/// A handshake under way is no active connection yet, and one that closes none any more.
const SETTLE: Duration = Duration::from_secs(2);

type Key = (Listener, SocketAddr);

/// Numbers of connections that the removal of a server would cut: the established ones; of UDP all.
pub type ActiveConnections = BTreeMap<Key, u32>;

/// Remembers since when each server drains.
#[derive(Debug, Default)]
pub struct Drain {
    since: BTreeMap<Key, Instant>,
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
        let mut draining = BTreeSet::new();
        for (listener, is, shall) in apart(&current.table.services, &wanted.services) {
            let gone = Difference::between(is, shall).gone;
            for (address, server) in gone {
                let key = (*listener, *address);
                let since = *self.since.entry(key).or_insert(current.now);
                let elapsed = current.now.saturating_duration_since(since);
                // Only at weight 0 does "no connections" mean that none will come.
                let is_idle =
                    server.weight == Weight::DRAINING && elapsed >= SETTLE && current.connections(key) == 0;
                if is_idle || elapsed >= limit(*listener, timeout) {
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
    pub fn undecided(&self, now: Instant, timeout: Duration) -> BTreeSet<Listener> {
        let is_due = |(key, since): &(&Key, &Instant)| {
            now.saturating_duration_since(**since) >= SETTLE.min(limit(key.0, timeout))
        };
        self.since.iter().filter(is_due).map(|(key, _)| key.0).collect()
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
        let kept = wanted.services.entry(listener).or_insert_with(|| {
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
mod tests {
    use super::*;
    use crate::plan::{Step, plan};
    use crate::table::fixture::{at, table};
    use crate::table::{Family, Rules, Server};

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn listener(protocol: Protocol) -> Listener {
        Listener::marked(Family::V4, protocol, 80)
    }

    struct Scene {
        drain: Drain,
        start: Instant,
        active: ActiveConnections,
        ended: Vec<Ended>,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                drain: Drain::default(),
                start: Instant::now(),
                active: BTreeMap::new(),
                ended: Vec::new(),
            }
        }

        fn after(&mut self, seconds: u64, current: &Table, wanted: &Table) -> Table {
            let mut wanted = wanted.clone();
            let now = self.start + Duration::from_secs(seconds);
            let current = Current {
                now,
                table: current,
                active: &self.active,
            };
            self.ended = self.drain.extend(&mut wanted, current, TIMEOUT);
            wanted
        }

        /// How the drain of a server ended with the last look.
        fn ended(&self) -> Option<(Outcome, u32)> {
            let [ended] = &self.ended[..] else { return None };
            Some((ended.outcome, ended.connections))
        }
    }

    #[test]
    fn a_server_that_goes_away_gets_weight_0_first_even_without_connections() {
        let tcp = listener(Protocol::TCP);
        let mut scene = Scene::new();
        let now = scene.after(0, &table(tcp, &[(1, 1), (2, 1)]), &table(tcp, &[(1, 1)]));
        assert_eq!(now, table(tcp, &[(1, 1), (2, 0)]));
        assert!(scene.drain.is_busy());
    }

    #[test]
    fn it_is_removed_when_it_had_no_connections_for_a_moment() {
        let tcp = listener(Protocol::TCP);
        let mut scene = Scene::new();
        let (draining, wanted) = (table(tcp, &[(1, 1), (2, 0)]), table(tcp, &[(1, 1)]));
        scene.active.insert((tcp, at(2)), 1);
        assert_eq!(scene.after(0, &draining, &wanted), draining);
        scene.active.clear();
        assert_eq!(scene.after(1, &draining, &wanted), draining);
        assert_eq!(scene.after(2, &draining, &wanted), wanted);
        assert_eq!(scene.ended(), Some((Outcome::Finished, 0)));
        assert!(!scene.drain.is_busy());
    }

    #[test]
    fn it_is_removed_when_its_time_is_over() {
        let tcp = listener(Protocol::TCP);
        let mut scene = Scene::new();
        let (draining, wanted) = (table(tcp, &[(1, 1), (2, 0)]), table(tcp, &[(1, 1)]));
        scene.active.insert((tcp, at(2)), 7);
        assert_eq!(scene.after(0, &draining, &wanted), draining);
        assert_eq!(scene.after(29, &draining, &wanted), draining);
        assert_eq!(scene.ended(), None);
        assert_eq!(scene.after(30, &draining, &wanted), wanted);
        assert_eq!(scene.ended(), Some((Outcome::Cut, 7)));
    }

    #[test]
    fn who_comes_back_gets_its_weight_and_its_full_time_back() {
        let tcp = listener(Protocol::TCP);
        let mut scene = Scene::new();
        let (both, draining) = (table(tcp, &[(1, 1), (2, 1)]), table(tcp, &[(1, 1), (2, 0)]));
        let one = table(tcp, &[(1, 1)]);
        scene.active.insert((tcp, at(2)), 1);
        scene.after(0, &draining, &one);
        let back = scene.after(20, &draining, &both);
        assert_eq!(scene.ended(), Some((Outcome::Returned, 1)));
        assert_eq!(
            plan(&draining, &back),
            [Step::SetServer(tcp, at(2), Server::nat(Weight::NORMAL))]
        );
        assert_eq!(scene.after(40, &both, &one), draining);
    }

    #[test]
    fn udp_moves_after_a_short_grace() {
        let udp = listener(Protocol::UDP);
        let mut scene = Scene::new();
        let (draining, wanted) = (table(udp, &[(1, 1), (2, 0)]), table(udp, &[(1, 1)]));
        scene.active.insert((udp, at(2)), 3);
        assert_eq!(scene.after(0, &draining, &wanted), draining);
        assert_eq!(scene.after(4, &draining, &wanted), draining);
        assert_eq!(scene.after(5, &draining, &wanted), wanted);
        assert_eq!(scene.ended(), Some((Outcome::Moved, 3)));
    }

    #[test]
    fn a_removed_listener_loses_its_mark_at_once_and_its_service_when_drained() {
        let tcp = listener(Protocol::TCP);
        let mut scene = Scene::new();
        scene.active.insert((tcp, at(1)), 1);
        let none = Table {
            rules: BTreeMap::from([(Family::V4, Rules::default())]),
            ..Table::default()
        };
        let now = scene.after(0, &table(tcp, &[(1, 1)]), &none);
        assert_eq!(now.services, table(tcp, &[(1, 0)]).services);
        assert_eq!(now.rules, none.rules);
        scene.active.clear();
        assert_eq!(scene.after(2, &now, &none), none);
    }

    #[test]
    fn an_adopted_draining_server_goes_like_any_other() {
        let tcp = listener(Protocol::TCP);
        let (draining, wanted) = (table(tcp, &[(1, 1), (2, 0)]), table(tcp, &[(1, 1)]));
        let mut scene = Scene::new();
        assert_eq!(scene.after(0, &draining, &wanted), draining);
        assert_eq!(scene.after(2, &draining, &wanted), wanted);
    }

    #[test]
    fn with_no_time_to_drain_a_server_goes_at_once() {
        let tcp = listener(Protocol::TCP);
        let mut wanted = table(tcp, &[]);
        let current = table(tcp, &[(1, 1)]);
        let active = ActiveConnections::new();
        let current = Current {
            now: Instant::now(),
            table: &current,
            active: &active,
        };
        Drain::default().extend(&mut wanted, current, Duration::ZERO);
        assert_eq!(wanted, table(tcp, &[]));
    }
}
