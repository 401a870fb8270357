//! What another hand changes of ours is mended and told, once for as long as it goes on.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::common::hub::{Object, Scene};
use crate::common::pause;

/// All that a listener can have in the kernel.
const FULL: &str = "scheduler: {name: mh}, ports: [{name: http, port: 80, targetPort: http}, \
    {name: many, port: 7000, endPort: 7009}], limits: {entriesPerServer: 1000, newConnectionsPerSecond: 5000}, \
    sourceRanges: [10.1.0.0/24, \"fd00::/64\"], timeouts: {tcpSeconds: 600}";
const STICKY: &str = "ports: [{name: http, port: 80, targetPort: http}], persistence: {timeoutSeconds: 600}";

fn serving(spec: &'static str) -> Scene {
    let mut scene = Scene::new();
    scene.agent.resync = 1;
    let servers = &[2, 3];
    scene.write(&Object { spec, servers });
    scene.start();
    scene
}

/// What is in the kernel, in the eyes of others. Only `--thresholds` tells of limits.
fn state(scene: &Scene) -> Vec<String> {
    let mut lines = Vec::new();
    for command in [
        "ipvsadm -Sn",
        "ipvsadm -Ln --thresholds",
        "ipvsadm -Ln --timeout",
        "iptables-save",
        "ip6tables-save",
        "sysctl net.ipv4.vs.conntrack net.ipv4.vs.expire_nodest_conn net.ipv4.ip_forward",
    ] {
        let text = scene.at("agent", command);
        let lasting = text.lines().filter(|line| !line.starts_with('#'));
        lines.extend(lasting.map(|line| line.split(" [").next().unwrap_or(line).trim_end().to_owned()));
    }
    lines.sort();
    lines
}

/// How many changes of others were mended.
fn counted(scene: &Scene) -> usize {
    let metrics = scene.agent.admin("/metrics");
    let count = metrics
        .lines()
        .find_map(|line| line.strip_prefix("portable_lb_agent_drift_steps_total "));
    count.and_then(|count| count.parse().ok()).unwrap_or_default()
}

fn mends(scene: &Scene, damages: &[&str]) {
    let before = state(scene);
    for damage in damages {
        let count = counted(scene);
        scene.at("agent", damage);
        scene.until(damage, |scene| counted(scene) > count && state(scene) == before);
    }
}

#[test]
fn every_setting_of_a_service_and_its_servers_is_mended() {
    mends(
        &serving(FULL),
        &[
            "ipvsadm -E -f 1073741904 -s mh -b mh-port",
            "ipvsadm -E -f 1073741904 -s mh -b mh-fallback -o",
            "ipvsadm -e -f 1073741904 -r 10.1.0.2:8080 -m -w 1 -x 5",
            "ipvsadm -e -f 1073741904 -r 10.1.0.2:8080 -g -w 1 -x 1000",
            "ipvsadm -e -f 1073807440 -6 -r [fd00::3]:8080 -i -w 1 -x 1000",
            "ipvsadm -D -f 1073748824",
            "ipvsadm --set 5 5 5",
            "iptables -t filter -F PLB-SOURCES",
            "iptables -t filter -D PLB-INPUT ! -i lo -m conntrack --ctstate INVALID -j DROP",
            "ip6tables -t filter -F PLB-LIMITS",
            "ip6tables -t filter -A PLB-MARK -j ACCEPT",
        ],
    );
}

#[test]
fn persistence_is_mended() {
    let damages = [
        "ipvsadm -E -t 10.1.0.1:80 -s wlc -p 5",
        "ipvsadm -E -t 10.1.0.1:80 -s wlc -p 600 -M 255.255.0.0",
        "ipvsadm -E -t 10.1.0.1:80 -s wlc",
        "ipvsadm -D -t [fd00::1]:80",
    ];
    mends(&serving(STICKY), &damages);
}

#[test]
fn sysctls_are_mended_and_a_fight_over_one_is_told_once() {
    let scene = serving(FULL);
    let damage = "sysctl -qw net.ipv4.vs.conntrack=0";
    mends(
        &scene,
        &[
            damage,
            "sysctl -qw net.ipv4.vs.expire_nodest_conn=0",
            "sysctl -qw net.ipv4.ip_forward=0",
        ],
    );
    let told = |scene: &Scene| {
        let log = scene.agent.log();
        let drifts = log.lines().filter(|line| line.contains("drift"));
        drifts
            .filter(|line| line.contains("net.ipv4.vs.conntrack"))
            .count()
    };
    assert_eq!(told(&scene), 1);
    let (begun, before) = (told(&scene), counted(&scene));
    let _fight = Fight::over(&scene, "/proc/sys/net/ipv4/vs/conntrack");
    scene.until("five looks found it changed", |scene| {
        counted(scene) >= before + 5
    });
    assert_eq!(told(&scene), begun + 1);
}

/// Another hand that sets it to 0 many times between two looks of the agent, until this is dropped.
struct Fight(Arc<AtomicBool>);

impl Fight {
    fn over(scene: &Scene, setting: &'static str) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        scene.within("agent", move || {
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    fs::write(setting, "0").expect("can be set");
                    pause();
                }
            });
        });
        Self(over)
    }
}

impl Drop for Fight {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
