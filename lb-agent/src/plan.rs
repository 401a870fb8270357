//! What to change so that the kernel holds the wanted table: steps, in an order that loses no connection.
//! Pure. Make before break: services, servers, weights and schedulers, rules; then old servers, old services.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use crate::table::{Family, Listener, Scheduler, Server, Service, Table};

/// Fills a hashing service: each server added to `mh` makes it compute its whole table anew.
const FILLING: &str = "rr";

/// One change to the kernel. Steps are data, so that a plan can be printed, compared and tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Makes a service without servers.
    AddService(Listener, Scheduler),
    /// Adds a server to a service.
    AddServer(Listener, SocketAddr, Server),
    /// Changes a server in place; its connections stay.
    SetServer(Listener, SocketAddr, Server),
    /// Changes the scheduler of a service in place; connections stay.
    SetScheduler(Listener, Scheduler),
    /// Gives packets of just these listeners their marks, and mends all our rules of the family.
    SetRules(Family, BTreeSet<Listener>),
    /// Removes our rules of a family.
    RemoveRules(Family),
    /// Removes a server; connections that it still has are reset.
    RemoveServer(Listener, SocketAddr),
    /// Removes a service.
    RemoveService(Listener),
}

impl Step {
    /// A name from a fixed set, for metrics and logs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AddService(..) => "add_service",
            Self::AddServer(..) => "add_server",
            Self::SetServer(..) => "set_server",
            Self::SetScheduler(..) => "set_scheduler",
            Self::SetRules(..) => "set_rules",
            Self::RemoveRules(..) => "remove_rules",
            Self::RemoveServer(..) => "remove_server",
            Self::RemoveService(..) => "remove_service",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddService(at, scheduler) => {
                write!(f, "add service {at} mark {} scheduler {scheduler}", at.mark())
            }
            Self::AddServer(at, server, how) => write!(f, "add server {server} to {at} {how}"),
            Self::SetServer(at, server, how) => write!(f, "set server {server} of {at} {how}"),
            Self::SetScheduler(at, scheduler) => write!(f, "set scheduler of {at} to {scheduler}"),
            Self::SetRules(family, marked) => {
                let marked: Vec<String> = marked.iter().map(ToString::to_string).collect();
                write!(f, "set {family} rules to mark [{}]", marked.join(", "))
            }
            Self::RemoveRules(family) => write!(f, "remove {family} rules"),
            Self::RemoveServer(at, server) => write!(f, "remove server {server} from {at}"),
            Self::RemoveService(at) => write!(f, "remove service {at} mark {}", at.mark()),
        }
    }
}

/// The steps from `current` to `wanted`. Applied to `current` they give `wanted`, and then there are none left.
#[must_use]
pub fn plan(current: &Table, wanted: &Table) -> Vec<Step> {
    let mut steps = Vec::new();
    make_services(current, wanted, &mut steps);
    make_servers(current, wanted, &mut steps);
    change(current, wanted, &mut steps);
    switch_rules(current, wanted, &mut steps);
    break_old(current, wanted, &mut steps);
    steps
}

fn make_services(current: &Table, wanted: &Table, steps: &mut Vec<Step>) {
    for (listener, service) in &wanted.services {
        if !current.services.contains_key(listener) {
            steps.push(Step::AddService(*listener, first_scheduler(service)));
        }
    }
}

/// The scheduler that a new service begins with.
fn first_scheduler(service: &Service) -> Scheduler {
    if service.scheduler.name == "mh" && !service.servers.is_empty() {
        Scheduler::plain(FILLING)
    } else {
        service.scheduler.clone()
    }
}

fn make_servers(current: &Table, wanted: &Table, steps: &mut Vec<Step>) {
    for (listener, service) in &wanted.services {
        let known = current.services.get(listener).map(|service| &service.servers);
        for (address, server) in &service.servers {
            if !known.is_some_and(|known| known.contains_key(address)) {
                steps.push(Step::AddServer(*listener, *address, *server));
            }
        }
    }
}

