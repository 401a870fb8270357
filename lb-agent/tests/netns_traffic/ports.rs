//! Ports, ranges and protocols.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, accept, bind,
    connect, listen, recv, send, setsockopt, socket, sockopt,
};
use nix::unistd::close;

use crate::common::connection::ask;
use crate::common::hub::{AGENT, AGENT_V6, Scene};
use crate::{object, saved, serving};

const RANGE: &str = "exposure: {type: PodIP}, scheduler: {name: rr}, ports: [{name: tcp, port: 20000, endPort: 20063}, {name: udp, port: 20000, endPort: 20063, protocol: UDP}]";

const MORE: &str = "exposure: {type: PodIP}, scheduler: {name: rr}, ports: [{name: http, port: 80, targetPort: http}, {name: tcp, port: 20000, endPort: 20063}]";

#[test]
fn a_range_keeps_the_port_that_the_client_asked_for() {
    let scene = serving(RANGE, &[2]);
    for port in [20000, 20063] {
        scene.listen("server2", port);
        // The server listens on no other port, so an answer tells that the port was kept.
        assert_eq!(scene.connect(AGENT, port).expect("a server answers").server, 2);
        assert_eq!(scene.connect(AGENT_V6, port).expect("a server answers").server, 2);
        assert_eq!(ask(&scene.udp(port)), Some(2));
    }
    scene.connect(AGENT, 20001).expect_err("no server listens there");
    scene.connect(AGENT, 20064).expect_err("it is out of the range");
    let lines = saved(&scene);
    assert!(
        lines.contains(&"-a -f 1073761824 -r 10.1.0.2:0 -m -w 1".to_owned()),
        "{lines:?}"
    );
    assert_eq!(lines.len(), 8, "one service a protocol and family: {lines:?}");
    let rules = scene.at("agent", "iptables-save -t filter");
    assert_eq!(rules.matches("--dport 20000:20063").count(), 2, "{rules}");
}

#[test]
fn a_listener_keeps_its_mark_and_connections_while_others_come_and_go() {
    let scene = serving(RANGE, &[2]);
    scene.listen("server2", 20005);
    let mut open = scene.connect(AGENT, 20005).expect("a server answers");
    let mark = |scene: &Scene| {
        let rules = scene.at("agent", "iptables-save -t filter");
        let rule = rules
            .lines()
            .find(|line| line.contains("-p tcp -m tcp --dport 20000:"));
        rule.map(str::to_owned)
    };
    let before = mark(&scene).expect("is marked");
    scene.write(&object(MORE, &[2]));
    scene.until("the new port answers", |scene| scene.connect(AGENT, 80).is_ok());
    assert_eq!(mark(&scene), Some(before));
    assert!(open.echoes());
    scene.until("the removed service is gone", |scene| {
        !scene.at("agent", "ipvsadm -Sn").contains("1073892896")
    });
    assert!(open.echoes());
}

#[test]
fn sixty_four_ports_are_served() {
    let ports: Vec<String> = (1..=64)
        .map(|n| format!("{{name: p{n}, port: {n}, targetPort: http}}"))
        .collect();
    let scene = serving(&format!("ports: [{}]", ports.join(", ")), &[2, 3]);
    assert_eq!(saved(&scene).len(), 64 * 2 * 3);
    for port in [1, 33, 64] {
        scene.connect(AGENT, port).expect("a server answers");
        scene.connect(AGENT_V6, port).expect("a server answers");
    }
}

#[test]
fn an_echo_to_the_address_is_answered() {
    let scene = serving(RANGE, &[2]);
    for address in [AGENT, AGENT_V6] {
        let ping = format!("ping -c 1 -W 5 {address}");
        let answer = scene.at("client", &ping);
        assert!(answer.contains("1 received"), "{answer}");
    }
}

#[test]
fn a_server_that_is_a_client_gets_an_answer_even_from_itself() {
    let scene = serving("ports: [{name: http, port: 80, targetPort: http}]", &[2]);
    for address in [AGENT, AGENT_V6] {
        let own = scene.connect_from("server2", (address, 80), Duration::from_secs(5));
        assert_eq!(own.expect("it answers itself").server, 2);
        let other = scene.connect_from("server3", (address, 80), Duration::from_secs(5));
        assert_eq!(other.expect("a server answers").server, 2);
    }
}

#[test]
fn the_admin_port_is_never_balanced() {
    // All ports around it are, and the agent's own still answers.
    const ALL: &str = "exposure: {type: PodIP}, ports: [{name: low, port: 1, endPort: 9912}, {name: high, port: 9914, endPort: 65535}]";
    let scene = serving(ALL, &[2]);
    assert!(scene.agent.admin("/healthz").starts_with("HTTP/1.1 200"));
    // A connection of the agent's own comes from a port of the range, and its replies come back to it.
    scene.within("agent", || {
        let server: SocketAddr = "10.1.0.2:8080".parse().expect("an address");
        TcpStream::connect_timeout(&server, Duration::from_secs(5)).expect("the server answers")
    });
    assert_eq!(scene.connect(AGENT, 8080).expect("a server answers").server, 2);
}

#[test]
fn sctp_is_balanced() {
    const SPEC: &str =
        "scheduler: {name: rr}, ports: [{name: s1ap, port: 36412, protocol: SCTP, targetPort: 36413}]";
    let scene = serving(SPEC, &[2, 3]);
    for (all, agent) in [("0.0.0.0:36413", AGENT), ("[::]:36413", AGENT_V6)] {
        for place in ["server2", "server3"] {
            scene.within(place, move || sctp_server(place.as_bytes()[6], all));
        }
        let agent = SocketAddr::new(agent.parse().expect("an address"), 36412);
        let answers: Vec<String> = (0..4)
            .map(|_| scene.within("client", move || sctp_client(agent)))
            .collect();
        for server in ["2", "3"] {
            let count = answers.iter().filter(|answer| *answer == server).count();
            assert_eq!(count, 2, "{answers:?}");
        }
    }
    let lines = saved(&scene);
    for server in [
        "-f 1074040380 -r 10.1.0.2:36413",
        "-f 1074105916 -6 -r [fd00::2]:36413",
    ] {
        let line = format!("-a {server} -m -w 1");
        assert!(lines.contains(&line), "{line} in {lines:?}");
    }
}

fn sctp_socket(peer: SocketAddr) -> OwnedFd {
    let family = if peer.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    socket(family, SockType::Stream, SockFlag::empty(), SockProtocol::Sctp).expect("the kernel has SCTP")
}

fn sctp_server(number: u8, all: &str) {
    let all: SocketAddr = all.parse().expect("an address");
    let own = sctp_socket(all);
    if all.is_ipv6() {
        // The same port of IPv4 is another server's.
        setsockopt(&own, sockopt::Ipv6V6Only, &true).expect("a socket of IPv6");
    }
    bind(own.as_raw_fd(), &SockaddrStorage::from(all)).expect("free");
    listen(&own, Backlog::new(16).expect("few")).expect("can listen");
    thread::spawn(move || {
        while let Ok(taken) = accept(own.as_raw_fd()) {
            let _ = send(taken, &[number], MsgFlags::empty());
            let _ = close(taken);
        }
    });
}

/// What the server says.
fn sctp_client(agent: SocketAddr) -> String {
    let own = sctp_socket(agent);
    connect(own.as_raw_fd(), &SockaddrStorage::from(agent)).expect("a server answers");
    let mut number = [0; 1];
    let length = recv(own.as_raw_fd(), &mut number, MsgFlags::empty()).expect("it says something");
    String::from_utf8_lossy(&number[..length]).into_owned()
}
