//! From specs and endpoints to tables.

use super::*;
use crate::endpoints::tests::{ready, slice};
use crate::health::Change;
use crate::table::{Persistence, Rules, Scheduler, Scheduling};
use crd::Protocol;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;

fn spec(yaml: &str) -> PortableLoadBalancerSpec {
    serde_yaml::from_str(yaml).expect("a spec")
}

fn http() -> PortableLoadBalancerSpec {
    spec("{backends: {service: {name: web}}, ports: [{name: http, port: 80, targetPort: http}]}")
}

fn read(spec: &PortableLoadBalancerSpec, slices: &[EndpointSlice]) -> Desired {
    let slices: Vec<_> = slices.iter().cloned().map(|it| Arc::new(it.into())).collect();
    desired(&Inputs {
        spec,
        service_ports: None,
        slices: &slices,
        trust: &Trust::pods("shop"),
        addresses: &Addresses::default(),
        ways: &Ways::default(),
        checks: &Checks::default(),
        health: &Health::default(),
        held: &Held::default(),
        networks: None,
    })
}

#[test]
fn every_listener_is_a_marked_service_with_its_ready_servers() {
    let found = read(&http(), &[slice("IPv4", 8080, ready(&["10.0.0.1", "10.0.0.2"]))]);
    let text = found.table.to_string();
    assert_eq!(
        text,
        "80/TCP IPv4 0x40000050 wlc\n  10.0.0.1:8080 weight 1\n  10.0.0.2:8080 weight 1\nIPv4 marks [80/TCP 0x40000050]\n"
    );
}

#[test]
fn a_port_that_leads_nowhere_is_told_and_listens_without_servers() {
    let ports: Vec<ServicePort> = vec![];
    let found = desired(&Inputs {
        spec: &http(),
        service_ports: Some(&ports),
        slices: &[Arc::new(slice("IPv4", 8080, ready(&["10.0.0.1"])).into())],
        trust: &Trust::All,
        addresses: &Addresses::default(),
        ways: &Ways::default(),
        checks: &Checks::default(),
        health: &Health::default(),
        held: &Held::default(),
        networks: None,
    });
    assert_eq!((found.unresolved.len(), found.table.server_count()), (1, 0));
    assert_eq!(found.table.services.len(), 1);
}

#[test]
fn impossible_ports_and_the_agents_own_are_left_out() {
    for port in [0, -1, 65536, 9913] {
        let mut spec = http();
        spec.ports[0].port = port;
        assert!(read(&spec, &[]).table.services.is_empty(), "{port}");
    }
    let mut spec = http();
    spec.ports[0].port = 9913;
    spec.ports[0].protocol = Protocol::UDP;
    assert_eq!(read(&spec, &[]).table.services.len(), 1);
}

fn web(more: &str) -> PortableLoadBalancerSpec {
    spec(&format!("{{backends: {{service: {{name: web}}}}, {more}}}"))
}

/// At `10.0.0.9` and `fd00::9`, with two servers of each family that call port 8080 `http`.
fn at_home(spec: &PortableLoadBalancerSpec) -> String {
    let slices = [
        Arc::new(slice("IPv4", 8080, ready(&["10.0.0.1", "10.0.0.2"])).into()),
        Arc::new(slice("IPv6", 8080, ready(&["fd00::1"])).into()),
    ];
    let own = ["10.0.0.9", "fd00::9"].map(|it| it.parse().expect("an address"));
    let found = desired(&Inputs {
        spec,
        service_ports: None,
        slices: &slices,
        trust: &Trust::All,
        addresses: &own.into_iter().collect(),
        ways: &Ways::default(),
        checks: &Checks::default(),
        health: &Health::default(),
        held: &Held::default(),
        networks: None,
    });
    assert_eq!(found.unresolved, []);
    found.table.to_string()
}

#[test]
fn a_range_keeps_its_ports() {
    let table = at_home(&web(
        "ports: [{name: rtp, port: 20000, endPort: 20063, protocol: UDP}]",
    ));
    let expected = "\
20000/UDP IPv4 0x40024e20 wlc
  10.0.0.1:0 weight 1
  10.0.0.2:0 weight 1
20000/UDP IPv6 0x40034e20 wlc
  [fd00::1]:0 weight 1
IPv4 marks [20000-20063/UDP 0x40024e20]
IPv6 marks [20000-20063/UDP 0x40034e20]
";
    assert_eq!(table, expected);
}

