//! Our messages against those that `ipvsadm` sends, and our reading of what the kernel answered it.
//!
//! `tests/golden/netns_record` recorded them. Sequence and port numbers differ from run to run.
use std::collections::BTreeMap;
use std::net::SocketAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};

use crate::message::{Content, Request, command};
use crate::{
    Command, Config, Destination, Family, Forwarding, Info, Persistence, Protocol, Service, ServiceFlags,
    ServiceId, TunnelFlags, TunnelKind, attribute, batch, decode, encode, message,
};

/// The number of the family when the messages were recorded.
const IPVS: u16 = 0x1c;

/// What one run of `ipvsadm` said and heard.
#[derive(Default)]
struct Exchange {
    sent: Vec<Vec<u8>>,
    heard: Vec<Vec<u8>>,
}

fn recorded() -> BTreeMap<&'static str, Exchange> {
    let mut exchanges = BTreeMap::<_, Exchange>::new();
    let mut current = "";
    for line in include_str!("../tests/golden/messages").lines() {
        let (kind, rest) = line.split_at(2);
        match kind {
            "$ " => current = rest,
            "> " => exchanges.entry(current).or_default().sent.push(bytes(rest)),
            _ => exchanges.entry(current).or_default().heard.push(bytes(rest)),
        }
    }
    exchanges
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digits).collect()
}

/// A message without what differs from run to run.
fn comparable(mut message: Vec<u8>) -> Vec<u8> {
    message[8..16].fill(0);
    message
}

fn sent(run: &str) -> Vec<u8> {
    let exchange = recorded().remove(run).unwrap_or_default();
    assert_eq!(exchange.sent.len(), 1, "messages of {run}");
    comparable(exchange.sent.into_iter().next().unwrap())
}

fn ours(command: Command) -> Vec<u8> {
    comparable(batch::pack(&[command], IPVS, 7))
}

/// Attributes by name, so a nest within a message is `vec![…][0].1`.
fn attributes(message: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let read = attribute::read(&message[20..]);
    read.map(Result::unwrap)
        .map(|attribute| (attribute.kind, attribute.value.to_vec()))
        .collect()
}

/// The command is the same to the byte.
fn assert_same(run: &str, command: Command) {
    assert_eq!(ours(command), sent(run), "{run}");
}

/// As far as our nests go they are the same to the byte: where only an identity is needed, `ipvsadm` goes on with
/// empty defaults that the kernel doesn't read.
fn assert_same_beginning(run: &str, command: Command) {
    let (ours, theirs) = (ours(command), sent(run));
    assert_eq!(ours[4..20], theirs[4..20], "headers of {run}");
    let (ours, theirs) = (attributes(&ours), attributes(&theirs));
    assert_eq!(ours.len(), theirs.len(), "nests of {run}");
    for ((our_kind, our_value), (their_kind, their_value)) in ours.iter().zip(&theirs) {
        assert_eq!(our_kind, their_kind, "{run}");
        assert!(their_value.starts_with(our_value), "{run}: nest {our_kind}");
    }
}

fn mark(family: Family, mark: u32) -> ServiceId {
    ServiceId::Mark {
        family,
        mark: mark.try_into().unwrap(),
    }
}

fn address(protocol: Protocol, addr: &str) -> ServiceId {
    ServiceId::Address {
        protocol,
        addr: addr.parse().unwrap(),
    }
}

fn service(id: ServiceId, scheduler: &str) -> Service {
    Service {
        id,
        scheduler: scheduler.parse().unwrap(),
        flags: ServiceFlags::empty(),
        persistence: None,
    }
}

fn persistence(timeout_seconds: u32, prefix_length: u8) -> Option<Persistence> {
    Some(Persistence {
        timeout_seconds,
        prefix_length,
    })
}

fn server(addr: &str, forwarding: Forwarding, weight: u32) -> Destination {
    let addr: SocketAddr = addr.parse().unwrap();
    Destination {
        addr,
        forwarding,
        weight,
        upper_threshold: 0,
        lower_threshold: 0,
    }
}

fn tunnel(kind: TunnelKind, flags: TunnelFlags) -> Forwarding {
    Forwarding::Tunnel { kind, flags }
}

