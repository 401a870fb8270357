//! Servers that fail their check, and servers that are new.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{object, serving};
use crate::common::connection::Connection;
use crate::common::hub::{AGENT, Object, Scene};
use crate::common::{pause, run};

const CHECKED: &str = "scheduler: {name: rr}, ports: [{name: http, port: 80, targetPort: http}], \
    healthCheck: {type: HTTP, port: 8181, intervalSeconds: 1, timeoutSeconds: 1, rise: 2, fall: 2}";

/// What a server says of its health: a status of HTTP.
struct Says(Arc<AtomicU16>);

impl Says {
    fn new(scene: &Scene, server: &str) -> Self {
        let listener = scene.within(server, || {
            let all: SocketAddr = "[::]:8181".parse().expect("an address");
            TcpListener::bind(all).expect("free")
        });
        let status = Arc::new(AtomicU16::new(200));
        let says = Self(status.clone());
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.read(&mut [0; 1024]);
                let status = status.load(Ordering::Relaxed);
                let _ = stream.write_all(format!("HTTP/1.1 {status} X\r\n\r\n").as_bytes());
            }
        });
        says
    }

    fn now(&self, status: u16) {
        self.0.store(status, Ordering::Relaxed);
    }
}

/// A scene with two servers that are asked.
fn checked() -> (Scene, [Says; 2]) {
    let mut scene = Scene::new();
    let says = [Says::new(&scene, "server2"), Says::new(&scene, "server3")];
    scene.write(&object(CHECKED, &[2, 3]));
    scene.start();
    (scene, says)
}

const BOTH: [&str; 4] = [
    "10.1.0.2:8080 1",
    "10.1.0.3:8080 1",
    "[fd00::2]:8080 1",
    "[fd00::3]:8080 1",
];

#[test]
fn a_server_that_fails_keeps_its_connections_and_comes_back() {
    let (scene, [second, _third]) = checked();
    scene.until("both are asked", |scene| {
        scene
            .agent
            .admin("/metrics")
            .matches("server_probe_success{")
            .count()
            == 4
    });
    assert_eq!(scene.servers(), BOTH);
    let mut connections = [(); 2].map(|()| scene.connect(AGENT, 80).expect("a server answers"));
    second.now(503);
    scene.until("it drains, where somebody is connected", |scene| {
        scene.servers() == ["10.1.0.2:8080 0", "10.1.0.3:8080 1", "[fd00::3]:8080 1"]
    });
    assert_eq!(scene.shares(80, 4), (0, 4));
    assert!(connections.iter_mut().all(Connection::echoes));
    let metrics = scene.agent.admin("/metrics");
    for line in [
        "server_probe_success{listener=\"80/TCP\",family=\"IPv4\",server=\"10.1.0.2:8080\"} 0.0",
        "probe_failures_total{reason=\"Status\"} ",
        "panicking_listeners 0",
    ] {
        assert!(metrics.contains(line), "{line} in\n{metrics}");
    }
    assert!(
        scene.agent.log().contains("reason=\"Status503\""),
        "{}",
        scene.agent.log()
    );
    drop(connections);
    scene.until("it is removed", |scene| {
        scene.servers() == ["10.1.0.3:8080 1", "[fd00::3]:8080 1"]
    });
    second.now(200);
    scene.until("it comes back", |scene| scene.servers() == BOTH);
    assert_eq!(scene.shares(80, 4), (2, 2));
    // Questions leave no connection behind that waits.
    assert_eq!(scene.at("agent", "ss -Htan state time-wait dport = 8181"), "");
}

#[test]
fn if_all_servers_fail_all_stay() {
    let (scene, [second, third]) = checked();
    second.now(500);
    scene.until("one is out", |scene| {
        scene.servers() == ["10.1.0.3:8080 1", "[fd00::3]:8080 1"]
    });
    third.now(500);
    scene.until("all are in", |scene| {
        scene.servers() == BOTH && scene.agent.admin("/metrics").contains("panicking_listeners 2")
    });
    assert_eq!(scene.shares(80, 4), (2, 2));
    third.now(200);
    scene.until("one is out", |scene| {
        scene.servers() == ["10.1.0.3:8080 1", "[fd00::3]:8080 1"]
    });
}

