//! NAT, DR and tunnels on a real kernel: the agent's half and the servers', checked with `ipvsadm` and `ip`.
//!
//! `e2e/runner` boots a machine around these tests whose kernel has IPVS.

#[allow(dead_code, reason = "shared with other tests, which use other parts")]
#[path = "../netns/scene.rs"]
mod place;
mod scene;

use scene::{AGENTS, Answer, BODY, CLIENTS, FAR, NEAR, Scene, VIPS};

/// A way to forward.
struct Mode {
    /// What the object says.
    spec: &'static str,
    /// What the server's half is told; nothing where it has none.
    backend: Option<&'static str>,
    /// What `ipvsadm` prints for it.
    printed: &'static str,
}

const TCP: &str = "ports: [{name: http, port: 80}]";

const NAT: Mode = Mode {
    spec: "type: NAT",
    backend: None,
    printed: "-m -w 1",
};
const DR: Mode = Mode {
    spec: "type: DR",
    backend: Some("--mode DR"),
    printed: "-g -w 1",
};
const IPIP: Mode = Mode {
    spec: "type: TUN",
    backend: Some("--mode IPIP"),
    printed: "-i -w 1 --tun-type ipip",
};
const GUE: Mode = Mode {
    spec: "type: TUN, tunnel: {type: GUE, port: 6081}",
    backend: Some("--mode GUE --port 6081"),
    printed: "-i -w 1 --tun-type gue --tun-port 6081 --tun-nocsum",
};
const GRE: Mode = Mode {
    spec: "type: TUN, tunnel: {type: GRE}",
    backend: Some("--mode GRE"),
    printed: "-i -w 1 --tun-type gre --tun-nocsum",
};

const MODES: [Mode; 5] = [NAT, DR, IPIP, GUE, GRE];

/// Lets the balancer forward by this mode to a server that is ready for it: on the agent's link for DR, else behind a
/// router.
fn forward(scene: &Scene, mode: &Mode) {
    let (place, addresses) = server(mode);
    scene.write(&format!("{TCP}, forwarding: {{{}}}", mode.spec), &[addresses]);
    if let Some(arguments) = mode.backend {
        scene.prepare(place, arguments);
    }
}

fn server(mode: &Mode) -> (&'static str, [&'static str; 2]) {
    if mode.spec == DR.spec {
        ("near", NEAR)
    } else {
        ("far", FAR)
    }
}

/// A body crosses in both directions, by IPv4 and by IPv6, and whoever is the peer is seen.
fn assert_served(scene: &Scene, mode: &Mode, what: &str) {
    let peers = if mode.backend.is_some() { CLIENTS } else { AGENTS };
    for (vip, peer) in VIPS.iter().zip(peers) {
        let answer = scene.exchange(vip);
        let expected = Answer {
            server: server(mode).0.to_owned(),
            peer: peer.to_owned(),
            fetched: BODY,
            sent: true,
        };
        match answer {
            Ok(answer) => assert_eq!(answer, expected, "{what} at {vip}"),
            Err(error) => panic!("{what} at {vip}: {error}\n{}", scene.at("agent", "ipvsadm -Ln")),
        }
    }
}

/// Each of flannel's backends leaves another size of packets: vxlan, udp, host-gw.
fn crosses(scene: &Scene, mode: &Mode, icmp: &str) {
    for mtu in [1450, 1472, 1500] {
        scene.set_mtu(mtu);
        if let Some(arguments) = mode.backend {
            scene.prepare(server(mode).0, arguments);
        }
        let what = format!("{} MTU {mtu} ICMP {icmp}", mode.spec);
        assert_served(scene, mode, &what);
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

#[test]
fn bodies_cross_by_every_mode_and_flannel_backend() {
    let mut scene = Scene::new();
    forward(&scene, &NAT);
    scene.start();
    for icmp in ["allowed", "blocked"] {
        for mode in &MODES {
            forward(&scene, mode);
            await_mode(&scene, mode);
            crosses(&scene, mode, icmp);
        }
        scene.block_icmp();
    }
}