fn change(current: &Table, wanted: &Table, steps: &mut Vec<Step>) {
    for (listener, service) in &wanted.services {
        let known = current.services.get(listener);
        // Those that take connections first: there is never a moment with none.
        let mut changed: Vec<_> = service
            .servers
            .iter()
            .filter(|(address, server)| {
                let before = known.and_then(|known| known.servers.get(address));
                before.is_some_and(|before| before != *server)
            })
            .collect();
        changed.sort_by_key(|(_, server)| std::cmp::Reverse(server.weight));
        steps.extend(
            changed
                .into_iter()
                .map(|(address, server)| Step::SetServer(*listener, *address, *server)),
        );
        let now = known.map_or_else(|| first_scheduler(service), |known| known.scheduler.clone());
        if now != service.scheduler {
            steps.push(Step::SetScheduler(*listener, service.scheduler.clone()));
        }
    }
}

fn switch_rules(current: &Table, wanted: &Table, steps: &mut Vec<Step>) {
    for (family, marked) in &wanted.marked {
        if current.marked.get(family) != Some(marked) {
            steps.push(Step::SetRules(*family, marked.clone()));
        }
    }
    for family in current.marked.keys() {
        if !wanted.marked.contains_key(family) {
            steps.push(Step::RemoveRules(*family));
        }
    }
}