#[test]
fn services_are_the_same_to_the_byte() {
    let add = |run, service| assert_same(run, Command::AddService(service));
    let web = address(Protocol::Tcp, "192.0.2.1:80");
    let dns = address(Protocol::Udp, "[2001:db8::1]:53");
    let s1ap = address(Protocol::Sctp, "192.0.2.1:36412");
    let web6 = address(Protocol::Tcp, "[2001:db8::1]:80");
    let both = ServiceFlags::SCHEDULER_1 | ServiceFlags::SCHEDULER_2;

    add("ipvsadm -A -f 80 -s wlc", service(mark(Family::V4, 80), "wlc"));
    add(
        "ipvsadm -A -f 81 -6 -s mh -b flag-1,flag-2",
        Service {
            flags: both,
            ..service(mark(Family::V6, 81), "mh")
        },
    );
    add("ipvsadm -A -t 192.0.2.1:80 -s rr", service(web, "rr"));
    add(
        "ipvsadm -A -u [2001:db8::1]:53 -s rr -o",
        Service {
            flags: ServiceFlags::ONE_PACKET,
            ..service(dns, "rr")
        },
    );
    add(
        "ipvsadm -A --sctp-service 192.0.2.1:36412 -s lc -p 360 -M 255.255.255.0",
        Service {
            persistence: persistence(360, 24),
            ..service(s1ap, "lc")
        },
    );
    add(
        "ipvsadm -A -t [2001:db8::1]:80 -s sh -p 60 -M 64",
        Service {
            persistence: persistence(60, 64),
            ..service(web6, "sh")
        },
    );
    assert_same(
        "ipvsadm -E -f 80 -s sed -p 300",
        Command::SetService(Service {
            persistence: persistence(300, 32),
            ..service(mark(Family::V4, 80), "sed")
        }),
    );
}

#[test]
fn servers_are_the_same_to_the_byte() {
    let add = |run, id, server| {
        let command = Command::AddDestination(id, server);
        assert_eq!(
            attributes(&ours(command.clone()))[1],
            attributes(&sent(run))[1],
            "{run}"
        );
        assert_same_beginning(run, command);
    };
    let (web, web6) = (mark(Family::V4, 80), mark(Family::V6, 81));
    let nat = Forwarding::Masquerade;
    let ipip = tunnel(TunnelKind::Ipip, TunnelFlags::empty());
    let gue = tunnel(
        TunnelKind::Gue {
            port: 6080.try_into().unwrap(),
        },
        TunnelFlags::REMOTE_CHECKSUM,
    );
    let gre = tunnel(TunnelKind::Gre, TunnelFlags::CHECKSUM);
    let direct = Destination {
        upper_threshold: 20,
        lower_threshold: 10,
        ..server("10.0.0.3:80", Forwarding::Direct, 1)
    };

    add(
        "ipvsadm -a -f 80 -r 10.0.0.1:8080 -m -w 5",
        web,
        server("10.0.0.1:8080", nat, 5),
    );
    add(
        "ipvsadm -a -f 80 -r 10.0.0.2 -m -w 0",
        web,
        server("10.0.0.2:0", nat, 0),
    );
    add("ipvsadm -a -f 80 -r 10.0.0.3:80 -g -x 20 -y 10", web, direct);
    add(
        "ipvsadm -a -f 80 -r 10.0.0.4:80 -i",
        web,
        server("10.0.0.4:80", ipip, 1),
    );
    add(
        "ipvsadm -a -f 80 -r 10.0.0.5:80 -i --tun-type gue --tun-port 6080 --tun-remcsum",
        web,
        server("10.0.0.5:80", gue, 1),
    );
    add(
        "ipvsadm -a -f 80 -r 10.0.0.6:80 -i --tun-type gre --tun-csum",
        web,
        server("10.0.0.6:80", gre, 1),
    );
    add(
        "ipvsadm -a -f 81 -6 -r [2001:db8::2]:8080 -m -w 1",
        web6,
        server("[2001:db8::2]:8080", nat, 1),
    );
    add(
        "ipvsadm -a -t 192.0.2.1:80 -r [2001:db8::3]:80 -i",
        address(Protocol::Tcp, "192.0.2.1:80"),
        server("[2001:db8::3]:80", ipip, 1),
    );
    assert_same_beginning(
        "ipvsadm -e -f 80 -r 10.0.0.1:8080 -m -w 7 -x 100",
        Command::SetDestination(
            web,
            Destination {
                upper_threshold: 100,
                ..server("10.0.0.1:8080", nat, 7)
            },
        ),
    );
}

#[test]
fn removing_and_the_rest_begin_the_same() {
    let (web, web6) = (mark(Family::V4, 80), mark(Family::V6, 81));
    let (gone, gone6) = (
        "10.0.0.1:8080".parse().unwrap(),
        "[2001:db8::2]:8080".parse().unwrap(),
    );
    let timeouts = Config {
        tcp_seconds: 1000,
        tcp_fin_seconds: 100,
        udp_seconds: 200,
    };
    let dns = address(Protocol::Udp, "[2001:db8::1]:53");

    assert_same_beginning(
        "ipvsadm -d -f 80 -r 10.0.0.1:8080",
        Command::RemoveDestination(web, gone),
    );
    assert_same_beginning(
        "ipvsadm -d -f 81 -6 -r [2001:db8::2]:8080",
        Command::RemoveDestination(web6, gone6),
    );
    assert_same_beginning("ipvsadm -D -f 80", Command::RemoveService(web));
    assert_same_beginning("ipvsadm -D -u [2001:db8::1]:53", Command::RemoveService(dns));
    assert_same_beginning("ipvsadm -Z -f 80", Command::Zero(Some(web)));
    assert_same("ipvsadm -Z", Command::Zero(None));
    assert_same("ipvsadm --set 1000 100 200", Command::SetConfig(timeouts));
    assert_same("ipvsadm -C", Command::Flush);
}

