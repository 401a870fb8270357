//! What the spec says of ports, schedulers, persistence, limits and sources, seen in a real kernel and in real
//! connections. `e2e/runner` boots a machine around these tests whose kernel has IPVS.

#[allow(dead_code, reason = "shared with other tests, which use other parts")]
#[path = "../common/mod.rs"]
mod common;

mod examples;
mod limits;
mod persistence;
mod ports;
mod schedulers;

use common::hub::{Object, Scene};

fn object<'a>(spec: &'a str, servers: &'a [u8]) -> Object<'a> {
    Object { spec, servers }
}

fn serving(spec: &str, servers: &'static [u8]) -> Scene {
    let mut scene = Scene::new();
    scene.write(&object(spec, servers));
    scene.start();
    scene
}

/// The lines that `ipvsadm -Sn` prints, in the order of the alphabet.
fn saved(scene: &Scene) -> Vec<String> {
    scene.saved("agent")
}