fn break_old(current: &Table, wanted: &Table, steps: &mut Vec<Step>) {
    for (listener, service) in &current.services {
        let kept = wanted.services.get(listener);
        for address in service.servers.keys() {
            if !kept.is_some_and(|kept| kept.servers.contains_key(address)) {
                steps.push(Step::RemoveServer(*listener, *address));
            }
        }
    }
    for listener in current.services.keys() {
        if !wanted.services.contains_key(listener) {
            steps.push(Step::RemoveService(*listener));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Forwarding, Weight};
    use crd::Protocol;
    use proptest::collection::{btree_map, btree_set};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Does to a table what the kernel would do, and refuses what the kernel would refuse.
    fn apply(table: &mut Table, step: &Step) {
        let is_fine = match step {
            Step::AddService(at, scheduler) => {
                let new = Service {
                    scheduler: scheduler.clone(),
                    servers: BTreeMap::new(),
                };
                table.services.insert(*at, new).is_none()
            }
            Step::SetRules(family, marked) => {
                table.marked.insert(*family, marked.clone()) != Some(marked.clone())
            }
            Step::RemoveRules(family) => table.marked.remove(family).is_some(),
            Step::RemoveService(at) => table
                .services
                .remove(at)
                .is_some_and(|old| old.servers.is_empty()),
            Step::AddServer(at, ..)
            | Step::SetServer(at, ..)
            | Step::SetScheduler(at, ..)
            | Step::RemoveServer(at, ..) => table
                .services
                .get_mut(at)
                .is_some_and(|service| apply_inside(service, step)),
        };
        assert!(is_fine, "refused: {step}");
    }

    fn apply_inside(service: &mut Service, step: &Step) -> bool {
        match step {
            Step::AddServer(_, at, server) => service.servers.insert(*at, *server).is_none(),
            Step::SetServer(_, at, server) => service.servers.insert(*at, *server).is_some(),
            Step::RemoveServer(_, at) => service.servers.remove(at).is_some(),
            Step::SetScheduler(_, scheduler) => {
                service.scheduler = scheduler.clone();
                true
            }
            _ => false,
        }
    }

    fn listeners() -> impl Strategy<Value = Listener> {
        let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
        let protocol = prop_oneof![Just(Protocol::TCP), Just(Protocol::UDP)];
        (family, protocol, 1..4_u16).prop_map(|(family, protocol, port)| Listener {
            family,
            protocol,
            port,
        })
    }

    fn servers() -> impl Strategy<Value = Server> {
        let forwarding = prop_oneof![4 => Just(Forwarding::Nat), 1 => Just(Forwarding::Foreign)];
        (0..3_u32, forwarding).prop_map(|(weight, forwarding)| Server {
            weight: Weight(weight),
            forwarding,
        })
    }

    fn services() -> impl Strategy<Value = Service> {
        let scheduler = prop_oneof![Just("rr"), Just("wlc"), Just("mh")].prop_map(|name| Scheduler {
            name: name.to_owned(),
            flags: if name == "mh" { Scheduler::FALLBACK } else { 0 },
        });
        let address = (1..6_u8).prop_map(|octet| SocketAddr::from(([10, 0, 0, octet], 80)));
        (scheduler, btree_map(address, servers(), 0..5))
            .prop_map(|(scheduler, servers)| Service { scheduler, servers })
    }

    /// A table whose rules mark only services that it has.
    fn tables() -> impl Strategy<Value = Table> {
        let families = btree_set(prop_oneof![Just(Family::V4), Just(Family::V6)], 0..=2);
        (btree_map(listeners(), services(), 0..6), families, any::<u32>()).prop_map(
            |(services, families, pick)| {
                let marks = |family| {
                    let of_family = services
                        .keys()
                        .copied()
                        .filter(|at: &Listener| at.family == family);
                    of_family
                        .enumerate()
                        .filter(|(n, _)| pick >> n & 1 == 1)
                        .map(|(_, at)| at)
                        .collect()
                };
                let marked = families
                    .into_iter()
                    .map(|family| (family, marks(family)))
                    .collect();
                Table { services, marked }
            },
        )
    }

    fn rank(step: &Step) -> u8 {
        match step {
            Step::AddService(..) => 0,
            Step::AddServer(..) => 1,
            Step::SetServer(..) | Step::SetScheduler(..) => 2,
            Step::SetRules(..) | Step::RemoveRules(..) => 3,
            Step::RemoveServer(..) => 4,
            Step::RemoveService(..) => 5,
        }
    }

    proptest! {
        #[test]
        fn a_plan_leads_to_the_wanted_table(a in tables(), b in tables()) {
            let mut table = a.clone();
            for step in plan(&a, &b) {
                apply(&mut table, &step);
            }
            prop_assert_eq!(&table, &b);
            prop_assert_eq!(plan(&table, &b), vec![]);
        }

        #[test]
        fn it_makes_before_it_breaks(a in tables(), b in tables()) {
            let ranks: Vec<u8> = plan(&a, &b).iter().map(rank).collect();
            prop_assert!(ranks.is_sorted());
        }

        #[test]
        fn a_stopped_plan_goes_on_from_what_is_there(a in tables(), b in tables(), stop in 0..20_usize) {
            let mut table = a.clone();
            for step in plan(&a, &b).iter().take(stop) {
                apply(&mut table, step);
            }
            for step in plan(&table.clone(), &b) {
                apply(&mut table, &step);
            }
            prop_assert_eq!(table, b);
        }

        #[test]
        fn a_marked_listener_always_has_its_service(a in tables(), b in tables()) {
            let mut table = a.clone();
            for step in plan(&a, &b) {
                apply(&mut table, &step);
                for listener in table.marked.values().flatten() {
                    prop_assert!(table.services.contains_key(listener), "{} after {}", listener, step);
                }
            }
        }

        #[test]
        fn a_service_never_runs_out_of_servers_on_the_way(a in tables(), b in tables()) {
            let taking = |table: &Table, at: &Listener| {
                table.services.get(at).is_some_and(|service| {
                    service.servers.values().any(|server| server.weight != Weight::DRAINING)
                })
            };
            let mut table = a.clone();
            for step in plan(&a, &b) {
                apply(&mut table, &step);
                for at in a.services.keys().filter(|at| taking(&a, at) && taking(&b, at)) {
                    prop_assert!(taking(&table, at), "{} after {}", at, step);
                }
            }
        }
    }

    fn mh(servers: u8) -> Service {
        let at = |octet| {
            (
                SocketAddr::from(([10, 0, 0, octet], 80)),
                Server::nat(Weight::NORMAL),
            )
        };
        Service {
            scheduler: Scheduler {
                name: "mh".into(),
                flags: Scheduler::FALLBACK,
            },
            servers: (1..=servers).map(at).collect(),
        }
    }

    fn http() -> Listener {
        Listener {
            family: Family::V4,
            protocol: Protocol::TCP,
            port: 80,
        }
    }

    #[test]
    fn mh_is_filled_under_rr_and_then_switched() {
        let wanted = Table {
            services: [(http(), mh(2))].into(),
            ..Table::default()
        };
        let lines: Vec<String> = plan(&Table::default(), &wanted)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            lines,
            [
                "add service 80/TCP IPv4 mark 0x40000050 scheduler rr",
                "add server 10.0.0.1:80 to 80/TCP IPv4 weight 1",
                "add server 10.0.0.2:80 to 80/TCP IPv4 weight 1",
                "set scheduler of 80/TCP IPv4 to mh+fallback",
            ]
        );
    }

    #[test]
    fn a_living_mh_service_is_never_put_under_rr() {
        let table = |servers| Table {
            services: [(http(), mh(servers))].into(),
            ..Table::default()
        };
        assert_eq!(
            plan(&table(1), &table(2))
                .iter()
                .map(Step::kind)
                .collect::<Vec<_>>(),
            ["add_server"]
        );
    }
}
