//! For any two tables: the plan from one to the other leads the real kernel there, and then there is nothing to do.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use crd::Protocol;
use ipnetwork::IpNetwork;
use lb_agent::kernel::commands;
use lb_agent::plan::{Step, plan};
use lb_agent::table::{
    Family, Forwarding, Listener, MarkRule, Persistence, Rules, Scheduler, Scheduling, Server, Service,
    Table, Timeouts, Tunnel, Weight,
};
use proptest::collection::{btree_map, btree_set};
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::common::{feed, run};
use crate::kernel::{Kernel, in_namespace, saved};

/// A machine runs a program in a tenth of a second, so that only few cases have rules: each of them needs twenty.
const CASES: u32 = 40;
const CASES_WITH_RULES: u32 = 6;

fn families() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

fn address(family: Family, last: u8) -> IpAddr {
    match family {
        Family::V4 => [10, 1, 0, last].into(),
        Family::V6 => [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)].into(),
    }
}

fn listeners() -> impl Strategy<Value = Listener> {
    let protocol = prop_oneof![Just(Protocol::TCP), Just(Protocol::UDP), Just(Protocol::SCTP)];
    let own = prop_oneof![4 => Just(false), 1 => Just(true)];
    (families(), protocol, 0..4_u16, own).prop_map(|(family, protocol, port, own)| match port {
        0 => Listener::all_ports(family),
        _ => Listener {
            address: own.then(|| address(family, 1)),
            ..Listener::marked(family, protocol, port)
        },
    })
}

fn servers() -> impl Strategy<Value = Server> {
    let gue = Tunnel::Gue(NonZeroU16::new(6080).expect("not 0"));
    let forwarding = prop_oneof![
        4 => Just(Forwarding::Nat),
        1 => Just(Forwarding::Direct),
        1 => prop_oneof![Just(Tunnel::Ipip), Just(gue), Just(Tunnel::Gre)].prop_map(Forwarding::Tunnel),
    ];
    let weight = prop_oneof![4 => 0..3_u32, 1 => 0..=65_535_u32];
    let limit = prop_oneof![Just(0), 1..=i32::MAX.unsigned_abs()];
    (weight, forwarding, limit).prop_map(|(weight, forwarding, entries_limit)| Server {
        weight: Weight(weight),
        forwarding,
        entries_limit,
    })
}

fn schedulings() -> impl Strategy<Value = Scheduling> {
    let plain = prop::sample::select(vec![
        "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sed", "nq", "fo", "ovf",
    ]);
    let hashing = (prop_oneof![Just("mh"), Just("sh")], 0..4_u32);
    let scheduler = prop_oneof![
        plain.prop_map(Scheduler::plain),
        hashing.prop_map(|(name, flags)| Scheduler {
            name: name.to_owned(),
            flags: flags << 3
        }),
    ];
    let persistence =
        (1..100_000_u32, 1..=32_u8).prop_map(|(seconds, prefix)| Persistence { seconds, prefix });
    (scheduler, option::of(persistence)).prop_map(|(scheduler, persistence)| Scheduling {
        scheduler,
        persistence,
    })
}

/// By the last number of their addresses, and by whether they keep the client's port.
type Servers = BTreeMap<(u8, bool), Server>;

fn service(family: Family, (scheduling, servers): (Scheduling, Servers)) -> Arc<Service> {
    let at = |(last, keeps): (u8, bool)| SocketAddr::new(address(family, last), if keeps { 0 } else { 8080 });
    let servers = servers.into_iter();
    Arc::new(Service {
        scheduling,
        servers: servers.map(|(key, server)| (at(key), server)).collect(),
    })
}

fn services() -> impl Strategy<Value = BTreeMap<Listener, Arc<Service>>> {
    let servers = btree_map((2..9_u8, any::<bool>()), servers(), 0..6);
    btree_map(listeners(), (schedulings(), servers), 0..7).prop_map(|services| {
        let made = |(at, parts): (Listener, _)| (at, service(at.family, parts));
        services.into_iter().map(made).collect()
    })
}

/// Rules of a family, without what they mark.
fn rules(family: Family) -> impl Strategy<Value = Rules> {
    let network = (0..3_u8, 0..=32_u8).prop_map(move |(last, prefix)| {
        let found = IpNetwork::new(address(family, last), prefix).expect("a prefix of both families");
        IpNetwork::new(found.network(), prefix).expect("as before")
    });
    let rates = (option::of(1..10_000_u32), option::of(1..10_000_u32));
    let sources = option::of(btree_set(network, 0..4));
    let virtual_addresses = btree_set((2..5_u8).prop_map(move |last| address(family, last)), 0..3);
    let masquerading = (any::<bool>(), virtual_addresses);
    (masquerading, sources, rates).prop_map(|(masquerading, sources, (rate, source_rate))| Rules {
        marks: BTreeSet::new(),
        masquerades: masquerading.0,
        virtual_addresses: masquerading.1,
        sources,
        rate,
        source_rate,
    })
}

