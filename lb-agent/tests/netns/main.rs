//! The agent on a real kernel, in fresh network namespaces, checked with `ipvsadm` and `iptables-save`.
//!
//! `e2e/runner` boots a machine around these tests whose kernel has IPVS.

#[allow(dead_code, reason = "shared with other tests, which use other parts")]
#[path = "../common/mod.rs"]
mod common;
mod drift;
mod health;
mod scale;
mod standalone;

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use common::connection::{Connection, ask};
use common::hub::{AGENT, AGENT_V6, Object, Scene};
use common::pause;

const HTTP: &str = "scheduler: {name: rr}, ports: [{name: http, port: 80, targetPort: http}]";

fn object(spec: &'static str, servers: &'static [u8]) -> Object<'static> {
    Object { spec, servers }
}

fn serving(spec: &'static str, servers: &'static [u8]) -> Scene {
    let mut scene = Scene::new();
    scene.write(&object(spec, servers));
    scene.start();
    scene
}

#[test]
fn the_kernel_holds_what_the_object_says() {
    let scene = serving(HTTP, &[2, 3]);
    assert_eq!(
        scene.saved("agent"),
        [
            "-A -f 1073741904 -s rr",
            "-A -f 1073807440 -6 -s rr",
            "-a -f 1073741904 -r 10.1.0.2:8080 -m -w 1",
            "-a -f 1073741904 -r 10.1.0.3:8080 -m -w 1",
            "-a -f 1073807440 -6 -r [fd00::2]:8080 -m -w 1",
            "-a -f 1073807440 -6 -r [fd00::3]:8080 -m -w 1",
        ]
    );
    for (program, mark) in [("iptables-save", "0x40000050"), ("ip6tables-save", "0x40010050")] {
        let rules = scene.at("agent", program);
        let ours: Vec<&str> = rules.lines().filter(|line| line.starts_with("-A")).collect();
        let marking = format!(
            "-A PLB-MARK -p tcp -m tcp --dport 80 -m conntrack --ctdir ORIGINAL -j MARK --set-xmark {mark}/0xffffffff"
        );
        for rule in [
            "-A PLB-INPUT -j PLB-MARK",
            marking.as_str(),
            "-A POSTROUTING -j PLB-MASQ",
            "-A PLB-MASQ -m mark --mark 0x40000000/0x40000000 -j MASQUERADE --random-fully",
            "-A INPUT -j PLB-INPUT",
            "-A PLB-INPUT ! -i lo -m conntrack --ctstate INVALID -j DROP",
        ] {
            assert_eq!(
                ours.iter().filter(|line| **line == rule).count(),
                1,
                "{rule} in\n{rules}"
            );
        }
        assert_eq!(ours.len(), 6, "{rules}");
    }
}

#[test]
fn connections_are_shared_and_come_from_the_agent() {
    let scene = serving(HTTP, &[2, 3]);
    assert_eq!(scene.shares(80, 20), (10, 10));
    assert_eq!(scene.connect(AGENT, 80).expect("a server answers").peer, AGENT);
    let sixth = scene.connect(AGENT_V6, 80).expect("a server answers");
    assert_eq!(sixth.peer, AGENT_V6);
    scene.connect(AGENT, 81).expect_err("nobody listens");
    assert!(scene.agent.admin("/healthz").starts_with("HTTP/1.1 200"));
    scene.until("the counters are told", |scene| {
        let metrics = scene.agent.admin("/metrics");
        metrics.contains(
            "server_connections_total{listener=\"80/TCP\",family=\"IPv4\",server=\"10.1.0.2:8080\"} 1",
        )
    });
}

