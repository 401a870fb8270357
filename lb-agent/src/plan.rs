//! What to change so that the kernel holds the wanted table: steps, in an order that loses no connection.
//! Pure. Make before break: services, servers, weights and schedulers, rules; then old servers, old services.

mod servers;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use crate::table::{
    Family, Listener, Mark, Path, PathMark, Rules, Scheduling, Server, Servers, Service, Table, Timeouts,
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
    Reorder(Listener, Servers),
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

    /// Whether it is about iptables' rules.
    #[must_use]
    pub fn is_rules(&self) -> bool {
        matches!(self, Self::SetRules(..) | Self::RemoveRules(..))
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
    let touched = touched(current, wanted);
    make(&touched, &mut steps);
    // What packets are still led to takes connections until the rules lead them elsewhere.
    let is_served = touched.iter().filter(|it| it.wanted.is_some());
    let marks: BTreeSet<Mark> = touched.iter().map(|it| it.listener.mark()).collect();
    let given = wanted.rules.values().flat_map(Rules::given);
    let given: BTreeSet<Mark> = given.filter(|mark| marks.contains(mark)).collect();
    let (led, left) = is_served.partition::<Vec<_>, _>(|it| given.contains(&it.listener.mark()));
    let masquerades_first = begins_to_masquerade(current, wanted);
    if masquerades_first {
        switch_rules(current, wanted, &mut steps);
    }
    change(&led, &mut steps);
    if !masquerades_first {
        switch_rules(current, wanted, &mut steps);
    }
    change(&left, &mut steps);
    break_old(&touched, &mut steps);
    reorder(current, wanted, &touched, &mut steps);
    steps
}

/// A service that is not as wanted.
struct Touched<'a> {
    listener: Listener,
    current: Option<&'a Service>,
    wanted: Option<&'a Service>,
    servers: Difference<'a>,
}

/// The services that are not as wanted. Mostly these are few, and all others are shared by both tables.
fn touched<'a>(current: &'a Table, wanted: &'a Table) -> Vec<Touched<'a>> {
    let pairs = current.services.apart(&wanted.services);
    let found = pairs.map(|(listener, is, shall)| Touched {
        listener: *listener,
        current: is,
        wanted: shall,
        servers: Difference::between(is, shall),
    });
    let is_touched = |it: &Touched<'_>| match (it.current, it.wanted) {
        (Some(is), Some(shall)) => is.scheduling != shall.scheduling || !it.servers.is_empty(),
        _ => true,
    };
    found.filter(is_touched).collect()
}

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

fn make(touched: &[Touched<'_>], steps: &mut Vec<Step>) {
    let new = touched.iter().filter(|it| it.current.is_none());
    let add = |it: &Touched<'_>| Some(Step::AddService(it.listener, first_scheduling(it.wanted?)));
    steps.extend(new.filter_map(add));
    for Touched {
        listener, servers, ..
    } in touched
    {
        let new = servers.new.iter();
        steps.extend(new.map(|(at, server)| Step::AddServer(*listener, **at, **server)));
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

fn change(touched: &[&Touched<'_>], steps: &mut Vec<Step>) {
    for it in touched {
        let mut changed = it.servers.changed.clone();
        // Those that take connections first: there is never a moment with none.
        changed.sort_by_key(|(_, server)| std::cmp::Reverse(server.weight));
        let changed = changed.into_iter();
        steps.extend(changed.map(|(at, server)| Step::SetServer(it.listener, *at, *server)));
        let Some(service) = it.wanted else { continue };
        let now = match it.current {
            Some(current) => Cow::Borrowed(&current.scheduling),
            None => Cow::Owned(first_scheduling(service)),
        };
        if *now != service.scheduling {
            steps.push(Step::SetService(it.listener, service.scheduling.clone()));
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

/// Servers that are about to be reached by NAT need it from the first connection on; tunnels are not harmed by it.
fn begins_to_masquerade(current: &Table, wanted: &Table) -> bool {
    let begins = |(family, rules): (&Family, &Rules)| {
        let before = current.rules.get(family);
        rules.masquerades && before.is_some_and(|before| !before.masquerades)
    };
    wanted.rules.iter().any(begins)
}

fn break_old(touched: &[Touched<'_>], steps: &mut Vec<Step>) {
    for Touched {
        listener, servers, ..
    } in touched
    {
        let gone = servers.gone.iter();
        steps.extend(gone.map(|(at, _)| Step::RemoveServer(*listener, **at)));
    }
    let old = touched.iter().filter(|it| it.wanted.is_none());
    steps.extend(old.map(|it| Step::RemoveService(it.listener)));
}

/// The order of the servers is part of what `mh` hashes by.
fn reorder(current: &Table, wanted: &Table, touched: &[Touched<'_>], steps: &mut Vec<Step>) {
    let is_between = |it: &&Touched<'_>| {
        let last = it.current.and_then(|service| service.servers.last());
        it.servers.new.iter().any(|(at, _)| Some(*at) < last)
    };
    let between = touched.iter().filter(is_between).map(|it| it.listener);
    let listeners: BTreeSet<Listener> = current.unordered.iter().copied().chain(between).collect();
    for listener in listeners {
        let is_known = current.services.contains_key(&listener);
        let service = wanted.services.get(&listener).filter(|_| is_known);
        if let Some(service) = service.filter(|service| service.needs_order()) {
            steps.push(Step::Reorder(listener, service.servers.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
