//! Clients that come back to the server they had.

use crate::common::hub::{AGENT, AGENT_V6, Scene};
use crate::{object, saved, serving};
use std::time::Duration;

const ONE: &str = "scheduler: {name: rr}, persistence: {timeoutSeconds: 60}, ports: [{name: http, port: 80, targetPort: http}]";
const NONE: &str = "scheduler: {name: rr}, ports: [{name: http, port: 80, targetPort: http}]";

fn all_equal(servers: &[u8]) -> bool {
    servers.windows(2).all(|pair| pair[0] == pair[1])
}

#[test]
fn a_client_comes_back_to_its_server_at_another_port() {
    let scene = serving(ONE, &[2, 3]);
    let servers = scene.served_by(80, 6);
    assert!(all_equal(&servers), "{servers:?}");
    // Another client has a server of its own.
    let other = scene
        .connect_from("server3", (AGENT, 80), Duration::from_secs(5))
        .expect("a server answers");
    assert_ne!(other.server, servers[0]);
    scene.connect(AGENT_V6, 80).expect("a server answers");
    let lines = saved(&scene);
    for line in [
        "-A -t 10.1.0.1:80 -s rr -p 60",
        "-A -t [fd00::1]:80 -s rr -p 60",
        "-a -t 10.1.0.1:80 -r 10.1.0.2:8080 -m -w 1",
    ] {
        assert!(lines.contains(&line.to_owned()), "{line} in {lines:?}");
    }
    assert_eq!(lines.len(), 6, "{lines:?}");
}

#[test]
fn a_client_whose_server_goes_gets_another_and_keeps_its_connection() {
    let scene = serving(ONE, &[2, 3]);
    let mut open = scene.connect(AGENT, 80).expect("a server answers");
    let stays: &'static [u8] = if open.server == 2 { &[3] } else { &[2] };
    scene.write(&object(ONE, stays));
    scene.until("it drains", |scene| {
        scene.servers().iter().any(|server| server.ends_with(" 0"))
    });
    let servers = scene.served_by(80, 4);
    assert!(servers.iter().all(|server| *server == stays[0]), "{servers:?}");
    assert!(open.echoes());
}

#[test]
fn clients_of_one_network_count_as_one() {
    const WIDE: &str = "scheduler: {name: rr}, persistence: {timeoutSeconds: 60, prefixLengthIPv4: 24, prefixLengthIPv6: 64}, ports: [{name: http, port: 80, targetPort: http}]";
    let scene = serving(WIDE, &[2, 3]);
    for address in [AGENT, AGENT_V6] {
        let from = |place| {
            let made = scene.connect_from(place, (address, 80), Duration::from_secs(5));
            made.expect("a server answers").server
        };
        let servers = ["client", "server2", "server3", "client"].map(from);
        assert!(all_equal(&servers), "{servers:?}");
    }
    assert!(saved(&scene).contains(&"-A -t 10.1.0.1:80 -s rr -p 60 -M 255.255.255.0".to_owned()));
}

#[test]
fn all_ports_lead_a_client_to_one_server() {
    const ALL: &str = "scheduler: {name: rr}, persistence: {timeoutSeconds: 60, scope: All}, ports: [{name: http, port: 8080}, {name: https, port: 8081}]";
    let scene = serving(ALL, &[2, 3]);
    for place in ["server2", "server3"] {
        scene.listen(place, 8081);
    }
    let servers: Vec<u8> = [8080, 8081, 8081, 8080]
        .map(|port| scene.served_by(port, 2))
        .concat();
    assert!(all_equal(&servers), "{servers:?}");
    let lines = saved(&scene);
    assert!(
        lines.contains(&"-A -f 1073741824 -s rr -p 60".to_owned()),
        "{lines:?}"
    );
    assert!(
        lines.contains(&"-a -f 1073741824 -r 10.1.0.2:0 -m -w 1".to_owned()),
        "{lines:?}"
    );
}

#[test]
fn a_range_is_persistent_as_one() {
    const RANGE: &str = "scheduler: {name: rr}, persistence: {timeoutSeconds: 60}, ports: [{name: all, port: 8080, endPort: 8081}]";
    let scene = serving(RANGE, &[2, 3]);
    for place in ["server2", "server3"] {
        scene.listen(place, 8081);
    }
    let servers: Vec<u8> = [8080, 8081, 8080].map(|port| scene.served_by(port, 2)).concat();
    assert!(all_equal(&servers), "{servers:?}");
}

#[test]
fn it_comes_and_goes_without_harm_to_connections() {
    let scene = serving(NONE, &[2, 3]);
    let mut before = scene.connect(AGENT, 80).expect("a server answers");
    scene.write(&object(ONE, &[2, 3]));
    scene.until("packets are led to a persistent service", |scene| {
        scene
            .at("agent", "iptables-save -t filter")
            .contains("0x40080050")
    });
    let servers = scene.served_by(80, 4);
    assert!(all_equal(&servers), "{servers:?}");
    let mut during = scene.connect(AGENT, 80).expect("a server answers");
    assert!(before.echoes(), "its old service drains");
    scene.write(&object(NONE, &[2, 3]));
    scene.until("it is no longer", |scene| scene.shares_evenly(80));
    assert!(before.echoes() && during.echoes());
    drop((before, during));
    scene.until("the old service is gone", |scene| {
        saved(scene).len() == 6 && !has_address(scene)
    });
}

fn has_address(scene: &Scene) -> bool {
    scene.at("agent", "ipvsadm -Sn").contains("-t 10.1.0.1:80")
}

#[test]
fn a_new_agent_knows_its_service_by_address_and_leaves_those_of_others() {
    let mut scene = serving(ONE, &[2, 3]);
    scene.at("agent", "ipvsadm -A -t 10.1.0.1:81 -s rr -p 60");
    let mut open = scene.connect(AGENT, 80).expect("a server answers");
    let before = saved(&scene);
    scene.agent.stop("-KILL");
    scene.start();
    assert_eq!(saved(&scene), before);
    let log = scene.agent.log();
    let later = log.rsplit("prepared").next().unwrap_or_default();
    assert!(later.contains("programmed") && !later.contains("apply"), "{log}");
    assert!(open.echoes());
    scene.agent.stop("-TERM");
    scene.agent.command("clear");
    assert_eq!(saved(&scene), ["-A -t 10.1.0.1:81 -s rr -p 60"]);
}