#[test]
fn a_new_agent_takes_over_what_the_old_one_left() {
    let mut scene = serving(HTTP, &[2, 3]);
    let mut open = scene.connect(AGENT, 80).expect("a server answers");
    scene.shares(80, 9);
    let connections = |scene: &Scene| {
        let stats = scene.at("agent", "ipvsadm -Ln --stats --exact -f 1073741904");
        stats
            .lines()
            .find(|line| line.starts_with("FWM"))
            .and_then(|line| line.split_whitespace().nth(2)?.parse().ok())
    };
    scene.until("the kernel counted them", |scene| {
        connections(scene) == Some(10_u32)
    });
    for signal in ["-KILL", "-TERM"] {
        let before = scene.at("agent", "ipvsadm -Sn");
        scene.agent.stop(signal);
        assert_eq!(scene.at("agent", "ipvsadm -Sn"), before, "the table stays");
        assert_eq!(scene.shares(80, 2), (1, 1));
        assert!(open.echoes());
        scene.start();
        assert_eq!(scene.at("agent", "ipvsadm -Sn"), before);
    }
    assert!(open.echoes());
    scene.until("its counters go on", |scene| connections(scene) == Some(14_u32));
    let log = scene.agent.log();
    let later = log.rsplit("prepared").next().unwrap_or_default();
    assert!(later.contains("programmed") && !later.contains("apply"), "{log}");
}

#[test]
fn what_others_change_is_mended_and_told() {
    let mut scene = Scene::new();
    scene.agent.resync = 1;
    scene.write(&object(HTTP, &[2, 3]));
    scene.start();
    let (table, rules) = (scene.saved("agent"), plain(&scene.at("agent", "iptables-save")));
    for damage in [
        "ipvsadm -D -f 1073741904",
        "ipvsadm -d -f 1073741904 -r 10.1.0.2:8080",
        "ipvsadm -e -f 1073741904 -r 10.1.0.3:8080 -m -w 7",
        "ipvsadm -E -f 1073741904 -s lc -p 60",
        "ipvsadm -a -f 1073741904 -r 10.1.0.77:8080 -m",
        "iptables -t filter -F PLB-MARK",
        "iptables -t nat -D POSTROUTING -j PLB-MASQ",
        "iptables -t filter -A INPUT -j PLB-INPUT",
        "iptables -t filter -A PLB-INPUT -j ACCEPT",
    ] {
        // It answers when its own work is done: what is damaged meanwhile is mended, and not counted.
        scene.agent.admin("/metrics");
        scene.at("agent", damage);
        scene.until(damage, |scene| {
            scene.saved("agent") == table && plain(&scene.at("agent", "iptables-save")) == rules
        });
    }
    assert!(scene.shares(80, 2) == (1, 1));
    let drift = scene.agent.admin("/metrics");
    let drift = drift
        .lines()
        .find_map(|line| line.strip_prefix("portable_lb_agent_drift_steps_total "));
    assert!(
        drift
            .and_then(|it| it.parse().ok())
            .is_some_and(|steps: u32| steps >= 9),
        "{drift:?}"
    );
}

/// Rules without what changes by itself: comments with times, counters, their order of tables.
fn plain(saved: &str) -> Vec<String> {
    let rules = saved
        .lines()
        .filter(|line| line.starts_with("-A") || line.starts_with(":PLB"));
    rules
        .map(|line| line.split(" [").next().unwrap_or(line).to_owned())
        .collect()
}

#[test]
fn foreign_services_and_rules_are_left_alone() {
    let mut scene = Scene::new();
    scene.at("agent", "ipvsadm -A -t 10.1.0.1:8888 -s rr");
    scene.at("agent", "ipvsadm -A -f 7 -s rr");
    scene.at("agent", "iptables -A INPUT -p tcp --dport 9 -j DROP");
    scene.at("agent", "iptables -A INPUT -p tcp --dport 80 -j ACCEPT");
    scene.write(&object(HTTP, &[2, 3]));
    scene.start();
    assert_eq!(scene.shares(80, 2), (1, 1), "what a firewall lets in is balanced");
    scene.write(&object(HTTP, &[2]));
    scene.until("the change is in", |scene| {
        !scene.at("agent", "ipvsadm -Sn").contains("10.1.0.3:8080")
    });
    scene.agent.stop("-TERM");
    scene.agent.command("clear");
    let left = scene.at("agent", "ipvsadm -Sn");
    assert_eq!(left.lines().count(), 2, "{left}");
    let rules = scene.at("agent", "iptables-save");
    assert!(
        rules.contains("--dport 9 -j DROP") && !rules.contains("PLB-"),
        "{rules}"
    );
}

