//! NAT, DR and tunnels on a real kernel: the agent's half and the servers', checked with `ipvsadm` and `ip`.
//!
//! `e2e/runner` boots a machine around these tests whose kernel has IPVS.

#[allow(dead_code, reason = "shared with other tests, which use other parts")]
#[path = "../common/mod.rs"]
mod common;
mod knocking;
mod moves;
mod scene;

use scene::{AGENTS, Answer, BODY, CLIENTS, FAR, NEAR, Scene, VIPS, half};

/// A way to forward.
struct Mode {
    /// What the object says.
    spec: &'static str,
    /// What the server's half is told; nothing where it has none.
    backend: Option<&'static str>,
    /// What `ipvsadm` prints for it.
    printed: &'static str,
    /// The bytes that it adds to a packet, by IPv4 and by IPv6.
    overhead: [u32; 2],
}

const TCP: &str = "ports: [{name: http, port: 80}]";
/// Asks often.
const HURRIED: &str = "healthCheck: {type: TCP, intervalSeconds: 1, timeoutSeconds: 1, rise: 1, fall: 2}";

const fn mode(
    spec: &'static str,
    backend: Option<&'static str>,
    (printed, overhead): (&'static str, [u32; 2]),
) -> Mode {
    Mode {
        spec,
        backend,
        printed,
        overhead,
    }
}

const NAT: Mode = mode("type: NAT", None, ("-m -w 1", [0, 0]));
const DR: Mode = mode("type: DR", Some("--mode DR"), ("-g -w 1", [0, 0]));
const IPIP: Mode = mode(
    "type: TUN",
    Some("--mode IPIP"),
    ("-i -w 1 --tun-type ipip", [20, 40]),
);
const GUE: Mode = mode(
    "type: TUN, tunnel: {type: GUE, port: 6081}",
    Some("--mode GUE --port 6081"),
    ("-i -w 1 --tun-type gue --tun-port 6081 --tun-nocsum", [32, 52]),
);
const GRE: Mode = mode(
    "type: TUN, tunnel: {type: GRE}",
    Some("--mode GRE"),
    ("-i -w 1 --tun-type gre --tun-nocsum", [24, 44]),
);

const MODES: [Mode; 5] = [NAT, DR, IPIP, GUE, GRE];

/// Lets the balancer forward by this mode to a server that is ready for it: on the agent's link for DR, else behind a
/// router.
fn forward(scene: &Scene, mode: &Mode) {
    let (place, addresses) = server(mode);
    scene.write(&format!("{TCP}, forwarding: {{{}}}", mode.spec), &[addresses]);
    if let Some(arguments) = mode.backend {
        scene.prepare(place, &half(arguments));
    }
}

fn server(mode: &Mode) -> (&'static str, [&'static str; 2]) {
    if mode.spec == DR.spec {
        ("near", NEAR)
    } else {
        ("far", FAR)
    }
}

/// A body crosses in both directions, by IPv4 and by IPv6. The server sees the client, but for NAT; and no segment is
/// larger than what passes whole.
fn assert_served(scene: &Scene, mode: &Mode, (mtu, icmp): (u32, &str)) {
    let peers = if mode.backend.is_some() { CLIENTS } else { AGENTS };
    for (index, headers) in [40, 60].into_iter().enumerate() {
        let expected = Answer {
            server: server(mode).0.to_owned(),
            peer: peers[index].to_owned(),
            segment: mtu - headers - mode.overhead[index],
            fetched: BODY,
            sent: true,
        };
        let what = format!("{} to {}, MTU {mtu}, ICMP {icmp}", mode.spec, VIPS[index]);
        match scene.exchange(VIPS[index]) {
            Ok(answer) => assert_eq!(answer, expected, "{what}"),
            Err(error) => panic!("{what}: {error}\n{}", scene.at("agent", "ipvsadm -Ln")),
        }
    }
}

/// Each of flannel's backends leaves another size of packets: vxlan, udp, host-gw.
fn crosses(scene: &Scene, mode: &Mode, icmp: &str) {
    for mtu in [1450, 1472, 1500] {
        scene.set_mtu(mtu);
        if let Some(arguments) = mode.backend {
            scene.prepare(server(mode).0, &half(arguments));
        }
        assert_served(scene, mode, (mtu, icmp));
    }
}

