//! Our reading of what the kernel answered `ipvsadm`.
use super::values::{added_servers, added_services, set_server, set_service};
use super::{IPVS, recorded};
use crate::message::{Content, command};
use crate::{Config, Destination, Family, Info, Service, decode, message};

/// The attributes of each answer with this command.
fn answers(run: &str, wanted: u8) -> Vec<Vec<u8>> {
    let mut answers = Vec::new();
    for datagram in recorded(run).heard {
        for reply in message::read(&datagram) {
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
fn services_are_understood() {
    let answers = answers("-Sn", command::NEW_SERVICE);
    let mut read: Vec<Service> = answers
        .iter()
        .map(|answer| decode::service(answer).unwrap().service)
        .collect();
    let (_, set) = set_service();
    let mut made: Vec<Service> = added_services().into_iter().map(|(_, service)| service).collect();
    made.retain(|service| service.id != set.id);
    made.push(set);
    read.sort_by_key(|service| service.id);
    made.sort_by_key(|service| service.id);
    assert_eq!(read, made);
}

#[test]
fn servers_are_understood() {
    // Every answer tells its own family, so the service's must not matter.
    let answers = answers("-Sn", command::NEW_DEST);
    let mut read: Vec<Destination> = answers
        .iter()
        .map(|answer| decode::destination(answer, Family::V4).unwrap().destination)
        .collect();
    let (_, set) = set_server();
    let mut made: Vec<Destination> = added_servers().into_iter().map(|(_, _, server)| server).collect();
    made.retain(|server| server.addr != set.addr);
    made.push(set);
    read.sort_by_key(|server| server.addr);
    made.sort_by_key(|server| server.addr);
    assert_eq!(read, made);
}

#[test]
fn settings_are_understood() {
    let timeouts = &answers("-Ln --timeout", command::SET_CONFIG)[0];
    let facts = &answers("--version-of-kernel", command::SET_INFO)[0];
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
