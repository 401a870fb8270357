//! How each scheduler shares connections out.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::common::connection::Connection;
use crate::common::hub::{AGENT, Scene};
use crate::{object, saved};

/// Servers 21 and 22 of weights 3 and 1, behind port 80.
fn weighted(scheduler: &str) -> String {
    format!(
        "backends: {{type: Endpoints, endpoints: [{{address: 10.1.0.21, weight: 3}}, {{address: 10.1.0.22}}]}}, \
         scheduler: {scheduler}, ports: [{{name: http, port: 80, targetPort: 8080}}]"
    )
}

fn scene() -> Scene {
    let scene = Scene::new();
    scene.add_addresses("server2", 21..=26);
    scene
}

/// Puts an object in place of another, and waits until the kernel has it.
fn put(scene: &mut Scene, spec: &str, scheduler: &str) {
    scene.write(&object(spec, &[]));
    if !scene.agent.is_running() {
        scene.start();
    }
    let wanted = format!("-A -f 1073741904 -s {scheduler}");
    scene.until("the scheduler is in", |scene| saved(scene).contains(&wanted));
}

fn open(scene: &Scene, count: usize) -> Vec<Connection> {
    (0..count)
        .map(|_| scene.connect(AGENT, 80).expect("a server answers"))
        .collect()
}

/// How many connections each server has.
fn shares(connections: &[Connection]) -> BTreeMap<u8, usize> {
    let mut shares = BTreeMap::new();
    for connection in connections {
        *shares.entry(connection.server).or_default() += 1;
    }
    shares
}

/// Waits until IPVS counts so many established connections: an end takes a packet more.
fn until_active(scene: &Scene, count: usize) {
    scene.until("the ends are known", |scene| {
        let listed = scene.at("agent", "ipvsadm -Ln -f 1073741904");
        let servers = listed.lines().filter(|line| line.contains("10.1.0."));
        let active = servers.filter_map(|line| line.split_whitespace().rev().nth(1)?.parse::<usize>().ok());
        active.sum::<usize>() == count
    });
}

#[test]
fn each_scheduler_shares_as_it_promises() {
    let mut scene = scene();
    // Eight connections that stay open, one after the other, to servers of weights 3 and 1.
    for (scheduler, expected) in [
        ("rr", [(21, 4), (22, 4)].as_slice()),
        ("wrr", &[(21, 6), (22, 2)]),
        ("lc", &[(21, 4), (22, 4)]),
        ("wlc", &[(21, 6), (22, 2)]),
        ("sed", &[(21, 6), (22, 2)]),
        ("nq", &[(21, 6), (22, 2)]),
        ("fo", &[(21, 8)]),
    ] {
        put(
            &mut scene,
            &weighted(&format!("{{name: {scheduler}}}")),
            scheduler,
        );
        let connections = open(&scene, 8);
        let expected: BTreeMap<u8, usize> = expected.iter().copied().collect();
        assert_eq!(shares(&connections), expected, "{scheduler}");
        drop(connections);
        until_active(&scene, 0);
    }
}

#[test]
fn ovf_fills_each_server_by_its_weight_and_then_refuses() {
    let mut scene = scene();
    put(&mut scene, &weighted("{name: ovf}"), "ovf");
    // The kernel asks whether a server has more than it weighs, so each gets one more.
    let connections = open(&scene, 6);
    assert_eq!(shares(&connections), BTreeMap::from([(21, 4), (22, 2)]));
    scene
        .connect(AGENT, 80)
        .expect_err("all have more than they weigh");
    drop(connections);
    until_active(&scene, 0);
    assert_eq!(shares(&open(&scene, 1)), BTreeMap::from([(21, 1)]));
}

#[test]
fn those_of_the_destination_use_one_server() {
    let mut scene = scene();
    for scheduler in ["dh", "lblc", "lblcr"] {
        put(
            &mut scene,
            &weighted(&format!("{{name: {scheduler}}}")),
            scheduler,
        );
        let connections = open(&scene, 4);
        assert_eq!(shares(&connections).len(), 1, "{scheduler}");
        drop(connections);
        until_active(&scene, 0);
    }
}