#[test]
fn a_persistent_port_is_a_service_of_the_address() {
    let table = at_home(&web(
        "ports: [{name: http, port: 80, targetPort: http}], persistence: {timeoutSeconds: 60, prefixLengthIPv4: 24}",
    ));
    let expected = "\
10.0.0.9:80/TCP 0x40080050 wlc persistent 60 s by /24
  10.0.0.1:8080 weight 1
  10.0.0.2:8080 weight 1
[fd00::9]:80/TCP 0x40090050 wlc persistent 60 s by /128
  [fd00::1]:8080 weight 1
IPv4 marks [10.0.0.9 80/TCP 0x40080050]
IPv6 marks [fd00::9 80/TCP 0x40090050]
";
    assert_eq!(table, expected);
}

#[test]
fn all_ports_can_be_persistent_as_one() {
    let table = at_home(&web(
        "ports: [{name: http, port: 80}, {name: https, port: 443}], persistence: {timeoutSeconds: 60, scope: All}",
    ));
    let expected = "\
all ports IPv4 0x40000000 wlc persistent 60 s by /32
  10.0.0.1:0 weight 1
  10.0.0.2:0 weight 1
all ports IPv6 0x40010000 wlc persistent 60 s by /128
  [fd00::1]:0 weight 1
IPv4 marks [80/TCP 0x40000000, 443/TCP 0x40000000]
IPv6 marks [80/TCP 0x40010000, 443/TCP 0x40010000]
";
    assert_eq!(table, expected);
}

#[test]
fn direct_routing_and_tunnels_go_by_the_virtual_address_and_are_not_masqueraded() {
    for (forwarding, how) in [
        ("{type: DR}", "DR"),
        ("{type: TUN}", "IPIP"),
        ("{type: TUN, tunnel: {type: GUE}}", "GUE to port 6080"),
        ("{type: TUN, tunnel: {type: GUE, port: 7}}", "GUE to port 7"),
        ("{type: TUN, tunnel: {type: GRE}}", "GRE"),
    ] {
        let table = at_home(&web(&format!(
            "ports: [{{name: http, port: 80}}], forwarding: {forwarding}, \
             exposure: {{type: VirtualIP, virtualIP: {{addresses: [192.0.2.1]}}}}"
        )));
        let expected = format!(
            "\
80/TCP IPv4 0x40000050 wlc
  10.0.0.1:80 weight 1 by {how}
  10.0.0.2:80 weight 1 by {how}
IPv4 marks [192.0.2.1 80/TCP 0x40000050] without masquerading
IPv6 marks [] without masquerading
"
        );
        assert_eq!(table, expected);
    }
}

#[test]
fn given_endpoints_have_weights_and_need_numbers() {
    const ENDPOINTS: &str = "backends: {type: Endpoints, endpoints: [{address: 10.0.0.5, weight: 3}, {address: 10.0.0.6}, {address: 127.0.0.1}]}";
    let table = at_home(&spec(&format!(
        "{{{ENDPOINTS}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}"
    )));
    assert!(
        table.contains("wlc\n  10.0.0.5:8080 weight 3\n  10.0.0.6:8080 weight 1\n80/TCP IPv6"),
        "{table}"
    );
    let named = spec(&format!(
        "{{{ENDPOINTS}, ports: [{{name: http, port: 80, targetPort: http}}]}}"
    ));
    assert_eq!(
        read(&named, &[]).unresolved,
        [TargetError::NoNames("http".into())]
    );
}

#[test]
fn limits_sources_and_timeouts_are_set() {
    let spec = web(
        "ports: [{name: http, port: 80}], sourceRanges: [10.1.2.3/8, 'fd00::/8', 192.0.2.7/32], \
         timeouts: {tcpSeconds: 60}, \
         limits: {entriesPerServer: 100, newConnectionsPerSecond: 50, newConnectionsPerSecondPerSource: 5}",
    );
    let found = read(&spec, &[slice("IPv4", 80, ready(&["10.0.0.1"]))]);
    let rules = &found.table.rules[&Family::V4];
    let sources = ["10.0.0.0/8", "192.0.2.7/32"].map(|it| it.parse().expect("a network"));
    assert_eq!(
        rules,
        &Rules {
            sources: Some(sources.into()),
            rate: Some(50),
            source_rate: Some(5),
            ..Rules::marking([Listener::marked(Family::V4, Protocol::TCP, 80)])
        }
    );
    let timeouts = found.table.timeouts.expect("said");
    assert_eq!(
        (
            timeouts.tcp_seconds,
            timeouts.tcp_fin_seconds,
            timeouts.udp_seconds
        ),
        (60, 120, 300)
    );
    let servers = found.table.services.values().flat_map(|it| it.servers.values());
    assert!(servers.into_iter().all(|server| server.entries_limit == 100));
}