fn mark(listener: Listener, is_range: bool) -> MarkRule {
    let first = listener.port.max(1);
    MarkRule {
        protocol: listener.protocol,
        first,
        last: first + u16::from(is_range),
        destination: listener.address,
        mark: listener.mark(),
    }
}

/// Tables without rules.
fn plain_tables() -> impl Strategy<Value = Table> {
    let seconds = || 1..3000_u32;
    let timeouts = (seconds(), seconds(), seconds());
    let timeouts = timeouts.prop_map(|(tcp_seconds, tcp_fin_seconds, udp_seconds)| Timeouts {
        tcp_seconds,
        tcp_fin_seconds,
        udp_seconds,
    });
    (services(), timeouts).prop_map(|(services, timeouts)| Table {
        services: services.into_iter().collect(),
        timeouts: Some(timeouts),
        ..Table::default()
    })
}

fn tables() -> impl Strategy<Value = Table> {
    let rules = (
        option::of(rules(Family::V4)),
        option::of(rules(Family::V6)),
        any::<u32>(),
    );
    (plain_tables(), rules).prop_map(|(mut table, (four, six, pick))| {
        for (family, rules) in [(Family::V4, four), (Family::V6, six)] {
            let Some(mut rules) = rules else { continue };
            let of_family = table.services.keys().filter(|it| it.family == family);
            let picked = of_family.enumerate().filter(|(n, _)| pick >> n & 1 == 1);
            rules.marks = picked.map(|(n, it)| mark(*it, pick >> n & 2 == 2)).collect();
            table.rules.insert(family, rules);
        }
        table
    })
}

/// A table as `ipvsadm` prints it, sorted. It prints no limits of entries.
fn printed(table: &Table) -> Vec<String> {
    let mut lines: Vec<String> = steps(table)
        .iter()
        .flat_map(|step| commands(step).expect("a valid name"))
        .map(|command| command.ipvsadm())
        .map(|line| match line.split_once(" -x ") {
            Some((start, rest)) => {
                format!("{start}{}", rest.trim_start_matches(|c: char| c.is_ascii_digit()))
            }
            None => line,
        })
        .collect();
    lines.sort();
    lines
}

/// The steps that make the services of a table.
fn steps(table: &Table) -> Vec<Step> {
    let of_service = |(at, service): (&Listener, &Arc<Service>)| {
        let add = Step::AddService(*at, service.scheduling.clone());
        let servers = service.servers.iter();
        let servers: Vec<Step> = servers
            .map(|(address, how)| Step::AddServer(*at, *address, *how))
            .collect();
        [add].into_iter().chain(servers)
    };
    table.services.iter().flat_map(of_service).collect()
}

/// The kernel holds the table in the eyes of our reader and of `ipvsadm`.
fn assert_holds(kernel: &mut Kernel, table: &Table) -> Result<(), TestCaseError> {
    let mut now = kernel.read(table);
    // Elsewhere the order of servers says nothing.
    let services = &now.services;
    now.unordered
        .retain(|at| services.get(at).is_some_and(|it| it.needs_order()));
    prop_assert_eq!(&now, table);
    prop_assert_eq!(plan(&now, table), vec![]);
    prop_assert_eq!(saved(), printed(table));
    Ok(())
}

/// It holds the rest in the eyes of `ipvsadm` and `iptables-save`.
fn assert_holds_rules(table: &Table) -> Result<(), TestCaseError> {
    let told = run("ipvsadm", &["-Ln", "--timeout"]);
    let of = |it: Timeouts| format!("{} {} {}", it.tcp_seconds, it.tcp_fin_seconds, it.udp_seconds);
    prop_assert_eq!(
        told.trim().rsplit(": ").next().map(str::to_owned),
        table.timeouts.map(of)
    );
    for (family, program) in [(Family::V4, "iptables-save"), (Family::V6, "ip6tables-save")] {
        let saved = run(program, &[]);
        let Some(rules) = table.rules.get(&family) else {
            prop_assert!(!saved.contains("PLB-"), "{}", saved);
            continue;
        };
        let of_chain = |chain: &str| {
            saved
                .lines()
                .filter(|line| line.starts_with(&format!("-A {chain} ")))
                .count()
        };
        prop_assert_eq!(of_chain("PLB-MARK"), rules.marks.len());
        let by_address = usize::from(rules.masquerades) * (1 + rules.virtual_addresses.len());
        prop_assert_eq!(of_chain("PLB-MASQ"), by_address);
        prop_assert_eq!(
            of_chain("PLB-SOURCES"),
            rules.sources.as_ref().map_or(0, |it| it.len() + 1)
        );
        for rule in &rules.marks {
            let set = format!("--set-xmark {}/0xffffffff", rule.mark);
            prop_assert!(
                saved.lines().any(|line| line.ends_with(&set)),
                "{} in {}",
                set,
                saved
            );
        }
    }
    Ok(())
}

