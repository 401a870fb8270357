//! A plan is applied to a model of the kernel, which refuses what the kernel refuses.

use super::*;
use crate::table::{Forwarding, Persistence, Scheduler, Tunnel, Weight, path_marks};
use crd::Protocol;
use proptest::collection::{btree_map, btree_set};
use proptest::option;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Does to a table what the kernel would do, and refuses what the kernel would refuse.
fn apply(table: &mut Table, step: &Step) {
    let is_fine = match step {
        Step::SetTimeouts(timeouts) => table.timeouts.replace(*timeouts) != Some(*timeouts),
        Step::AddService(at, scheduling) => {
            let new = Service {
                scheduling: scheduling.clone(),
                servers: Servers::new(),
            };
            table.services.insert(*at, Arc::new(new)).is_none()
        }
        Step::SetRules(family, rules) => table.rules.insert(*family, rules.clone()) != Some(rules.clone()),
        Step::RemoveRules(family) => table.rules.remove(family).is_some(),
        Step::AddPath(mark, path) => table.paths.insert(*mark, *path).is_none(),
        Step::RemovePath(mark) => table.paths.remove(mark).is_some(),
        Step::RemoveService(at) => table
            .services
            .remove(at)
            .is_some_and(|old| old.servers.is_empty()),
        Step::Reorder(at, servers) => {
            let known = table.services.get(at).map(|service| &service.servers);
            table.unordered.remove(at);
            known == Some(servers)
        }
        Step::AddServer(at, server, _) if is_between(table, at, server) => {
            table.unordered.insert(*at);
            table
                .services
                .get_mut(at)
                .is_some_and(|service| apply_inside(service, step))
        }
        Step::AddServer(at, ..)
        | Step::SetServer(at, ..)
        | Step::SetService(at, ..)
        | Step::RemoveServer(at, ..) => table
            .services
            .get_mut(at)
            .is_some_and(|service| apply_inside(service, step)),
    };
    assert!(is_fine, "refused: {step}");
}

/// Whether a server is added before one that is there already.
fn is_between(table: &Table, at: &Listener, server: &SocketAddr) -> bool {
    let service = table.services.get(at);
    service.is_some_and(|service| service.servers.last() > Some(server))
}

/// What is to be seen of a table: order only where it counts.
fn seen(mut table: Table) -> Table {
    let services = &table.services;
    table
        .unordered
        .retain(|at| services.get(at).is_some_and(|it| it.needs_order()));
    table
}

fn apply_inside(service: &mut Arc<Service>, step: &Step) -> bool {
    let service = Arc::make_mut(service);
    match step {
        Step::AddServer(_, at, server) => service.servers.insert(*at, *server).is_none(),
        Step::SetServer(_, at, server) => service.servers.insert(*at, *server).is_some(),
        Step::RemoveServer(_, at) => service.servers.remove(at).is_some(),
        Step::SetService(_, scheduling) => {
            service.scheduling = scheduling.clone();
            true
        }
        _ => false,
    }
}

fn listeners() -> impl Strategy<Value = Listener> {
    let family = prop_oneof![Just(Family::V4), Just(Family::V6)];
    let protocol = prop_oneof![Just(Protocol::TCP), Just(Protocol::UDP), Just(Protocol::SCTP)];
    let at_address = prop_oneof![4 => Just(false), 1 => Just(true)];
    (family, protocol, 1..4_u16, at_address).prop_map(|(family, protocol, port, at_address)| Listener {
        address: at_address.then(|| match family {
            Family::V4 => [10, 1, 0, 1].into(),
            Family::V6 => [0xfd00, 0, 0, 0, 0, 0, 0, 1].into(),
        }),
        ..Listener::marked(family, protocol, port)
    })
}

fn servers() -> impl Strategy<Value = Server> {
    let forwarding = prop_oneof![
        4 => Just(Forwarding::Nat),
        1 => Just(Forwarding::Tunnel(Tunnel::Ipip)),
        1 => Just(Forwarding::Foreign)
    ];
    (0..3_u32, forwarding, 0..2_u32).prop_map(|(weight, forwarding, entries_limit)| Server {
        weight: Weight(weight),
        forwarding,
        entries_limit,
    })
}

fn services() -> impl Strategy<Value = Arc<Service>> {
    let scheduler = prop_oneof![Just("rr"), Just("wlc"), Just("mh")].prop_map(|name| Scheduler {
        name: name.to_owned(),
        flags: if name == "mh" { Scheduler::FALLBACK } else { 0 },
    });
    let persistence =
        option::of((1..3_u32, 31..33_u8).prop_map(|(seconds, prefix)| Persistence { seconds, prefix }));
    let scheduling = (scheduler, persistence).prop_map(|(scheduler, persistence)| Scheduling {
        scheduler,
        persistence,
    });
    let address = (1..6_u8).prop_map(|octet| SocketAddr::from(([10, 0, 0, octet], 80)));
    (scheduling, btree_map(address, servers(), 0..5)).prop_map(|(scheduling, servers)| {
        Arc::new(Service {
            scheduling,
            servers: servers.into_iter().collect(),
        })
    })
}

fn paths() -> impl Strategy<Value = BTreeMap<PathMark, Path>> {
    let mark = |octet: u8| {
        let server = [10, 0, 0, octet].into();
        path_marks(&BTreeSet::from([server]))[&server]
    };
    let ways = prop_oneof![Just(Forwarding::Direct), Just(Forwarding::Tunnel(Tunnel::Ipip))];
    let path = (1..3_u8, ways).prop_map(|(octet, forwarding)| Path {
        server: [10, 0, 0, octet].into(),
        forwarding,
    });
    btree_map((0..6_u8).prop_map(mark), path, 0..6)
}

