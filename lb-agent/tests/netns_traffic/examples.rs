//! The examples for machines without Kubernetes are served as they are, but for the servers' addresses.

use std::fs;
use std::path::Path;

use crate::common::connection::ask;
use crate::common::hub::{AGENT, Scene};

/// An example, with the servers of the scene.
fn serving(name: &str) -> Scene {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/standalone");
    let text = fs::read_to_string(folder.join(name)).expect("is there");
    let text = text
        .replace("192.0.2.11", "10.1.0.2")
        .replace("192.0.2.12", "10.1.0.3");
    let mut scene = Scene::new();
    scene.agent.write(&text);
    scene.start();
    scene
}

#[test]
fn the_web_site_is_served_and_its_servers_are_checked() {
    let scene = serving("web.yaml");
    scene.connect(AGENT, 80).expect("a server answers");
    scene.until("they are checked", |scene| {
        scene.agent.admin("/metrics").contains("portable_lb_agent_probe")
    });
}

#[test]
fn weights_and_persistence_are_served() {
    let scene = serving("weights.yaml");
    let servers = scene.served_by(80, 4);
    assert!(servers.windows(2).all(|pair| pair[0] == pair[1]), "{servers:?}");
    assert!(scene.servers().contains(&"10.1.0.2:8080 3".to_owned()));
}

#[test]
fn ranges_are_served() {
    let scene = serving("ranges.yaml");
    scene.connect(AGENT, 8080).expect("a server answers");
    assert!(ask(&scene.udp(8080)).is_some());
    scene.connect(AGENT, 8081).expect_err("no server listens there");
}