#[test]
fn questions_about_servers_are_the_same() {
    let recorded = recorded();
    let question = |id: &ServiceId| {
        let mut message = Vec::new();
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_DUMP;
        Request {
            family: IPVS,
            command: command::GET_DEST,
            flags,
            sequence: 0,
        }
        .emit(&mut message, |buffer| encode::put_id(buffer, id));
        message
    };
    let asked: Vec<_> = recorded["ipvsadm -Sn"]
        .sent
        .iter()
        .cloned()
        .map(comparable)
        .collect();
    assert!(asked.contains(&question(&mark(Family::V4, 80))));
    assert!(asked.contains(&question(&mark(Family::V6, 81))));
}

/// The attributes of each answer with this command.
fn answers(run: &str, wanted: u8) -> Vec<Vec<u8>> {
    let mut answers = Vec::new();
    for datagram in &recorded()[run].heard {
        for reply in message::read(datagram) {
            match reply.unwrap().content {
                Content::Answer {
                    family: IPVS,
                    command,
                    attributes,
                } if command == wanted => {
                    answers.push(attributes.to_vec());
                }
                Content::Done | Content::Answer { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
    answers
}

#[test]
fn the_kernels_services_are_understood() {
    let answers = answers("ipvsadm -Sn", command::NEW_SERVICE);
    let mut services: Vec<_> = answers
        .iter()
        .map(|answer| decode::service(answer).unwrap().service)
        .collect();
    services.sort_by_key(|service| service.id);
    let both = ServiceFlags::SCHEDULER_1 | ServiceFlags::SCHEDULER_2;
    let web = mark(Family::V4, 80);
    let dns = address(Protocol::Udp, "[2001:db8::1]:53");
    let s1ap = address(Protocol::Sctp, "192.0.2.1:36412");
    let web6 = address(Protocol::Tcp, "[2001:db8::1]:80");
    assert_eq!(
        services,
        [
            Service {
                persistence: persistence(300, 32),
                ..service(web, "sed")
            },
            Service {
                flags: both,
                ..service(mark(Family::V6, 81), "mh")
            },
            service(address(Protocol::Tcp, "192.0.2.1:80"), "rr"),
            Service {
                persistence: persistence(60, 64),
                ..service(web6, "sh")
            },
            Service {
                flags: ServiceFlags::ONE_PACKET,
                ..service(dns, "rr")
            },
            Service {
                persistence: persistence(360, 24),
                ..service(s1ap, "lc")
            },
        ]
    );
}

#[test]
fn the_kernels_servers_are_understood() {
    // Every answer tells its own family, so the service's must not matter.
    let answers = answers("ipvsadm -Sn", command::NEW_DEST);
    let entries = answers
        .iter()
        .map(|answer| decode::destination(answer, Family::V4).unwrap());
    let mut servers: Vec<_> = entries.map(|entry| entry.destination).collect();
    servers.sort_by_key(|server| server.addr);
    let nat = Forwarding::Masquerade;
    let ipip = tunnel(TunnelKind::Ipip, TunnelFlags::empty());
    let gue = tunnel(
        TunnelKind::Gue {
            port: 6080.try_into().unwrap(),
        },
        TunnelFlags::REMOTE_CHECKSUM,
    );
    assert_eq!(
        servers,
        [
            Destination {
                upper_threshold: 100,
                ..server("10.0.0.1:8080", nat, 7)
            },
            server("10.0.0.2:0", nat, 0),
            Destination {
                upper_threshold: 20,
                lower_threshold: 10,
                ..server("10.0.0.3:80", Forwarding::Direct, 1)
            },
            server("10.0.0.4:80", ipip, 1),
            server("10.0.0.5:80", gue, 1),
            server("10.0.0.6:80", tunnel(TunnelKind::Gre, TunnelFlags::CHECKSUM), 1),
            server("[2001:db8::2]:8080", nat, 1),
            server("[2001:db8::3]:80", ipip, 1),
        ]
    );
}

#[test]
fn the_kernels_settings_are_understood() {
    let timeouts = &answers("ipvsadm -Ln --timeout", command::SET_CONFIG)[0];
    let facts = &answers("ipvsadm --version-of-kernel", command::SET_INFO)[0];
    let expected = Config {
        tcp_seconds: 900,
        tcp_fin_seconds: 120,
        udp_seconds: 300,
    };
    assert_eq!(decode::config(timeouts).unwrap(), expected);
    assert_eq!(
        decode::info(facts).unwrap(),
        Info {
            version: (1, 2, 1),
            connection_table_size: 4096
        }
    );
}
