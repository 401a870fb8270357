//! How much is taken, from whom, and how long it is remembered.

use std::time::{Duration, Instant};

use crate::common::hub::{AGENT, AGENT_V6, Scene};
use crate::{object, serving};

const BRIEF: Duration = Duration::from_millis(400);

fn with(more: &str) -> String {
    format!("scheduler: {{name: rr}}, ports: [{{name: http, port: 80, targetPort: http}}], {more}")
}

#[test]
fn a_full_server_takes_no_more() {
    let scene = serving(&with("limits: {entriesPerServer: 2}"), &[2, 3]);
    let open: Vec<_> = (0..4)
        .map(|_| scene.connect(AGENT, 80).expect("a server answers"))
        .collect();
    let on_second = open.iter().filter(|connection| connection.server == 2).count();
    assert_eq!(on_second, 2);
    let refused = scene
        .connect_from("client", (AGENT, 80), BRIEF)
        .expect_err("all are full");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let limits = |scene: &Scene| {
        let listed = scene.at("agent", "ipvsadm -Ln --thresholds -f 1073741904");
        let servers = listed.lines().filter(|line| line.contains("10.1.0."));
        let limits: Vec<String> = servers
            .filter_map(|line| line.split_whitespace().nth(2).map(str::to_owned))
            .collect();
        limits
    };
    assert_eq!(limits(&scene), ["2", "2"]);
    scene.write(&object(&with(""), &[2, 3]));
    scene.until("the limit is gone", |scene| limits(scene) == ["0", "0"]);
    scene.until("they take connections again", |scene| {
        scene.connect(AGENT, 80).is_ok()
    });
}

/// How many of so many quick attempts succeed, and how many seconds they took.
fn attempts(scene: &Scene, place: &str, count: usize) -> (usize, usize) {
    let start = Instant::now();
    let succeed = |_: &usize| scene.connect_from(place, (AGENT, 80), BRIEF).is_ok();
    let taken = (0..count).filter(succeed).count();
    let seconds = usize::try_from(start.elapsed().as_secs()).expect("few");
    (taken, seconds + 1)
}

#[test]
fn new_connections_are_limited_in_all_and_by_source() {
    let scene = serving(&with("limits: {newConnectionsPerSecondPerSource: 2}"), &[2, 3]);
    let (taken, seconds) = attempts(&scene, "client", 8);
    assert!(
        taken >= 2 && taken <= 2 + 2 * seconds && taken < 8,
        "{taken} in {seconds} s"
    );
    // Another source is not concerned.
    assert_eq!(attempts(&scene, "server3", 2).0, 2);
    scene.write(&object(&with("limits: {newConnectionsPerSecond: 2}"), &[2, 3]));
    scene.until("it is for all", |scene| {
        let rules = scene.at("agent", "iptables-save -t filter");
        rules.contains("plb-all") && !rules.contains("plb-source")
    });
    let (taken, seconds) = attempts(&scene, "client", 8);
    assert!(
        taken >= 2 && taken <= 2 + 2 * seconds && taken < 8,
        "{taken} in {seconds} s"
    );
}

#[test]
fn only_allowed_sources_may_connect() {
    let scene = serving(&with(""), &[2, 3]);
    let mut open = scene.connect(AGENT, 80).expect("everybody may");
    scene.write(&object(
        &with("sourceRanges: [10.1.0.3/32, 'fd00::9/128']"),
        &[2, 3],
    ));
    scene.until("the rules of both families are in", |scene| {
        let has_rule = |program| scene.at("agent", program).contains("-A PLB-SOURCES -j DROP");
        has_rule("iptables-save") && has_rule("ip6tables-save")
    });
    let refused = scene
        .connect_from("client", (AGENT, 80), BRIEF)
        .expect_err("is dropped");
    assert_eq!(refused.kind(), std::io::ErrorKind::TimedOut, "dropped, not reset");
    scene
        .connect_from("client", (AGENT_V6, 80), BRIEF)
        .expect("its other address may");
    scene
        .connect_from("server3", (AGENT, 80), BRIEF)
        .expect("is allowed");
    scene
        .connect_from("server3", (AGENT_V6, 80), BRIEF)
        .expect_err("its other address may not");
    assert!(open.echoes(), "who was let in stays");
    assert!(
        scene
            .at("client", "ping -c 1 -W 5 10.1.0.1")
            .contains("1 received")
    );
    let rules = scene.at("agent", "ip6tables-save -t filter");
    assert!(
        rules.contains("-A PLB-SOURCES -s fd00::9/128 -j RETURN"),
        "{rules}"
    );
}

const WANTED: &str = "60 20 400";

#[test]
fn timeouts_are_set_and_stay_set() {
    let mut scene = Scene::new();
    scene.agent.resync = 1;
    scene.write(&object(
        &with("timeouts: {tcpSeconds: 60, tcpFinSeconds: 20, udpSeconds: 400}"),
        &[2],
    ));
    scene.start();
    assert!(scene.at("agent", "ipvsadm -Ln --timeout").contains(WANTED));
    scene.at("agent", "ipvsadm --set 61 21 401");
    scene.until("they are mended", |scene| {
        scene.at("agent", "ipvsadm -Ln --timeout").contains(WANTED)
    });
    for name in ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"] {
        let value = scene.at("agent", &format!("sysctl -n net.netfilter.{name}"));
        assert!(
            value.trim().parse().is_ok_and(|seconds: u32| seconds >= 400),
            "{name} is {value}"
        );
    }
}