#[test]
fn a_server_behind_a_wall_fails_by_timeout_and_one_that_is_gone_by_refusal() {
    let tcp = "scheduler: {name: rr}, ports: [{name: http, port: 80, targetPort: http}, {name: gone, port: 81}], \
               healthCheck: {type: TCP, intervalSeconds: 1, timeoutSeconds: 1, fall: 2}";
    let scene = serving(tcp, &[2, 3]);
    scene.within("server2", || {
        run(
            "iptables",
            &["-A", "INPUT", "-p", "tcp", "--dport", "8080", "-j", "DROP"],
        );
    });
    scene.until("it is out", |scene| {
        let servers = scene.servers();
        !servers.contains(&"10.1.0.2:8080 1".to_owned()) && servers.contains(&"10.1.0.3:8080 1".to_owned())
    });
    let log = scene.agent.log();
    assert!(log.contains("server=10.1.0.2:8080 reason=\"Timeout\""), "{log}");
    scene.until("nobody listens at the other port", |scene| {
        scene
            .agent
            .log()
            .contains("server=10.1.0.2:81 reason=\"ConnectionRefused\"")
    });
}

#[test]
fn a_new_server_warms_up_and_an_adopted_one_is_warm() {
    let ramp = "scheduler: {name: wlc}, ports: [{name: http, port: 80, targetPort: http}], warmUpSeconds: 4";
    let mut scene = serving(ramp, &[2]);
    let weight = |scene: &Scene| -> Option<u32> {
        let servers = scene.servers();
        let third = servers.iter().find_map(|it| it.strip_prefix("10.1.0.3:8080 "));
        third.and_then(|weight| weight.parse().ok())
    };
    assert_eq!(scene.servers(), ["10.1.0.2:8080 100", "[fd00::2]:8080 100"]);
    scene.write(&Object {
        spec: ramp,
        servers: &[2, 3],
    });
    scene.until("it is there", |scene| weight(scene).is_some());
    let since = Instant::now();
    let mut weights = vec![];
    while weights.last() != Some(&100) {
        assert!(since.elapsed() < Duration::from_secs(10), "{weights:?}");
        weights.extend(weight(&scene).filter(|weight| weights.last() != Some(weight)));
    }
    assert!(since.elapsed() > Duration::from_secs(2), "{weights:?}");
    assert!(
        weights.is_sorted() && weights.len() >= 5 && weights[0] <= 30,
        "{weights:?}"
    );
    let before = scene.servers();
    scene.agent.stop("-KILL");
    scene.start();
    assert_eq!(scene.servers(), before);
}

#[test]
fn who_failed_before_a_restart_gets_no_connection_after_it() {
    let (mut scene, [second, _third]) = checked();
    let mut open = [(); 2].map(|()| scene.connect(AGENT, 80).expect("a server answers"));
    second.now(500);
    // Of IPv4 it stays at weight 0, since somebody is connected; of IPv6 it is gone.
    let out = ["10.1.0.2:8080 0", "10.1.0.3:8080 1", "[fd00::3]:8080 1"];
    scene.until("it is out", |scene| scene.servers() == out);
    for signal in ["-KILL", "-TERM"] {
        scene.agent.stop(signal);
        assert_eq!(scene.shares(80, 2), (0, 2));
        scene.agent.forget_log();
        scene.agent.spawn();
        scene.until("it was asked again", |scene| {
            assert_eq!(scene.servers(), out);
            assert_eq!(scene.shares(80, 1), (0, 1));
            let log = scene.agent.log();
            ["10.1.0.2", "[fd00::2]"]
                .iter()
                .all(|it| log.contains(&format!("server={it}:8181 reason=\"Status500\"")))
        });
    }
    assert!(open.iter_mut().all(Connection::echoes));
    second.now(200);
    scene.until("it comes back", |scene| {
        let servers = scene.servers();
        assert!(servers.contains(&out[1].to_owned()) && servers.contains(&out[2].to_owned()));
        servers == BOTH
    });
    assert_eq!(scene.shares(80, 4), (2, 2));
    // What was proven once is no longer in doubt, whatever is asked.
    let changed = CHECKED.replace("fall: 2", "fall: 3");
    scene.write(&Object {
        spec: &changed,
        servers: &[2, 3],
    });
    for _ in 0..20 {
        assert_eq!(scene.servers(), BOTH);
        pause();
    }
}