#[test]
fn what_is_only_routed_is_left_alone() {
    let scene = serving(HTTP, &[2, 3]);
    scene.listen("server2", 80);
    scene.ip("client", "route add 10.1.0.2/32 via 10.1.0.1\n");
    let routed = scene.connect("10.1.0.2", 80).expect("the agent's machine routes");
    assert_eq!(routed.peer, "10.1.0.9");
    let counted = scene.at("agent", "iptables-save -c -t filter");
    assert!(!counted.contains(":FORWARD ACCEPT [0:0]"), "{counted}");
}

#[test]
fn a_plan_is_printed_and_changes_nothing() {
    let scene = Scene::new();
    scene.write(&object(
        "ports: [{name: http, port: 80, targetPort: http}], scheduler: {name: mh}",
        &[2],
    ));
    let changes = scene.agent.command("plan --file FILE");
    for line in [
        "+ ipvsadm -A -f 1073741904 -s mh -b mh-fallback",
        "+ ipvsadm -a -f 1073741904 -r 10.1.0.2:8080 -m -w 1",
        "+ iptables -t nat -A POSTROUTING -j PLB-MASQ",
    ] {
        assert!(changes.lines().any(|it| it == line), "{line} in {changes}");
    }
    assert_eq!(scene.at("agent", "ipvsadm -Sn"), "");
    assert!(!scene.at("agent", "iptables-save").contains("PLB"));
}

#[test]
fn a_server_that_goes_keeps_its_connections() {
    let scene = serving(HTTP, &[2, 3]);
    let mut first = scene.connect(AGENT, 80).expect("a server answers");
    let mut second = scene.connect(AGENT, 80).expect("a server answers");
    if first.server != 2 {
        std::mem::swap(&mut first, &mut second);
    }
    scene.write(&object(HTTP, &[3]));
    scene.until("it drains", |scene| {
        scene.servers().contains(&"10.1.0.2:8080 0".to_owned())
    });
    assert_eq!(scene.shares(80, 6), (0, 6));
    assert!(first.echoes() && second.echoes());
    drop(first);
    scene.until("it is gone", |scene| {
        !scene.at("agent", "ipvsadm -Sn").contains("10.1.0.2:8080")
    });
    assert!(second.echoes());
    scene.write(&object(HTTP, &[2, 3]));
    scene.until("it is back", |scene| {
        scene.servers().contains(&"10.1.0.2:8080 1".to_owned())
    });
    assert_eq!(scene.shares(80, 6), (3, 3));
}

#[test]
fn a_server_comes_back_while_it_drains() {
    let scene = serving(HTTP, &[2, 3]);
    let mut open =
        [scene.connect(AGENT, 80), scene.connect(AGENT, 80)].map(|it| it.expect("a server answers"));
    scene.write(&object(HTTP, &[3]));
    scene.until("it drains", |scene| {
        scene.servers().contains(&"10.1.0.2:8080 0".to_owned())
    });
    scene.write(&object(HTTP, &[2, 3]));
    scene.until("it is back", |scene| {
        scene.servers().contains(&"10.1.0.2:8080 1".to_owned())
    });
    assert!(open.iter_mut().all(Connection::echoes));
    // Once a family.
    let metrics = scene.agent.admin("/metrics");
    assert!(
        metrics.contains("portable_lb_agent_drains_total{outcome=\"Returned\"} 2\n"),
        "{metrics}"
    );
}

#[test]
fn draining_ends_with_its_time_even_across_a_restart() {
    const BRIEF: &str =
        "drainTimeoutSeconds: 3, scheduler: {name: rr}, ports: [{name: http, port: 80, targetPort: http}]";
    let mut scene = serving(BRIEF, &[2, 3]);
    let mut open =
        [scene.connect(AGENT, 80), scene.connect(AGENT, 80)].map(|it| it.expect("a server answers"));
    scene.write(&object(BRIEF, &[3]));
    scene.until("it drains", |scene| {
        scene.servers().contains(&"10.1.0.2:8080 0".to_owned())
    });
    scene.agent.stop("-KILL");
    let start = Instant::now();
    scene.start();
    assert!(open.iter_mut().all(Connection::echoes));
    scene.until("it is gone", |scene| {
        !scene.at("agent", "ipvsadm -Sn").contains("10.1.0.2:8080")
    });
    assert!(start.elapsed() >= Duration::from_secs(3));
    // expire_nodest_conn=1: told at once, not left to hang.
    let (gone, stays): (Vec<_>, Vec<_>) = open.iter_mut().partition(|connection| connection.server == 2);
    assert!(gone.into_iter().all(|connection| !connection.echoes()));
    assert!(stays.into_iter().all(Connection::echoes));
    let metrics = scene.agent.admin("/metrics");
    for series in ["drains_total{outcome=\"Cut\"} 1\n", "cut_connections_total 1\n"] {
        assert!(
            metrics.contains(&format!("portable_lb_agent_{series}")),
            "{metrics}"
        );
    }
}

