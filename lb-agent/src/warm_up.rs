//! Gives a server that newly takes connections a small share of them first, which grows to the full one. Pure: the
//! clock is given.
//!
//! Without it, `wlc` and its kin throw every new connection at a newcomer, since it has none. All weights are made
//! greater by a factor, so that there is room below the full one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::drain::Current;
use crate::table::{Listener, Server, Table, Weight};

/// The full weight of a server of weight 1.
const FACTOR: u32 = 100;
/// In how many steps a weight grows.
const STEPS: u32 = 20;

/// Remembers since when each server warms up.
#[derive(Debug, Default)]
pub struct WarmUp {
    since: BTreeMap<(Listener, SocketAddr), Instant>,
    /// When the next step is due.
    next: Option<Instant>,
}

impl WarmUp {
    /// Scales the weights of `wanted`, which must not have servers that drain, for a ramp that lasts so long.
    pub fn scale(&mut self, wanted: &mut Table, current: Current<'_>, ramp: Duration) {
        self.next = None;
        if ramp.is_zero() {
            self.since.clear();
            return;
        }
        let step = (ramp / STEPS).max(Duration::from_millis(1));
        let mut warming = BTreeSet::new();
        for (listener, service) in wanted.services.iter_mut() {
            let taking = taking(*listener, current.table);
            for (address, server) in Arc::make_mut(service).servers.iter_mut() {
                let full = server.weight.0.saturating_mul(FACTOR);
                server.weight = Weight(full);
                let key = (*listener, *address);
                // Where nobody else takes connections, there is nobody to spare it.
                let is_new = !taking.is_empty() && !taking.contains(address);
                let since = match self.since.get(&key) {
                    Some(since) => *since,
                    None if is_new => *self.since.entry(key).or_insert(current.now),
                    None => continue,
                };
                let passed = current.now.saturating_duration_since(since).as_millis() / step.as_millis();
                let reached = u32::try_from(passed).unwrap_or(STEPS).saturating_add(1);
                if full == 0 || reached >= STEPS {
                    continue;
                }
                warming.insert(key);
                server.weight = part(full, reached);
                let next = since + step * reached;
                self.next = Some(self.next.map_or(next, |known| known.min(next)));
            }
        }
        self.since.retain(|key, _| warming.contains(key));
    }

    /// When the next weight is to grow.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.next
    }
}

/// The servers of a listener that take new connections.
fn taking(listener: Listener, table: &Table) -> BTreeSet<SocketAddr> {
    let servers = table
        .services
        .get(&listener)
        .map(|service| service.servers.iter());
    let takes = |(_, server): &(&SocketAddr, &Server)| server.weight != Weight::DRAINING;
    servers
        .into_iter()
        .flatten()
        .filter(takes)
        .map(|(at, _)| *at)
        .collect()
}

/// The weight at that step: never 0, which would drain.
fn part(full: u32, step: u32) -> Weight {
    let share = u64::from(full) * u64::from(step) / u64::from(STEPS);
    Weight(u32::try_from(share).unwrap_or(full).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::ActiveConnections;
    use crate::table::fixture::{self, http};

    const RAMP: Duration = Duration::from_secs(20);

    fn table(servers: &[(u8, u32)]) -> Table {
        fixture::table(http(), servers)
    }

    fn at(table: &Table, now: Instant) -> Current<'_> {
        static NOBODY: ActiveConnections = ActiveConnections::new();
        Current {
            now,
            table,
            active: &NOBODY,
            is_counted: true,
        }
    }

    struct Scene {
        warm_up: WarmUp,
        start: Instant,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                warm_up: WarmUp::default(),
                start: Instant::now(),
            }
        }

        /// The scaled weights of what is wanted, and in how many seconds the next step is.
        fn after(&mut self, second: u64, current: &Table, wanted: &Table) -> (Vec<u32>, Option<u64>) {
            let mut wanted = wanted.clone();
            let now = self.start + Duration::from_secs(second);
            self.warm_up.scale(&mut wanted, at(current, now), RAMP);
            let service = wanted.services.get(&http()).expect("it is wanted");
            let weights = service.servers.values();
            let next = self.warm_up.next().map(|next| next.duration_since(now).as_secs());
            (weights.map(|server| server.weight.0).collect(), next)
        }
    }

    #[test]
    fn a_new_server_grows_in_steps_to_its_full_weight() {
        let mut scene = Scene::new();
        let wanted = table(&[(1, 1), (2, 3)]);
        let mut current = table(&[(1, 100)]);
        assert_eq!(scene.after(0, &current, &wanted), (vec![100, 15], Some(1)));
        current = table(&[(1, 100), (2, 15)]);
        let grown: Vec<u32> = (0..=19)
            .map(|second| scene.after(second, &current, &wanted).0[1])
            .collect();
        assert!(
            grown.is_sorted() && grown[9] == 150 && grown[19] == 300,
            "{grown:?}"
        );
        assert_eq!(scene.after(20, &current, &wanted), (vec![100, 300], None));
    }

    #[test]
    fn who_is_in_the_kernel_at_start_is_warm() {
        let current = table(&[(1, 100), (2, 5)]);
        let found = Scene::new().after(0, &current, &table(&[(1, 1), (2, 1)]));
        assert_eq!(found, (vec![100, 100], None));
    }

    #[test]
    fn a_first_table_is_not_ramped() {
        for current in [table(&[]), Table::default(), table(&[(9, 0)])] {
            let found = Scene::new().after(0, &current, &table(&[(1, 1), (2, 1)]));
            assert_eq!(found, (vec![100, 100], None));
        }
    }

    #[test]
    fn who_comes_back_from_draining_warms_up_anew() {
        let mut scene = Scene::new();
        let wanted = table(&[(1, 1), (2, 1)]);
        assert_eq!(scene.after(0, &table(&[(1, 100), (2, 0)]), &wanted).0, [100, 5]);
        scene.after(10, &table(&[(1, 100), (2, 50)]), &table(&[(1, 1)]));
        assert_eq!(scene.after(11, &table(&[(1, 100), (2, 0)]), &wanted).0, [100, 5]);
    }

    #[test]
    fn without_a_ramp_weights_are_as_wanted() {
        let mut wanted = table(&[(1, 1), (2, 7)]);
        let mut warm_up = WarmUp::default();
        let current = table(&[(1, 1)]);
        warm_up.scale(&mut wanted, at(&current, Instant::now()), Duration::ZERO);
        assert_eq!(wanted, table(&[(1, 1), (2, 7)]));
        assert_eq!(warm_up.next(), None);
    }

    #[test]
    fn the_least_share_is_not_none_and_the_greatest_weight_does_not_overflow() {
        assert_eq!(part(1, 1), Weight(1));
        assert_eq!(part(6_553_500, 19), Weight(6_225_825));
        let mut scene = Scene::new();
        let found = scene.after(0, &table(&[(1, 100)]), &table(&[(1, 1), (2, 0), (3, u32::MAX)]));
        assert_eq!(found.0, [100, 0, 214_748_364]);
    }
}