/// Tries a property on so many inputs, in a kernel that the inputs before have left as they did.
fn holds<S: Strategy>(
    cases: u32,
    inputs: S,
    mut kernel: Kernel,
    property: impl Fn(&mut Kernel, S::Value) -> Result<(), TestCaseError>,
) {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    let kernel = RefCell::new(&mut kernel);
    let outcome = TestRunner::new(config).run(&inputs, |input| property(*kernel.borrow_mut(), input));
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_plan_leads_the_kernel_to_the_wanted_table() {
    in_namespace(&[], |kernel| {
        holds(
            CASES,
            (plain_tables(), plain_tables()),
            kernel,
            |kernel, (a, b)| {
                kernel.go(&a);
                assert_holds(kernel, &a)?;
                kernel.apply(&plan(&a, &b));
                assert_holds(kernel, &b)
            },
        );
    });
}

#[test]
fn a_plan_leads_the_rules_to_the_wanted_ones() {
    in_namespace(&[Family::V4, Family::V6], |kernel| {
        holds(
            CASES_WITH_RULES,
            (tables(), tables()),
            kernel,
            |kernel, (a, b)| {
                kernel.go(&a);
                kernel.apply(&plan(&a, &b));
                assert_holds(kernel, &b)?;
                assert_holds_rules(&b)
            },
        );
    });
}

#[test]
fn a_stopped_plan_goes_on_from_what_is_in_the_kernel() {
    in_namespace(&[], |kernel| {
        holds(
            CASES,
            (plain_tables(), 0..20_usize),
            kernel,
            |kernel, (b, stop)| {
                let steps = kernel.plan(&b);
                kernel.apply(&steps[..stop.min(steps.len())]);
                kernel.go(&b);
                assert_holds(kernel, &b)
            },
        );
    });
}

#[test]
fn what_ipvsadm_wrote_is_read_as_it_was_meant() {
    in_namespace(&[], |kernel| {
        holds(CASES / 2, plain_tables(), kernel, |kernel, mut table| {
            // It can't say that a service at an address is ours.
            table.services.retain(|listener, _| listener.address.is_none());
            let steps = steps(&table);
            let commands = steps
                .iter()
                .flat_map(|step| commands(step).expect("a valid name"));
            let lines: Vec<String> = commands.map(|command| command.ipvsadm()).collect();
            run("ipvsadm", &["-C"]);
            feed("ipvsadm", &["-R"], &(lines.join("\n") + "\n"));
            prop_assert_eq!(kernel.read(&table).services, table.services);
            Ok(())
        });
    });
}

#[test]
fn mh_in_tunnels_has_the_order_of_a_fresh_agent() {
    let table = |lasts: &[u8]| {
        let tunnelled = Server::new(Weight::NORMAL, Forwarding::Tunnel(Tunnel::Ipip));
        let at = |last: &u8| (SocketAddr::new(address(Family::V4, *last), 80), tunnelled);
        let service = Service {
            scheduling: Scheduling::plain("mh"),
            servers: lasts.iter().map(at).collect(),
        };
        Table {
            services: [(Listener::marked(Family::V4, Protocol::TCP, 80), service.into())].into(),
            ..Table::default()
        }
    };
    let order = || std::fs::read_to_string("/proc/thread-self/net/ip_vs").expect("IPVS is there");
    in_namespace(&[], move |mut kernel| {
        kernel.go(&table(&[2, 4, 5]));
        kernel.go(&table(&[2, 3, 4, 5]));
        let grown = order();
        kernel.go(&Table::default());
        kernel.go(&table(&[2, 3, 4, 5]));
        assert_eq!(order(), grown);
        assert_eq!(grown.matches("Tunnel").count(), 4, "{grown}");
    });
}
