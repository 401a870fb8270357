//! What to change so that the kernel holds the wanted table: steps, in an order that loses no connection.
//! Pure. Make before break: services, servers, weights and schedulers, rules; then old servers, old services.

mod servers;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use crate::table::{
    Family, Listener, Mark, Path, PathMark, Rules, Scheduling, Server, Service, Table, Timeouts,
};
pub(crate) use servers::Difference;

/// Fills a hashing service: each server added to `mh` makes it compute its whole table anew.
const FILLING: &str = "rr";

/// One change to the kernel. Steps are data, so that a plan can be printed, compared and tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Says how long connections without packets are remembered.
    SetTimeouts(Timeouts),
    /// Makes a service without servers.
    AddService(Listener, Scheduling),
    /// Adds a server to a service.
    AddServer(Listener, SocketAddr, Server),
    /// Changes a server in place; its connections stay.
    SetServer(Listener, SocketAddr, Server),
    /// Changes how a service schedules, in place; connections stay.
    SetService(Listener, Scheduling),
    /// Makes all our rules of the family these.
    SetRules(Family, Rules),
    /// Removes our rules of a family.
    RemoveRules(Family),
    /// Makes a way to a server, for questions.
    AddPath(PathMark, Path),
    /// Removes a way.
    RemovePath(PathMark),
    /// Removes a server; connections that it still has are reset.
    RemoveServer(Listener, SocketAddr),
    /// Removes a service.
    RemoveService(Listener),
    /// Removes each server and adds it at once again, in the order of addresses. Connections of a server that packets
    /// miss in between are scheduled anew, and come to the same server, since only tunnels and `mh` need it.
    Reorder(Listener, BTreeMap<SocketAddr, Server>),
}

/// One of our services in IPVS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spot {
    /// That of a listener.
    Listener(Listener),
    /// A way to a server.
    Path(PathMark),
}

impl Step {
    /// A name from a fixed set, for metrics and logs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SetTimeouts(..) => "set_timeouts",
            Self::AddService(..) => "add_service",
            Self::AddServer(..) => "add_server",
            Self::SetServer(..) => "set_server",
            Self::SetService(..) => "set_service",
            Self::SetRules(..) => "set_rules",
            Self::RemoveRules(..) => "remove_rules",
            Self::AddPath(..) => "add_path",
            Self::RemovePath(..) => "remove_path",
            Self::RemoveServer(..) => "remove_server",
            Self::RemoveService(..) => "remove_service",
            Self::Reorder(..) => "reorder",
        }
    }

    /// What in IPVS it is about, if it is about one thing there.
    #[must_use]
    pub fn spot(&self) -> Option<Spot> {
        match self {
            Self::AddService(at, ..)
            | Self::AddServer(at, ..)
            | Self::SetServer(at, ..)
            | Self::SetService(at, ..)
            | Self::RemoveServer(at, ..)
            | Self::Reorder(at, _)
            | Self::RemoveService(at) => Some(Spot::Listener(*at)),
            Self::AddPath(mark, _) | Self::RemovePath(mark) => Some(Spot::Path(*mark)),
            Self::SetTimeouts(..) | Self::SetRules(..) | Self::RemoveRules(..) => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetTimeouts(Timeouts {
                tcp_seconds,
                tcp_fin_seconds,
                udp_seconds,
            }) => write!(
                f,
                "set timeouts to TCP {tcp_seconds} s, TCP FIN {tcp_fin_seconds} s, UDP {udp_seconds} s"
            ),
            Self::AddService(at, how) => {
                write!(f, "add service {at} mark {} scheduler {how}", at.mark())
            }
            Self::AddServer(at, server, how) => write!(f, "add server {server} to {at} {how}"),
            Self::SetServer(at, server, how) => write!(f, "set server {server} of {at} {how}"),
            Self::SetService(at, how) => write!(f, "set scheduler of {at} to {how}"),
            Self::SetRules(family, rules) => write!(f, "set {family} rules: {rules}"),
            Self::RemoveRules(family) => write!(f, "remove {family} rules"),
            Self::AddPath(mark, path) => write!(f, "add way mark {mark} to {path}"),
            Self::RemovePath(mark) => write!(f, "remove way mark {mark}"),
            Self::RemoveServer(at, server) => write!(f, "remove server {server} from {at}"),
            Self::RemoveService(at) => write!(f, "remove service {at} mark {}", at.mark()),
            Self::Reorder(at, servers) => write!(f, "reorder the {} servers of {at}", servers.len()),
        }
    }
}