/// What the kernel holds while a mode is used.
fn held(mode: &Mode) -> [String; 4] {
    let (_, [v4, v6]) = server(mode);
    [
        "-A -f 1073741904 -s rr".to_owned(),
        "-A -f 1073807440 -6 -s rr".to_owned(),
        format!("-a -f 1073741904 -r {v4}:80 {}", mode.printed),
        format!("-a -f 1073807440 -6 -r [{v6}]:80 {}", mode.printed),
    ]
}

/// Waits until the kernel holds the mode. IPv6 rules come last.
fn await_mode(scene: &Scene, mode: &Mode) {
    let masquerades = mode.spec == NAT.spec;
    scene.until(mode.spec, |scene| {
        let has_rule = || {
            scene
                .at("agent", "ip6tables-save -t nat")
                .contains("-j MASQUERADE")
        };
        scene.served() == held(mode) && has_rule() == masquerades
    });
}

/// NAT comes first: what a tunnel asks of a server's routes holds for all of its connections.
fn bodies_cross(icmp: &str) -> Scene {
    let mut scene = Scene::new();
    if icmp == "blocked" {
        scene.block_icmp();
    }
    forward(&scene, &NAT);
    scene.start();
    for mode in &MODES {
        forward(&scene, mode);
        await_mode(&scene, mode);
        crosses(&scene, mode, icmp);
    }
    scene
}

#[test]
fn bodies_cross_by_every_mode_and_flannel_backend() {
    bodies_cross("allowed");
}

#[test]
fn bodies_cross_also_where_icmp_is_blocked() {
    let scene = bodies_cross("blocked");
    // It is the limit of segments that lets them.
    scene.ip("far", "route replace default via 10.244.2.1\n");
    scene.exchange(VIPS[0]).expect_err("too large for the tunnel");
}

/// A server behind a node as kube-proxy leaves it is not ready, one on the agent's link is.
fn with_an_unready_server() -> Scene {
    let mut scene = Scene::new();
    scene.act_as_node("far");
    scene.write(
        &format!("{TCP}, {HURRIED}, forwarding: {{type: TUN}}"),
        &[FAR, NEAR],
    );
    scene.prepare("near", &half("--mode IPIP"));
    scene.start();
    scene.until_served_by(2);
    let fails = |scene: &Scene, server: &str| {
        let line = format!("the server fails its health check server={server}:80");
        scene.agent.log().contains(&line)
    };
    scene.until("the unready server fails", |scene| {
        fails(scene, FAR[0]) && fails(scene, "[fd02::2]")
    });
    scene
}

#[test]
fn a_server_serves_once_its_half_and_its_node_are_ready() {
    let scene = with_an_unready_server();
    for vip in VIPS.repeat(2) {
        assert_eq!(scene.exchange(vip).expect("an answer").server, "near");
    }
    // Its own half is not enough: the node drops answers whose questions it has not seen.
    scene.prepare("far", &half("--mode IPIP"));
    let before = scene.failures();
    scene.until("it is asked more", |scene| scene.failures() > before + 4);
    scene.until_served_by(2);
    let with_node = half(&format!(
        "--mode IPIP --node-namespace {}",
        scene.path("router").display()
    ));
    for _ in 0..2 {
        scene.prepare("far", &with_node);
    }
    scene.until_served_by(4);
    let rules = scene.at("router", "iptables-save -t filter");
    let accepting = "-A PLB-ANSWERS -s 10.98.7.1/32 -j ACCEPT";
    assert_eq!(rules.matches(accepting).count(), 1, "{rules}");
    assert_eq!(rules.matches("-j PLB-ANSWERS").count(), 1, "{rules}");
    // The way may break later too.
    scene.ip("far", "link set plb-ipip down\n");
    scene.until_served_by(3);
    scene.ip("far", "link set plb-ipip up\n");
    scene.until_served_by(4);
}

