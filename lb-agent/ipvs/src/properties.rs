//! What holds for all values: they come back as they went out, and no bytes make the decoder panic.
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};

use proptest::prelude::*;

use crate::{
    Command, Config, Destination, Family, Forwarding, Persistence, Protocol, Service, ServiceFlags,
    ServiceId, TunnelFlags, TunnelKind, attribute, batch, decode, message,
};

fn socket_addr(family: Family) -> impl Strategy<Value = SocketAddr> {
    let ip = match family {
        Family::V4 => any::<[u8; 4]>().prop_map(IpAddr::from).boxed(),
        Family::V6 => any::<[u8; 16]>().prop_map(IpAddr::from).boxed(),
    };
    (ip, any::<u16>()).prop_map(SocketAddr::from)
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

fn service_id() -> impl Strategy<Value = ServiceId> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
    prop_oneof![
        (family(), any::<NonZeroU32>()).prop_map(|(family, mark)| ServiceId::Mark { family, mark }),
        (protocol, family().prop_flat_map(socket_addr))
            .prop_map(|(protocol, addr)| ServiceId::Address { protocol, addr }),
    ]
}

fn persistence(family: Family) -> impl Strategy<Value = Option<Persistence>> {
    let prefix_length = match family {
        Family::V4 => 0..=32_u8,
        Family::V6 => 1..=128,
    };
    proptest::option::of(
        (any::<u32>(), prefix_length).prop_map(|(timeout_seconds, prefix_length)| Persistence {
            timeout_seconds,
            prefix_length,
        }),
    )
}

fn service() -> impl Strategy<Value = Service> {
    let id = service_id().prop_flat_map(|id| (Just(id), persistence(id.family())));
    (id, "[a-z_]{1,15}", any::<u32>()).prop_map(|((id, persistence), scheduler, flags)| Service {
        id,
        scheduler: scheduler.parse().unwrap(),
        flags: ServiceFlags::from_bits(flags),
        persistence,
    })
}

fn forwarding() -> impl Strategy<Value = Forwarding> {
    let kind = prop_oneof![
        Just(TunnelKind::Ipip),
        any::<NonZeroU16>().prop_map(|port| TunnelKind::Gue { port }),
        Just(TunnelKind::Gre),
    ];
    prop_oneof![
        Just(Forwarding::Masquerade),
        Just(Forwarding::Local),
        Just(Forwarding::Direct),
        Just(Forwarding::Bypass),
        (kind, any::<u16>()).prop_map(|(kind, flags)| Forwarding::Tunnel {
            kind,
            flags: TunnelFlags::from_bits(flags)
        }),
    ]
}

fn destination() -> impl Strategy<Value = Destination> {
    (
        family().prop_flat_map(socket_addr),
        forwarding(),
        any::<[u32; 3]>(),
    )
        .prop_map(
            |(addr, forwarding, [weight, upper_threshold, lower_threshold])| Destination {
                addr,
                forwarding,
                weight,
                upper_threshold,
                lower_threshold,
            },
        )
}

/// The attributes of a command's message.
fn attributes(command: &Command) -> Vec<u8> {
    let message = batch::pack(std::slice::from_ref(command), 28, 1);
    let reply = message::read(&message).next().unwrap().unwrap();
    match reply.content {
        message::Content::Answer { attributes, .. } => attributes.to_vec(),
        other => panic!("{other:?}"),
    }
}

/// Bytes that look like attributes more often than chance would have them.
fn attribute_soup() -> impl Strategy<Value = Vec<u8>> {
    let leaf = (0..20_u16, prop::collection::vec(any::<u8>(), 0..24));
    let nest = (0..20_u16, prop::collection::vec(leaf, 0..12));
    (
        prop::collection::vec(nest, 0..4),
        prop::collection::vec(any::<u8>(), 0..8),
    )
        .prop_map(|(nests, tail)| {
            let mut bytes = Vec::new();
            for (kind, leaves) in nests {
                attribute::nest(&mut bytes, kind, |bytes| {
                    for (kind, value) in leaves {
                        attribute::put(bytes, kind, &value);
                    }
                });
            }
            bytes.extend(tail);
            bytes
        })
}

fn decode_all(bytes: &[u8]) {
    let _ = decode::family_id(bytes);
    let _ = decode::service(bytes);
    let _ = decode::destination(bytes, Family::V4);
    let _ = decode::config(bytes);
    let _ = decode::info(bytes);
}

proptest! {
    #[test]
    fn a_service_comes_back_as_it_went_out(service in service()) {
        let attributes = attributes(&Command::AddService(service.clone()));
        prop_assert_eq!(decode::service(&attributes).unwrap().service, service);
    }

    #[test]
    fn a_server_comes_back_as_it_went_out(id in service_id(), server in destination()) {
        let attributes = attributes(&Command::SetDestination(id, server));
        prop_assert_eq!(decode::destination(&attributes, id.family()).unwrap().destination, server);
    }

    #[test]
    fn timeouts_come_back_as_they_went_out(seconds in any::<[u32; 3]>()) {
        let [tcp_seconds, tcp_fin_seconds, udp_seconds] = seconds;
        let config = Config { tcp_seconds, tcp_fin_seconds, udp_seconds };
        prop_assert_eq!(decode::config(&attributes(&Command::SetConfig(config))).unwrap(), config);
    }

    #[test]
    fn no_command_has_more_than_168_bytes(id in service_id(), service in service(), server in destination()) {
        for command in [Command::SetDestination(id, server), Command::AddService(service)] {
            prop_assert!(batch::pack(&[command], 28, 1).len() <= 168);
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        decode_all(&bytes);
        message::read(&bytes).for_each(drop);
    }

    #[test]
    fn arbitrary_attributes_do_no_harm(bytes in attribute_soup()) {
        decode_all(&bytes);
    }

    #[test]
    fn a_damaged_answer_does_no_harm(
        service in service(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        end in any::<prop::sample::Index>(),
    ) {
        let mut message = batch::pack(&[Command::AddService(service)], 28, 1);
        for (at, byte) in damage {
            let at = at.index(message.len());
            message[at] = byte;
        }
        message.truncate(end.index(message.len()));
        for reply in message::read(&message).flatten() {
            if let message::Content::Answer { attributes, .. } = reply.content {
                decode_all(attributes);
            }
        }
    }
}
