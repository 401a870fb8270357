//! Connections while the way to servers changes, and while another agent takes over.

use crate::common::connection::Connection;
use crate::knocking::Knocking;
use crate::scene::{AGENTS, FAR, NEAR, SECOND, Scene, VIPS, half, object};

const ECHO: &str = "ports: [{name: echo, port: 81}]";
const HURRIED: &str = "healthCheck: {type: TCP, intervalSeconds: 1, timeoutSeconds: 1, rise: 1, fall: 2}";

/// Waits until all servers take connections by a way as `ipvsadm` prints it.
fn await_way(scene: &Scene, way: &str, count: usize) {
    scene.until(way, |scene| {
        let served = scene.served();
        let servers = served.iter().filter(|line| line.starts_with("-a "));
        servers.clone().count() == count && servers.into_iter().all(|line| line.contains(way))
    });
}

#[test]
fn nat_becomes_a_tunnel_and_nat_again_and_no_connection_fails() {
    let mut scene = Scene::new();
    for place in ["near", "far"] {
        scene.start_echo(place);
        scene.prepare(place, &half("--mode IPIP"));
    }
    let serve = |scene: &Scene, mode: &str| {
        let spec = format!("{ECHO}, {HURRIED}, forwarding: {{type: {mode}}}");
        scene.write(&spec, &[NEAR, FAR]);
    };
    serve(&scene, "NAT");
    scene.start();
    await_way(&scene, "-m -w 1", 4);
    let mut open = VIPS.map(|vip| scene.talk(vip).expect("a server answers"));
    let knocking = Knocking::start(scene.path("client"));
    for _ in 0..2 {
        serve(&scene, "TUN");
        await_way(&scene, "-i -w 1", 4);
        let mut by_tunnel = VIPS.map(|vip| scene.talk(vip).expect("a server answers"));
        serve(&scene, "NAT");
        await_way(&scene, "-m -w 1", 4);
        assert!(open.iter_mut().all(Connection::echoes));
        assert!(by_tunnel.iter_mut().all(Connection::echoes));
    }
    let (served, failures) = knocking.end();
    println!("{served} connections while NAT became a tunnel and NAT again, twice");
    assert_eq!(failures, Vec::<String>::new());
}

#[test]
fn servers_go_on_by_the_old_way_while_none_is_proven_by_the_new_one() {
    let mut scene = Scene::new();
    scene.start_echo("far");
    scene.write(&format!("{ECHO}, {HURRIED}, forwarding: {{type: NAT}}"), &[FAR]);
    scene.start();
    await_way(&scene, "-m -w 1", 2);
    scene.agent.forget_log();
    scene.write(&format!("{ECHO}, {HURRIED}, forwarding: {{type: TUN}}"), &[FAR]);
    scene.until("it fails by the new way", |scene| {
        assert!(scene.talk(VIPS[0]).expect("it is served").echoes());
        let log = scene.agent.log();
        let fails = |server| log.contains(&format!("fails its health check server={server}:81"));
        fails(FAR[0]) && fails("[fd02::2]")
    });
    await_way(&scene, "-m -w 1", 2);
    scene.prepare("far", &half("--mode IPIP"));
    await_way(&scene, "-i -w 1", 2);
}

/// Leads what is sent to the balancer's addresses to an agent.
fn lead_to(scene: &Scene, [v4, v6]: [&str; 2]) {
    let [vip, vip_v6] = VIPS;
    scene.ip(
        "router",
        &format!("route replace {vip} via {v4}\nroute replace {vip_v6} via {v6}\n"),
    );
}

/// How many connections the servers of an agent have, each.
fn active(scene: &Scene, place: &str) -> Vec<u32> {
    let listed = scene.at(place, "ipvsadm -Ln");
    let numbers = listed.lines().filter_map(|line| {
        let mut words = line.trim().strip_prefix("-> ")?.split_whitespace().skip(3);
        words.next()?.parse().ok()
    });
    numbers.collect()
}

#[test]
fn another_agent_goes_on_with_the_connections_of_the_first() {
    let mut scene = Scene::new();
    let mut second = scene.add_agent();
    for server in ["near", "far"] {
        scene.start_echo(server);
        scene.prepare(server, &half("--mode IPIP"));
    }
    let spec = format!(
        "scheduler: {{name: mh, flags: [Port]}}, {ECHO}, {HURRIED}, forwarding: {{type: TUN}}, redundancy: {{mode: ActiveActive}}"
    );
    // Each hears of the servers in another order.
    scene.agent.write(&object(&spec, &[NEAR, FAR]));
    second.write(&object(&spec, &[FAR, NEAR]));
    scene.start();
    second.spawn();
    scene.until_served_by(4);
    scene.until("the second serves too", |scene| {
        scene
            .saved("second")
            .iter()
            .filter(|it| it.ends_with("81 -i -w 1 --tun-type ipip"))
            .count()
            == 4
    });
    let open = |vip: &'static str| (0..8).map(move |_| vip);
    let mut connections: Vec<Connection> = VIPS
        .into_iter()
        .flat_map(open)
        .map(|vip| scene.talk(vip).expect("a server answers"))
        .collect();
    for agent in [SECOND, AGENTS, SECOND] {
        lead_to(&scene, agent);
        assert!(connections.iter_mut().all(Connection::echoes));
    }
    let active = active(&scene, "second");
    assert!(
        active.iter().filter(|count| **count > 0).count() >= 3,
        "{active:?}"
    );
    let new = VIPS.map(|vip| scene.talk(vip).expect("a server answers"));
    lead_to(&scene, AGENTS);
    assert!(new.into_iter().all(|mut it| it.echoes()));
}