/// The steps from `current` to `wanted`. Applied to `current` they give `wanted`, and then there are none left.
#[must_use]
pub fn plan(current: &Table, wanted: &Table) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some(timeouts) = wanted.timeouts.filter(|_| wanted.timeouts != current.timeouts) {
        steps.push(Step::SetTimeouts(timeouts));
    }
    set_paths(current, wanted, &mut steps);
    make_services(current, wanted, &mut steps);
    let differences = differences(current, wanted);
    for (listener, difference) in &differences {
        let new = difference.new.iter();
        steps.extend(new.map(|(at, server)| Step::AddServer(*listener, **at, **server)));
    }
    // What packets are still led to takes connections until the rules lead them elsewhere.
    let given: BTreeSet<Mark> = wanted.rules.values().flat_map(Rules::given).collect();
    let (led, left) = wanted
        .services
        .iter()
        .partition::<Vec<_>, _>(|(listener, _)| given.contains(&listener.mark()));
    change((current, &differences), &led, &mut steps);
    switch_rules(current, wanted, &mut steps);
    change((current, &differences), &left, &mut steps);
    for (listener, difference) in &differences {
        let gone = difference.gone.iter();
        steps.extend(gone.map(|(at, _)| Step::RemoveServer(*listener, **at)));
    }
    remove_services(current, wanted, &mut steps);
    reorder(current, wanted, &mut steps);
    steps
}

/// How the servers of each service differ; services of which none does are not in it.
fn differences<'a>(current: &'a Table, wanted: &'a Table) -> Differences<'a> {
    let only_there = current
        .services
        .keys()
        .filter(|it| !wanted.services.contains_key(it));
    let listeners = wanted.services.keys().chain(only_there);
    let found = listeners.map(|listener| {
        let of = |table: &'a Table| table.services.get(listener);
        (*listener, Difference::between(of(current), of(wanted)))
    });
    found
        .filter(|(_, difference)| *difference != Difference::default())
        .collect()
}

type Differences<'a> = BTreeMap<Listener, Difference<'a>>;

/// No client's connection goes by these, so what differs is made anew.
fn set_paths(current: &Table, wanted: &Table, steps: &mut Vec<Step>) {
    for (mark, path) in &current.paths {
        if wanted.paths.get(mark) != Some(path) {
            steps.push(Step::RemovePath(*mark));
        }
    }
    for (mark, path) in &wanted.paths {
        if current.paths.get(mark) != Some(path) {
            steps.push(Step::AddPath(*mark, *path));
        }
    }
}

fn make_services(current: &Table, wanted: &Table, steps: &mut Vec<Step>) {
    for (listener, service) in &wanted.services {
        if !current.services.contains_key(listener) {
            steps.push(Step::AddService(*listener, first_scheduling(service)));
        }
    }
}

/// How a new service begins.
fn first_scheduling(service: &Service) -> Scheduling {
    if service.scheduling.scheduler.name == "mh" && !service.servers.is_empty() {
        Scheduling::plain(FILLING)
    } else {
        service.scheduling.clone()
    }
}

fn change(
    (current, differences): (&Table, &Differences<'_>),
    wanted: &[(&Listener, &Service)],
    steps: &mut Vec<Step>,
) {
    for (listener, service) in wanted.iter().copied() {
        if let Some(difference) = differences.get(listener) {
            let mut changed = difference.changed.clone();
            // Those that take connections first: there is never a moment with none.
            changed.sort_by_key(|(_, server)| std::cmp::Reverse(server.weight));
            let changed = changed.into_iter();
            steps.extend(changed.map(|(at, server)| Step::SetServer(*listener, *at, *server)));
        }
        let known = current.services.get(listener);
        let now = known.map_or_else(
            || Cow::Owned(first_scheduling(service)),
            |known| Cow::Borrowed(&known.scheduling),
        );
        if *now != service.scheduling {
            steps.push(Step::SetService(*listener, service.scheduling.clone()));
        }
    }
}

fn switch_rules(current: &Table, wanted: &Table, steps: &mut Vec<Step>) {
    for (family, rules) in &wanted.rules {
        if current.rules.get(family) != Some(rules) {
            steps.push(Step::SetRules(*family, rules.clone()));
        }
    }
    for family in current.rules.keys() {
        if !wanted.rules.contains_key(family) {
            steps.push(Step::RemoveRules(*family));
        }
    }
}

fn remove_services(current: &Table, wanted: &Table, steps: &mut Vec<Step>) {
    for listener in current.services.keys() {
        if !wanted.services.contains_key(listener) {
            steps.push(Step::RemoveService(*listener));
        }
    }
}

/// The order of the servers is part of what `mh` hashes by.
fn reorder(current: &Table, wanted: &Table, steps: &mut Vec<Step>) {
    for (listener, service) in wanted.services.iter().filter(|(_, it)| it.needs_order()) {
        let Some(known) = current.services.get(listener) else {
            continue;
        };
        let last = known.servers.keys().next_back();
        let is_new = |at: &SocketAddr| !known.servers.contains_key(at);
        let is_between = |at: &SocketAddr| is_new(at) && Some(at) < last;
        if current.unordered.contains(listener) || service.servers.keys().any(is_between) {
            steps.push(Step::Reorder(*listener, service.servers.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