/// A table whose rules mark only services that it has.
fn tables() -> impl Strategy<Value = Table> {
    let families = btree_set(prop_oneof![Just(Family::V4), Just(Family::V6)], 0..=2);
    let timeouts = (1..3_u32).prop_map(|udp_seconds| Timeouts {
        tcp_seconds: 900,
        tcp_fin_seconds: 120,
        udp_seconds,
    });
    (
        btree_map(listeners(), services(), 0..6),
        families,
        any::<u32>(),
        timeouts,
        paths(),
    )
        .prop_map(|(services, families, pick, timeouts, paths)| {
            let picked = |(n, _): &(usize, Listener)| pick >> n & 1 == 1;
            let rules = |family| {
                let of_family = services.keys().copied().filter(|at| at.family == family);
                Rules::marking(of_family.enumerate().filter(picked).map(|(_, at)| at))
            };
            let rules = families
                .into_iter()
                .map(|family| (family, rules(family)))
                .collect();
            Table {
                services: services.into_iter().collect(),
                rules,
                timeouts: Some(timeouts),
                paths,
                unordered: BTreeSet::new(),
            }
        })
}

fn rank(step: &Step, wanted: &Table) -> u8 {
    let is_led = |at: &Listener| {
        wanted
            .rules
            .values()
            .flat_map(Rules::given)
            .any(|mark| mark == at.mark())
    };
    match step {
        Step::SetTimeouts(..) | Step::AddPath(..) | Step::RemovePath(..) | Step::AddService(..) => 0,
        Step::AddServer(..) => 1,
        Step::SetServer(at, ..) | Step::SetService(at, ..) if is_led(at) => 2,
        Step::SetRules(..) | Step::RemoveRules(..) => 3,
        Step::SetServer(..) | Step::SetService(..) => 4,
        Step::RemoveServer(..) => 5,
        Step::RemoveService(..) => 6,
        Step::Reorder(..) => 7,
    }
}

proptest! {
    #[test]
    fn a_plan_leads_to_the_wanted_table(a in tables(), b in tables()) {
        let mut table = a.clone();
        for step in plan(&a, &b) {
            apply(&mut table, &step);
        }
        prop_assert_eq!(plan(&table, &b), vec![]);
        prop_assert_eq!(seen(table), b);
    }

    #[test]
    fn what_is_shared_plans_alike(a in tables(), b in tables(), same in any::<u8>(), unordered in any::<u8>()) {
        let mut alone = a;
        for (n, (at, service)) in b.services.iter().enumerate() {
            if same >> n & 1 == 1 {
                alone.services.insert(*at, Arc::new(Service::clone(service)));
            }
            if unordered >> n & 1 == 1 {
                alone.unordered.insert(*at);
            }
        }
        let mut shared = alone.clone();
        shared.share(&b);
        prop_assert_eq!(&shared, &alone);
        let mut apart = shared.services.apart(&b.services);
        prop_assert!(apart.all(|(_, is, shall)| is != shall), "what is equal is shared");
        prop_assert_eq!(plan(&shared, &b), plan(&alone, &b));
    }

    #[test]
    fn it_makes_before_it_breaks(a in tables(), b in tables()) {
        let ranks: Vec<u8> = plan(&a, &b).iter().map(|step| rank(step, &b)).collect();
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
        prop_assert_eq!(seen(table), b);
    }

    #[test]
    fn a_marked_listener_always_has_its_service(a in tables(), b in tables()) {
        let mut table = a.clone();
        for step in plan(&a, &b) {
            apply(&mut table, &step);
            for mark in table.rules.values().flat_map(Rules::given) {
                let known = table.services.keys().any(|listener| listener.mark() == mark);
                prop_assert!(known, "{} after {}", mark, step);
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
        scheduling: Scheduling {
            scheduler: Scheduler {
                name: "mh".into(),
                flags: Scheduler::FALLBACK,
            },
            persistence: None,
        },
        servers: (1..=servers).map(at).collect(),
    }
}

fn http() -> Listener {
    Listener::marked(Family::V4, Protocol::TCP, 80)
}

#[test]
fn mh_is_filled_under_rr_and_then_switched() {
    let wanted = Table {
        services: [(http(), mh(2).into())].into(),
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
        services: [(http(), mh(servers).into())].into(),
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

#[test]
fn servers_of_a_tunnelled_mh_service_are_brought_into_order() {
    let service = |octets: &[u8]| {
        let mut service = mh(0);
        let tunnelled = Server::new(Weight::NORMAL, Forwarding::Tunnel(Tunnel::Ipip));
        let at = |octet: &u8| (SocketAddr::from(([10, 0, 0, *octet], 80)), tunnelled);
        service.servers = octets.iter().map(at).collect();
        Table {
            services: [(http(), service.into())].into(),
            ..Table::default()
        }
    };
    let kinds = |current: &Table, wanted: &Table| -> Vec<&str> {
        plan(current, wanted).iter().map(Step::kind).collect()
    };
    assert_eq!(kinds(&service(&[1, 2]), &service(&[1, 2, 3])), ["add_server"]);
    let between = kinds(&service(&[1, 3]), &service(&[1, 2, 3]));
    assert_eq!(between, ["add_server", "reorder"]);
    let mut unordered = service(&[1, 2]);
    unordered.unordered.insert(http());
    assert_eq!(kinds(&unordered, &service(&[1, 2])), ["reorder"]);
    assert_ne!(unordered.hash(), service(&[1, 2]).hash());
}
