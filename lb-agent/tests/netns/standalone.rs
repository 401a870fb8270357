//! Examples for machines without Kubernetes do what they say; the others are served in `netns_traffic`.

use crate::common::connection::ask;
use crate::common::hub::{AGENT, Scene};

/// An example with the addresses of the scene, served.
fn serving(example: &str) -> Scene {
    let mut scene = Scene::new();
    scene.agent.write(&example.replace("192.0.2.", "10.1.0."));
    scene.start();
    scene
}

#[test]
fn the_udp_example_shares_flows() {
    let scene = serving(include_str!("../../../examples/standalone/udp.yaml"));
    let clients = [scene.udp(53), scene.udp(53)];
    let mut answers: Vec<Option<u8>> = clients.iter().map(ask).collect();
    answers.sort_unstable();
    assert_eq!(answers, [Some(2), Some(3)]);
    assert!(scene.at("agent", "ipvsadm -Ln --timeout").trim().ends_with(" 60"));
}

#[test]
fn the_example_of_sticky_ports_keeps_a_client_at_its_server() {
    let scene = serving(include_str!("../../../examples/standalone/sticky-ports.yaml"));
    let shares = scene.shares(8080, 6);
    assert!([(6, 0), (0, 6)].contains(&shares), "{shares:?}");
    scene
        .connect(AGENT, 8089)
        .expect_err("the servers listen at 8080 alone");
}