#[test]
fn sources_of_the_other_family_alone_let_nobody_in() {
    let rules = settings::rules(&web("ports: [], sourceRanges: ['fd00::/8']"), Family::V4);
    assert_eq!(rules.sources, Some([].into()));
}

#[test]
fn mh_always_falls_back_and_others_have_no_flags() {
    for (wanted, flags) in [
        ("{name: mh}", Scheduler::FALLBACK),
        ("{name: mh, flags: [Port]}", Scheduler::FALLBACK | Scheduler::PORT),
        ("{name: rr}", 0),
        ("{name: sh}", 0),
        ("{name: wlc, flags: [Port]}", 0),
    ] {
        let spec = web(&format!("ports: [], scheduler: {wanted}"));
        let found: Scheduling = settings::scheduling(&spec, Family::V4);
        assert_eq!(found.scheduler.flags, flags, "{wanted}");
        assert_eq!(found.persistence, None::<Persistence>);
    }
}

proptest! {
    #[test]
    fn no_port_number_makes_it_panic(port: i32, end: Option<i32>, target: i32, slice_port: i32) {
        let mut spec = http();
        spec.ports[0].port = port;
        spec.ports[0].end_port = end;
        spec.ports[0].target_port = Some(IntOrString::Int(target));
        let _ = read(&spec, &[slice("IPv4", slice_port, ready(&["10.0.0.1"]))]);
    }
}

/// What servers answered.
#[derive(Clone, Copy)]
enum Answer {
    None,
    Good,
    Bad(Reason),
}

/// Two servers that forward so, with one that a gateway is before, and what is learnt of those that are asked.
fn bypassing(forwarding: &str, answer: Answer) -> Desired {
    let spec = spec(&format!(
        "{{backends: {{type: Endpoints, endpoints: [{{address: 10.0.0.1}}, {{address: 10.0.1.1}}]}}, \
         forwarding: {{type: {forwarding}}}, ports: [{{name: http, port: 80}}], \
         exposure: {{type: VirtualIP, virtualIP: {{addresses: [10.9.0.1]}}}}}}"
    ));
    let checks = Checks::new(&spec);
    let at = |text: &str| text.parse::<IpAddr>().expect("an address");
    let ways: Ways = [(at("10.0.1.1"), at("10.0.0.254"))].into_iter().collect();
    let addresses: Addresses = [at("10.0.0.9")].into_iter().collect();
    let read = |health: &Health| {
        desired(&Inputs {
            spec: &spec,
            service_ports: None,
            slices: &[],
            trust: &Trust::All,
            addresses: &addresses,
            checks: &checks,
            health,
            ways: &ways,
            held: &Held::default(),
            networks: None,
        })
    };
    let mut health = Health::default();
    for target in read(&health).targets.into_values().flatten() {
        assert_eq!(target.to, "10.9.0.1:80".parse().expect("one"));
        assert_eq!(target.source, Some(at("10.0.0.9")));
        let failure = match answer {
            Answer::None => continue,
            Answer::Good => None,
            Answer::Bad(reason) => Some(reason),
        };
        health.take(Change { target, failure });
    }
    read(&health)
}

#[test]
fn a_way_must_be_proven_before_it_is_used() {
    let unproven = bypassing("TUN", Answer::None);
    assert_eq!(unproven.table.server_count(), 0);
    assert_eq!(
        unproven.failing.values().collect::<Vec<_>>(),
        [&Reason::Unproven; 2]
    );
    let failing = bypassing("TUN", Answer::Bad(Reason::Timeout));
    assert_eq!((failing.table.server_count(), failing.panicking.len()), (0, 0));
    let proven = bypassing("TUN", Answer::Good);
    assert_eq!(
        proven.table.to_string(),
        "80/TCP IPv4 0x40000050 wlc\n  10.0.0.1:80 weight 1 by IPIP\n  10.0.1.1:80 weight 1 by IPIP\n\
         IPv4 marks [10.9.0.1 80/TCP 0x40000050] without masquerading\n"
    );
    let paths: Vec<String> = proven.table.paths.values().map(ToString::to_string).collect();
    assert_eq!(paths, ["10.0.0.1 by IPIP", "10.0.1.1 by IPIP"]);
}

#[test]
fn dr_serves_only_what_is_on_the_link() {
    let found = bypassing("DR", Answer::Good);
    assert_eq!(found.table.server_count(), 1);
    assert_eq!(found.failing.values().collect::<Vec<_>>(), [&Reason::NotOnLink]);
    assert_eq!((found.table.paths.len(), found.targets.len()), (1, 1));
}
