//! Our messages against those that `ipvsadm` sent.
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};

use super::values::{added_servers, added_services, address, set_server, set_service, web, web6};
use super::{IPVS, recorded};
use crate::message::{Request, command};
use crate::{Command, Config, Protocol, ServiceId, attribute, batch, encode};

/// A message without what differs from run to run.
fn comparable(mut message: Vec<u8>) -> Vec<u8> {
    message[8..16].fill(0);
    message
}

fn sent(run: &str) -> Vec<u8> {
    let mut sent = recorded(run).sent;
    assert_eq!(sent.len(), 1, "messages of {run}");
    comparable(sent.remove(0))
}

fn ours(command: Command) -> Vec<u8> {
    comparable(batch::pack(&[command], IPVS, 7))
}

fn attributes(message: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let read = attribute::read(&message[20..]).map(Result::unwrap);
    read.map(|attribute| (attribute.kind, attribute.value.to_vec()))
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

/// The service's identity begins the same, and the server is the same to the byte.
fn assert_same_server(run: &str, command: Command) {
    assert_eq!(
        attributes(&ours(command.clone()))[1],
        attributes(&sent(run))[1],
        "{run}"
    );
    assert_same_beginning(run, command);
}

#[test]
fn services_are_the_same_to_the_byte() {
    for (run, service) in added_services() {
        assert_same(run, Command::AddService(service));
    }
    let (run, service) = set_service();
    assert_same(run, Command::SetService(service));
}

#[test]
fn servers_are_the_same_to_the_byte() {
    for (run, id, server) in added_servers() {
        assert_same_server(run, Command::AddDestination(id, server));
    }
    let (run, server) = set_server();
    assert_same_server(run, Command::SetDestination(web(), server));
}

#[test]
fn what_needs_only_an_identity_begins_the_same() {
    let gone = "10.0.0.1:8080".parse().unwrap();
    let gone6 = "[2001:db8::2]:8080".parse().unwrap();
    let dns = address(Protocol::Udp, "[2001:db8::1]:53");
    for (run, command) in [
        (
            "-d -f 80 -r 10.0.0.1:8080",
            Command::RemoveDestination(web(), gone),
        ),
        (
            "-d -f 81 -6 -r [2001:db8::2]:8080",
            Command::RemoveDestination(web6(), gone6),
        ),
        ("-D -f 80", Command::RemoveService(web())),
        ("-D -u [2001:db8::1]:53", Command::RemoveService(dns)),
        ("-Z -f 80", Command::Zero(Some(web()))),
    ] {
        assert_same_beginning(run, command);
    }
}

#[test]
fn the_rest_is_the_same_to_the_byte() {
    let timeouts = Config {
        tcp_seconds: 1000,
        tcp_fin_seconds: 100,
        udp_seconds: 200,
    };
    assert_same("-Z", Command::Zero(None));
    assert_same("--set 1000 100 200", Command::SetConfig(timeouts));
    assert_same("-C", Command::Flush);
}

#[test]
fn questions_about_servers_are_the_same_to_the_byte() {
    let question = |id: &ServiceId| {
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_DUMP;
        let request = Request {
            family: IPVS,
            command: command::GET_DEST,
            flags,
            sequence: 0,
        };
        let mut message = Vec::new();
        request.emit(&mut message, |buffer| encode::put_id(buffer, id));
        message
    };
    let asked: Vec<_> = recorded("-Sn").sent.into_iter().map(comparable).collect();
    assert!(asked.contains(&question(&web())));
    assert!(asked.contains(&question(&web6())));
}
