//! The largest object that is allowed, served from a file. Sizes are printed, and no time is asserted.

use std::fmt::Write as _;

use crate::common::hub::Scene;

/// As many ports and servers as the API allows.
const PORTS: u16 = 64;
const SERVERS: u16 = 256;

/// An object whose first server has this weight.
fn object(weight: u32) -> String {
    let mut text = "apiVersion: portablelb.io/v1alpha1\nkind: PortableLoadBalancer\nmetadata: {name: web}\n\
                    spec:\n  ports:\n"
        .to_owned();
    for port in 1000..1000 + PORTS {
        let _ = writeln!(text, "  - {{name: p{port}, port: {port}}}");
    }
    text.push_str("  backends:\n    type: Endpoints\n    endpoints:\n");
    for server in 0..SERVERS {
        let weight = if server == 0 { weight } else { 1 };
        let _ = writeln!(text, "    - {{address: 10.100.0.{server}, weight: {weight}}}");
    }
    text
}

/// How many servers of which lines say this the kernel holds.
fn count(scene: &Scene, what: &str) -> usize {
    let saved = scene.at("agent", "ipvsadm -Sn");
    let is_meant = |line: &&str| line.starts_with("-a ") && line.contains(what);
    saved.lines().filter(is_meant).count()
}

/// What the agent's process has, for example `VmRSS`.
fn memory(scene: &Scene, name: &str) -> String {
    let path = format!("/proc/{}/status", scene.agent.id());
    let status = std::fs::read_to_string(path).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_default().trim_start_matches(':').trim().to_owned()
}

#[test]
fn the_largest_object_is_served() {
    let mut scene = Scene::new();
    scene.agent.write(&object(1));
    scene.start();
    let all = usize::from(PORTS) * usize::from(SERVERS);
    scene.until("the kernel holds all", |scene| count(scene, "") == all);
    println!("{all} servers: {} resident", memory(&scene, "VmRSS"));
    scene.agent.write(&object(7));
    scene.until("the kernel holds the change", |scene| {
        count(scene, "-w 7") == usize::from(PORTS)
    });
    assert_eq!(count(&scene, ""), all);
    println!(
        "after a change: {} resident, {} at most",
        memory(&scene, "VmRSS"),
        memory(&scene, "VmHWM")
    );
}