#[test]
fn lc_follows_the_connections() {
    let mut scene = scene();
    put(&mut scene, &weighted("{name: lc}"), "lc");
    let mut connections = open(&scene, 6);
    connections.retain(|connection| connection.server == 22);
    until_active(&scene, 3);
    // All that come now go where there are fewer.
    let later = open(&scene, 3);
    assert_eq!(shares(&later), BTreeMap::from([(21, 3)]));
}

#[test]
fn hashes_keep_a_client_on_its_server_or_its_ports_apart() {
    let mut scene = scene();
    for (scheduler, by_port, flags) in [
        ("sh", false, "sh"),
        ("sh", true, "sh -b sh-port"),
        ("mh", false, "mh -b mh-fallback"),
        ("mh", true, "mh -b mh-fallback,mh-port"),
    ] {
        let list = if by_port { "[Port]" } else { "[]" };
        put(
            &mut scene,
            &weighted(&format!("{{name: {scheduler}, flags: {list}}}")),
            flags,
        );
        let connections = open(&scene, 24);
        let servers = shares(&connections).len();
        assert_eq!(servers, if by_port { 2 } else { 1 }, "{flags}");
        drop(connections);
        until_active(&scene, 0);
    }
}

#[test]
fn mh_moves_few_when_a_server_leaves() {
    const FLOWS: u16 = 200;
    let spec = |servers: &[u8]| {
        let list: Vec<String> = servers
            .iter()
            .map(|octet| format!("{{address: 10.1.0.{octet}}}"))
            .collect();
        format!(
            "backends: {{type: Endpoints, endpoints: [{}]}}, drainTimeoutSeconds: 0, \
             scheduler: {{name: mh, flags: [Port]}}, ports: [{{name: http, port: 80, targetPort: 8080}}]",
            list.join(", ")
        )
    };
    let mut scene = scene();
    put(
        &mut scene,
        &spec(&[21, 22, 23, 24, 25]),
        "mh -b mh-fallback,mh-port",
    );
    let flows = |scene: &Scene| -> Vec<u8> {
        let from = |n| {
            scene
                .connect_by_port(AGENT, 80, 20000 + n)
                .expect("a server answers")
        };
        (0..FLOWS).map(from).collect()
    };
    let before = flows(&scene);
    assert_eq!(flows(&scene), before, "the same flows come to the same servers");
    scene.write(&object(&spec(&[21, 22, 24, 25]), &[]));
    scene.until("the server is gone", |scene| {
        !scene.at("agent", "ipvsadm -Sn").contains("10.1.0.23")
    });
    let after = flows(&scene);
    assert!(!after.contains(&23));
    let of_others = before.iter().zip(&after).filter(|(before, _)| **before != 23);
    let moved = of_others.filter(|(before, after)| before != after).count();
    // Measured for five servers: 3 in 100 of all flows move without need.
    println!("{moved} of {FLOWS} flows moved though their server stayed");
    assert!(moved <= usize::from(FLOWS) * 6 / 100, "{moved}");
}

#[test]
fn a_scheduler_that_the_kernel_lacks_is_told_and_harms_nothing() {
    let mut scene = scene();
    put(&mut scene, &weighted("{name: rr}"), "rr");
    scene.write(&object(&weighted("{name: twos}"), &[]));
    scene.until("it is told", |scene| {
        scene.agent.admin("/metrics").contains("KernelModuleMissing")
    });
    assert_eq!(shares(&open(&scene, 4)).len(), 2, "the old one keeps serving");
    assert!(scene.agent.log().contains("ip_vs_twos"), "{}", scene.agent.log());
    let again = scene.connect_from("client", (AGENT, 80), Duration::from_secs(5));
    again.expect("a server answers");
}
