//! The largest tables that are promised. Times are printed; what is asserted is how they grow, and what is sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crd::Protocol;
use lb_agent::converge::{Converger, Pace};
use lb_agent::dataplane::Depth;
use lb_agent::table::{Family, Listener, Rules, Scheduling, Server, Service, Table, Weight};

use crate::common::run;
use crate::kernel::in_namespace;

const PACE: Pace = Pace {
    drain: Duration::from_secs(30),
    warm_up: Duration::ZERO,
};

/// So many services with so many servers each.
fn table(services: u16, servers: u16) -> Table {
    let listener = |n| Listener::marked(Family::V4, Protocol::TCP, 1000 + n);
    let at = |service: u16, n: u16| {
        let [a, b] = (service * 7 + n).to_be_bytes();
        SocketAddr::from(([10, 100, a, b], 8080))
    };
    let service = |n| {
        Arc::new(Service {
            scheduling: Scheduling::plain("wlc"),
            servers: (0..servers)
                .map(|it| (at(n, it), Server::nat(Weight::NORMAL)))
                .collect(),
        })
    };
    Table {
        services: (0..services).map(|n| (listener(n), service(n))).collect(),
        rules: [(Family::V4, Rules::marking((0..services).map(listener)))].into(),
        ..Table::default()
    }
}

/// Converges, prints what that cost, and tells the steps and the time.
fn converge(converger: &mut Converger, what: &str, wanted: &Table, depth: Depth) -> (usize, Duration) {
    let start = Instant::now();
    let done = converger.converge(wanted, PACE, depth);
    let (steps, took) = (done.expect("the kernel takes it").steps, start.elapsed());
    let milliseconds = took.as_secs_f64() * 1e3;
    println!(
        "{what}: {steps} steps in {milliseconds:.1} ms; {} MiB resident",
        resident()
    );
    (steps, took)
}

/// The first server of each service, from this service on.
fn first_servers(table: &mut Table, from: usize) -> impl Iterator<Item = &mut Server> {
    let services = table.services.iter_mut().skip(from);
    services.filter_map(|(_, service)| Some(Arc::make_mut(service).servers.iter_mut().next()?.1))
}

/// MiB of memory that this process has.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or_default()
        / 1024
}

#[test]
fn a_thousand_services_with_ten_thousand_servers() {
    in_namespace(&[Family::V4], |kernel| {
        let mut converger = Converger::new(kernel.dataplane);
        let mut wanted = table(1000, 10);
        let mut go = |what: &str, wanted: &Table, depth| converge(&mut converger, what, wanted, depth);
        let (steps, first) = go("first programming", &wanted, Depth::All);
        assert_eq!(steps, 1000 + 10_000 + 1);
        let saved = run("ipvsadm", &["-Sn"]);
        assert_eq!(
            saved.lines().filter(|line| line.starts_with("-a")).count(),
            10_000
        );
        assert_eq!(go("a look at everything", &wanted, Depth::All).0, 0);
        let (steps, nothing) = go("nothing to do", &wanted, Depth::Draining);
        assert_eq!(steps, 0);

        first_servers(&mut wanted, 500)
            .take(1)
            .for_each(|server| server.weight = Weight(2));
        let (steps, one) = go("one change", &wanted, Depth::Draining);
        assert_eq!(steps, 1);
        first_servers(&mut wanted, 0).for_each(|server| server.weight = Weight(3));
        assert_eq!(go("a thousand changes", &wanted, Depth::Draining).0, 1000);
        // Neither reads all that is in the kernel.
        assert!(
            nothing < first / 10 && one < first / 5,
            "{nothing:?}, {one:?} of {first:?}"
        );
    });
}

/// The kernel walks a list of a service's servers for each that it adds: here alone cost grows with the square.
#[test]
fn one_service_with_ten_thousand_servers() {
    in_namespace(&[Family::V4], |kernel| {
        let mut converger = Converger::new(kernel.dataplane);
        for servers in [2_500, 10_000] {
            let mut wanted = table(1, servers);
            let what = format!("{servers} servers of one service");
            converge(&mut converger, &what, &wanted, Depth::All);
            first_servers(&mut wanted, 0).for_each(|server| server.weight = Weight(2));
            assert_eq!(
                converge(&mut converger, "one change", &wanted, Depth::Draining).0,
                1
            );
        }
    });
}
