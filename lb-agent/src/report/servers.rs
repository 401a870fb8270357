//! What the agent says of its servers: how many there are, and those that take no new connections. Pure.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crd::{ServerCounts, ServerException, ServerState};

use crate::dataplane::Observed;
use crate::endpoints::State;
use crate::facts::Wanted;
use crate::table::{Listener, Weight};

/// The most exceptions in a status.
const EXCEPTIONS: usize = 16;

type Key = (Listener, SocketAddr);

pub(super) fn count(wanted: &Wanted, observed: Option<&Observed>) -> ServerCounts {
    let desired = &wanted.desired;
    let taking = desired.table.server_count();
    let not_ready = desired
        .unready
        .values()
        .filter(|state| **state == State::NotReady);
    let is_kept = |(listener, _): &&Key| desired.panicking.contains(listener);
    let panicking = desired.failing.keys().filter(is_kept).count();
    let left_out = desired.failing.len() - panicking;
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    ServerCounts {
        total: number(taking + left_out + not_ready.count()),
        healthy: number(taking.saturating_sub(panicking)),
        draining: number(
            observed
                .map(|observed| draining(wanted, observed).count())
                .unwrap_or_default(),
        ),
        panicking: number(panicking),
    }
}

/// Servers that keep their connections on the way out. Those that are only not ready are counted as such.
fn draining<'a>(wanted: &'a Wanted, observed: &'a Observed) -> impl Iterator<Item = (Key, &'static str)> {
    let servers = observed.table.services.iter().flat_map(|(listener, service)| {
        service
            .servers
            .iter()
            .map(|(at, server)| ((*listener, *at), server))
    });
    let at_zero = servers.filter(|(key, server)| {
        server.weight == Weight::DRAINING && !wanted.desired.failing.contains_key(key)
    });
    at_zero.filter_map(|(key, _)| match wanted.desired.unready.get(&key) {
        Some(State::NotReady) => None,
        Some(_) => Some((key, "Terminating")),
        None => Some((key, "Removed")),
    })
}

pub(super) fn exceptions(wanted: &Wanted, observed: Option<&Observed>) -> Vec<ServerException> {
    let exception = |(listener, at): Key, state, reason: &str| ServerException {
        server: format!("{at}/{}", listener.protocol),
        state,
        reason: Some(reason.to_owned()),
    };
    let unready = wanted
        .desired
        .unready
        .iter()
        .filter(|(_, state)| **state == State::NotReady);
    // A server may be behind several listeners, and is told once.
    let mut exceptions: BTreeSet<ServerException> = unready
        .map(|(key, _)| exception(*key, ServerState::Unhealthy, "NotReady"))
        .collect();
    for (key, reason) in &wanted.desired.failing {
        exceptions.insert(exception(*key, ServerState::Unhealthy, &reason.to_string()));
    }
    for (key, reason) in observed
        .into_iter()
        .flat_map(|observed| draining(wanted, observed))
    {
        exceptions.insert(exception(key, ServerState::Draining, reason));
    }
    exceptions.into_iter().take(EXCEPTIONS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Desired;
    use crate::health::Reason;
    use crate::table::fixture::{at, http, table};
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn wanted(servers: &[(u8, u32)], unready: &[(u8, State)]) -> Wanted {
        let unready = unready
            .iter()
            .map(|(octet, state)| ((http(), at(*octet)), *state))
            .collect();
        let desired = Desired {
            table: table(http(), servers),
            unready,
            ..Desired::default()
        };
        Wanted {
            desired,
            generation: 2,
            drain_timeout: Duration::ZERO,
            warm_up: Duration::ZERO,
        }
    }

    fn observed(servers: &[(u8, u32)]) -> Observed {
        Observed {
            table: table(http(), servers),
            ..Observed::default()
        }
    }

    fn told(wanted: &Wanted, observed: &Observed) -> Vec<String> {
        let line = |it: &ServerException| {
            format!(
                "{} {:?} {}",
                it.server,
                it.state,
                it.reason.as_deref().unwrap_or_default()
            )
        };
        exceptions(wanted, Some(observed)).iter().map(line).collect()
    }

    #[test]
    fn servers_are_counted_by_what_they_do() {
        let wanted = wanted(
            &[(1, 1)],
            &[
                (2, State::NotReady),
                (3, State::Terminating),
                (5, State::NotReady),
            ],
        );
        let observed = observed(&[(1, 1), (2, 0), (3, 0), (4, 0)]);
        let counts = count(&wanted, Some(&observed));
        assert_eq!((counts.total, counts.healthy, counts.draining), (3, 1, 2));
        assert_eq!(
            told(&wanted, &observed),
            [
                "10.0.0.2:8080/TCP Unhealthy NotReady",
                "10.0.0.3:8080/TCP Draining Terminating",
                "10.0.0.4:8080/TCP Draining Removed",
                "10.0.0.5:8080/TCP Unhealthy NotReady",
            ]
        );
    }

    #[test]
    fn who_fails_is_told_with_its_reason_and_is_not_also_draining() {
        let mut wanted = wanted(&[(1, 1)], &[]);
        wanted.desired.failing = BTreeMap::from([((http(), at(2)), Reason::Status(503))]);
        let observed = observed(&[(1, 1), (2, 0)]);
        assert_eq!(
            told(&wanted, &observed),
            ["10.0.0.2:8080/TCP Unhealthy Status503"]
        );
        let counts = count(&wanted, Some(&observed));
        assert_eq!(
            (counts.total, counts.healthy, counts.draining, counts.panicking),
            (2, 1, 0, 0)
        );
        wanted.desired.failing = BTreeMap::from([((http(), at(1)), Reason::Timeout)]);
        wanted.desired.panicking = BTreeSet::from([http()]);
        let counts = count(&wanted, Some(&observed));
        assert_eq!((counts.total, counts.healthy, counts.panicking), (1, 0, 1));
    }

    #[test]
    fn not_all_exceptions_are_told() {
        let servers: Vec<(u8, State)> = (1..=40).map(|octet| (octet, State::NotReady)).collect();
        assert_eq!(exceptions(&wanted(&[], &servers), None).len(), EXCEPTIONS);
    }
}