#[test]
fn an_edit_harms_no_connection_of_other_ports() {
    const TWO: &str = "scheduler: {name: wlc}, ports: [{name: http, port: 80, targetPort: http}, {name: more, port: 81, targetPort: 8080}]";
    const OTHER: &str = "scheduler: {name: mh}, ports: [{name: more, port: 81, targetPort: 8080}]";
    let scene = serving(HTTP, &[2, 3]);
    let mut http = scene.connect(AGENT, 80).expect("a server answers");
    scene.write(&object(TWO, &[2, 3]));
    scene.until("the new port answers", |scene| scene.connect(AGENT, 81).is_ok());
    let mut more = scene.connect(AGENT, 81).expect("a server answers");
    scene.write(&object(OTHER, &[2, 3]));
    scene.until("the old port is closed", |scene| {
        scene.connect(AGENT, 80).is_err()
    });
    scene.until("the scheduler is changed", |scene| {
        scene.at("agent", "ipvsadm -Sn").contains("-s mh -b mh-fallback")
    });
    assert!(http.echoes(), "connections of a removed port drain");
    assert!(more.echoes());
    drop(http);
    scene.until("the old service is gone", |scene| {
        !scene.at("agent", "ipvsadm -Sn").contains("-f 1073741904 ")
    });
    assert!(more.echoes());
}

#[test]
fn a_wrong_file_leaves_all_as_it_was() {
    let scene = serving(HTTP, &[2, 3]);
    scene.write(&object("ports: [{name: http, port: 99999}]", &[]));
    scene.until("it is told", |scene| scene.agent.log().contains("is not served"));
    assert_eq!(scene.shares(80, 4), (2, 2));
    assert!(scene.agent.admin("/readyz").starts_with("HTTP/1.1 200"));
}

#[test]
fn udp_is_balanced_and_moves_when_its_server_goes() {
    const DNS: &str = "scheduler: {name: rr}, ports: [{name: dns, port: 53, protocol: UDP, targetPort: udp}]";
    let scene = serving(DNS, &[2, 3]);
    let clients = [scene.udp(53), scene.udp(53)];
    let answers: Vec<Option<u8>> = clients.iter().map(ask).collect();
    assert!(
        answers.contains(&Some(2)) && answers.contains(&Some(3)),
        "{answers:?}"
    );
    scene.write(&object(DNS, &[3]));
    // A busy flow stays on its server while it drains, and moves at the end of a short grace.
    let end = Instant::now() + Duration::from_secs(30);
    while !clients.iter().all(|client| ask(client) == Some(3)) {
        assert!(Instant::now() < end, "the flow never moved");
        pause();
    }
}

#[test]
fn a_reply_to_the_agents_own_connection_is_not_balanced() {
    // The listener's number is the source port of a connection that the agent's pod makes itself.
    const HIGH: &str = "scheduler: {name: rr}, ports: [{name: http, port: 40000, targetPort: http}]";
    let scene = serving(HIGH, &[2, 3]);
    assert_eq!(scene.shares(40000, 2), (1, 1));
    scene.at("agent", "sysctl -qw net.ipv4.ip_local_port_range=40000\t40000");
    let source = scene.within("agent", || {
        let server: SocketAddr = "10.1.0.2:8080".parse().expect("an address");
        let stream = TcpStream::connect_timeout(&server, Duration::from_secs(5)).expect("the server answers");
        stream.local_addr().expect("is connected").port()
    });
    assert_eq!(source, 40000);
}
