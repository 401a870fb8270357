//! How many servers there are, and which of them are not as they should be.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crd::{EXCEPTIONS_MAX, ServerCounts, ServerException, ServerState};

use crate::dataplane::Observed;
use crate::endpoints::State;
use crate::facts::Wanted;
use crate::table::{Listener, Weight};

/// How many servers there are of each kind.
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

type Key = (Listener, SocketAddr);

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

/// The servers that are not as they should be, as many as a status has room for.
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
    exceptions.into_iter().take(EXCEPTIONS_MAX).collect()
}