#[test]
fn what_was_proven_stays_so_while_no_agent_lives() {
    let mut scene = Scene::new();
    forward(&scene, &IPIP);
    scene.start();
    scene.until_served_by(2);
    scene.agent.stop("-KILL");
    for vip in VIPS.repeat(2) {
        scene.exchange(vip).expect("the table stays");
    }
    scene.agent.forget_log();
    scene.start();
    scene.until_served_by(2);
    assert!(!scene.agent.log().contains("apply step"), "{}", scene.agent.log());
}

#[test]
fn dr_serves_what_is_on_its_link_by_tcp_and_udp_and_leaves_when_told_to() {
    let mut scene = Scene::new();
    let udp =
        "{name: u, port: 80, protocol: UDP, healthCheck: {type: UDP, udp: {request: who, response: near}}}";
    scene.write(
        &format!("ports: [{{name: http, port: 80}}, {udp}], forwarding: {{type: DR}}"),
        &[NEAR, FAR],
    );
    scene.prepare("near", &half("--mode DR"));
    scene.prepare("far", &half("--mode DR"));
    scene.start_udp("near", &VIPS);
    scene.start();
    scene.until_served_by(4);
    for (vip, client) in VIPS.iter().zip(CLIENTS) {
        assert_eq!(scene.ask(vip).as_deref(), Some("near"));
        for _ in 0..2 {
            let answer = scene.exchange(vip).expect("an answer");
            assert_eq!((answer.server.as_str(), answer.peer.as_str()), ("near", client));
        }
    }
    let refusal = "DR does not reach the server: it is not on this link, but behind a gateway server=10.244.2.2 \
                   gateway=10.244.1.1";
    assert!(scene.agent.log().contains(refusal), "{}", scene.agent.log());
    assert_eq!(
        scene
            .at("agent", "ip -o addr show to 10.98.7.1 dev lo")
            .lines()
            .count(),
        1
    );

    scene.agent.stop("-TERM");
    scene.exchange(VIPS[0]).expect("the table stays");
    scene.at("agent", &format!("{} clear", env!("CARGO_BIN_EXE_lb-agent")));
    assert_eq!(scene.at("agent", "ipvsadm -Sn"), "");
    let addresses = scene.at("agent", "ip -o addr show dev lo");
    assert!(VIPS.iter().all(|vip| !addresses.contains(vip)), "{addresses}");
}

/// The arguments of the example's init container, for a node that is elsewhere.
fn example_arguments(node: &str) -> String {
    let text = include_str!("../../../examples/standalone/tunnel-server.yaml");
    let pod: k8s_openapi::api::core::v1::Pod = serde_yaml::from_str(text).expect("a pod");
    let init = pod
        .spec
        .and_then(|spec| spec.init_containers)
        .expect("init containers");
    let arguments = init[0].args.clone().expect("arguments").join(" ");
    let arguments = arguments.strip_prefix("backend ").expect("the command");
    arguments.replace("/host/proc/1/ns/net", node)
}

#[test]
fn the_example_serves() {
    let mut scene = Scene::new();
    scene
        .agent
        .write(include_str!("../../../examples/standalone/tunnel.yaml"));
    scene.prepare(
        "far",
        &example_arguments(&scene.path("router").display().to_string()),
    );
    scene.start();
    scene.until_served_by(2);
    for (vip, client) in VIPS.iter().zip(CLIENTS) {
        assert_eq!(scene.exchange(vip).expect("an answer").peer, client);
    }
    for (name, value) in [
        ("net.ipv4.conf.all.accept_local", "1"),
        ("net.ipv4.conf.all.rp_filter", "2"),
        ("net.ipv4.vs.sloppy_tcp", "1"),
    ] {
        assert_eq!(
            scene.at("agent", &format!("sysctl -n {name}")).trim(),
            value,
            "{name}"
        );
    }
}

#[test]
fn the_servers_half_says_what_it_can_not_do() {
    let scene = Scene::new();
    scene.start_udp("far", &["10.244.2.2"]);
    let output = scene.backend("far", &half("--mode GUE --port 80"));
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("UDP port 80 is used by something else"), "{text}");
    scene.ip("far", "addr del fd02::2/64 dev eth0\n");
    let text = String::from_utf8_lossy(&scene.backend("far", &half("--mode IPIP")).stderr).into_owned();
    assert!(text.contains("eth0 has no IPv6 address"), "{text}");
}
