//! Against a plain map.

use super::*;
use crate::table::{Family, Listener, Scheduling, Server, Servers, Service, Services, Weight};
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::SocketAddr;

/// Of a few blocks, in both families.
fn addresses() -> impl Strategy<Value = SocketAddr> {
    (any::<bool>(), 0..200_u8, 1..3_u16).prop_map(|(is_v6, last, port)| {
        let six = [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)];
        if is_v6 {
            SocketAddr::from((six, port))
        } else {
            SocketAddr::from(([10, 0, 0, last], port))
        }
    })
}

/// Sets the server at an address, or removes it.
fn changes() -> impl Strategy<Value = Vec<(SocketAddr, Option<u32>)>> {
    vec((addresses(), proptest::option::of(0..3_u32)), 0..60)
}

type Model = BTreeMap<SocketAddr, Server>;

fn change((servers, model): &mut (Servers, Model), changes: Vec<(SocketAddr, Option<u32>)>) {
    for (at, weight) in changes {
        match weight.map(|weight| Server::nat(Weight(weight))) {
            Some(server) => assert_eq!(servers.insert(at, server), model.insert(at, server)),
            None => assert_eq!(servers.remove(&at), model.remove(&at)),
        }
    }
}

fn all(servers: &Servers) -> Model {
    servers.iter().map(|(at, server)| (*at, *server)).collect()
}

proptest! {
    #[test]
    fn it_is_a_sorted_map(first in changes(), second in changes()) {
        let mut both = Default::default();
        change(&mut both, first);
        let before = both.0.clone();
        let held = all(&before);
        change(&mut both, second);
        let (mut servers, mut model) = both;
        prop_assert!(servers.iter().eq(model.iter()));
        prop_assert_eq!((servers.len(), servers.is_empty()), (model.len(), model.is_empty()));
        prop_assert_eq!(servers.last(), model.keys().next_back());
        prop_assert!(model.iter().all(|(at, server)| servers.get(at) == Some(server)));
        servers.retain(|_, server| server.weight != Weight::DRAINING);
        model.retain(|_, server| server.weight != Weight::DRAINING);
        for server in servers.iter_mut().map(|(_, server)| server).chain(model.values_mut()) {
            server.entries_limit = 7;
        }
        prop_assert!(servers.iter().eq(model.iter()));
        prop_assert_eq!(&servers, &model.into_iter().collect());
        prop_assert_eq!(all(&before), held, "what is shared stays");
    }

    #[test]
    fn what_is_beside_each_other_is_all_that_differs(first in changes(), second in changes()) {
        let mut both = Default::default();
        change(&mut both, first);
        let before = both.0.clone();
        change(&mut both, second);
        let alone: Servers = both.1.into_iter().collect();
        let mut shared = alone.clone();
        shared.share(&before, |_, _| {});
        prop_assert_eq!(&shared, &alone);
        let differs = |now: &Servers| {
            let pairs = before.beside(now).filter(|(_, is, shall)| is != shall);
            pairs.map(|(at, is, shall)| (*at, is.copied(), shall.copied())).collect::<Vec<_>>()
        };
        prop_assert_eq!(differs(&both.0), differs(&alone));
        prop_assert_eq!(differs(&shared), differs(&alone));
        prop_assert_eq!(before.beside(&before).count(), 0);
    }
}

#[test]
fn one_change_copies_one_block() {
    let at = |n: u16| SocketAddr::from(([10, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]], 80));
    let before: Servers = (0..1000).map(|n| (at(n), Server::nat(Weight::NORMAL))).collect();
    let mut after = before.clone();
    after.remove(&at(500));
    assert_eq!(before.beside(&after).count(), 64);
}

/// Services at these ports, of as many servers each.
fn services(ports: impl Iterator<Item = (u16, u8)>) -> Services {
    let at = |port| Listener::marked(Family::V4, crd::Protocol::TCP, port);
    let server = |octet| {
        (
            SocketAddr::from(([10, 0, 0, octet], 80)),
            Server::nat(Weight::NORMAL),
        )
    };
    let service = |count| Service {
        scheduling: Scheduling::plain("rr"),
        servers: (0..count).map(server).collect(),
    };
    ports
        .map(|(port, count)| (at(port), Arc::new(service(count))))
        .collect()
}

/// The ports of what differs, or is not shared.
fn apart(one: &Services, other: &Services) -> Vec<u16> {
    one.apart(other).map(|(listener, ..)| listener.port).collect()
}

#[test]
fn what_differs_of_services_is_found_and_the_rest_shared() {
    let before = services((0..100).map(|port| (port, 2)));
    let mut after = services((0..100).map(|port| (port, if port == 50 { 3 } else { 2 })));
    assert_eq!(apart(&before, &after).len(), 100);
    after.share_at(
        Listener::marked(Family::V4, crd::Protocol::TCP, 20),
        &before,
        Arc::clone_from,
    );
    assert_eq!(apart(&before, &after).len(), 100 - 16);
    let is_equal = |service: &mut Arc<Service>, same: &Arc<Service>| {
        if service == same {
            service.clone_from(same);
        }
    };
    after.share(&before, is_equal);
    assert_eq!(apart(&before, &after), [50]);
    assert_eq!(before.beside(&after).count(), 16);
}

#[test]
fn what_is_there_is_not_made_anew() {
    let at = |octet| SocketAddr::from(([10, 0, 0, octet], 80));
    let mut numbers = Blocks::from([(at(1), 1)]);
    assert_eq!(*numbers.get_or_insert_with(at(1), || 7), 1);
    *numbers.get_or_insert_with(at(0), || 7) += 1;
    assert!(numbers.values().eq(&[8, 1]));
}
