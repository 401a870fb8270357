//! From commands to the attributes that the kernel takes, in `ipvsadm`'s order.
use std::net::{IpAddr, SocketAddr};

use crate::attribute::{destination, nest, put, service, top};
use crate::message::command;
use crate::{
    Command, Config, Destination, Family, Forwarding, Persistence, Protocol, Service, ServiceId, TunnelKind,
};

/// `IP_VS_SVC_F_PERSISTENT`.
pub(crate) const PERSISTENT: u32 = 0x1;

impl Command {
    /// Its number in the protocol.
    pub(crate) fn number(&self) -> u8 {
        match self {
            Self::AddService(_) => command::NEW_SERVICE,
            Self::SetService(_) => command::SET_SERVICE,
            Self::RemoveService(_) => command::DEL_SERVICE,
            Self::AddDestination(..) => command::NEW_DEST,
            Self::SetDestination(..) => command::SET_DEST,
            Self::RemoveDestination(..) => command::DEL_DEST,
            Self::SetConfig(_) => command::SET_CONFIG,
            Self::Zero(_) => command::ZERO,
            Self::Flush => command::FLUSH,
        }
    }

    /// Appends its attributes.
    pub(crate) fn put_attributes(&self, buffer: &mut Vec<u8>) {
        match self {
            Self::AddService(service) | Self::SetService(service) => put_service(buffer, service),
            Self::RemoveService(id) | Self::Zero(Some(id)) => put_id(buffer, id),
            Self::AddDestination(id, server) | Self::SetDestination(id, server) => {
                put_id(buffer, id);
                nest(buffer, top::DESTINATION, |buffer| put_destination(buffer, server));
            }
            Self::RemoveDestination(id, addr) => {
                put_id(buffer, id);
                nest(buffer, top::DESTINATION, |buffer| {
                    put_server_address(buffer, *addr);
                });
            }
            Self::SetConfig(config) => put_config(buffer, config),
            Self::Zero(None) | Self::Flush => {}
        }
    }
}

/// Appends the attributes that name a service.
pub(crate) fn put_id(buffer: &mut Vec<u8>, id: &ServiceId) {
    nest(buffer, top::SERVICE, |buffer| put_id_fields(buffer, id));
}

fn put_id_fields(buffer: &mut Vec<u8>, id: &ServiceId) {
    put(buffer, service::FAMILY, &family_number(id.family()).to_ne_bytes());
    match id {
        ServiceId::Mark { mark, .. } => put(buffer, service::MARK, &mark.get().to_ne_bytes()),
        ServiceId::Address { protocol, addr } => {
            put(
                buffer,
                service::PROTOCOL,
                &protocol_number(*protocol).to_ne_bytes(),
            );
            put(buffer, service::ADDRESS, &address_bytes(addr.ip()));
            put(buffer, service::PORT, &addr.port().to_be_bytes());
        }
    }
}

fn put_service(buffer: &mut Vec<u8>, wanted: &Service) {
    let family = wanted.id.family();
    let Persistence {
        timeout_seconds,
        prefix_length,
    } = wanted.persistence.unwrap_or(Persistence {
        timeout_seconds: 0,
        prefix_length: longest_prefix(family),
    });
    let flags = wanted.flags.bits()
        | if wanted.persistence.is_some() {
            PERSISTENT
        } else {
            0
        };
    nest(buffer, top::SERVICE, |buffer| {
        put_id_fields(buffer, &wanted.id);
        put(
            buffer,
            service::SCHEDULER,
            &[wanted.scheduler.as_str().as_bytes(), &[0]].concat(),
        );
        // The flags, and which of them to change: all.
        put(
            buffer,
            service::FLAGS,
            &[flags.to_ne_bytes(), u32::MAX.to_ne_bytes()].concat(),
        );
        put(buffer, service::TIMEOUT, &timeout_seconds.to_ne_bytes());
        put(buffer, service::NETMASK, &netmask_bytes(family, prefix_length));
    });
}

fn put_server_address(buffer: &mut Vec<u8>, addr: SocketAddr) {
    put(
        buffer,
        destination::FAMILY,
        &family_number(addr.into()).to_ne_bytes(),
    );
    put(buffer, destination::ADDRESS, &address_bytes(addr.ip()));
    put(buffer, destination::PORT, &addr.port().to_be_bytes());
}

fn put_destination(buffer: &mut Vec<u8>, wanted: &Destination) {
    let (kind, port, flags) = match wanted.forwarding {
        Forwarding::Tunnel { kind, flags } => (tunnel_number(kind), tunnel_port(kind), flags.bits()),
        _ => (0, 0, 0),
    };
    put_server_address(buffer, wanted.addr);
    put(
        buffer,
        destination::FORWARDING,
        &forwarding_number(wanted.forwarding).to_ne_bytes(),
    );
    put(buffer, destination::WEIGHT, &wanted.weight.to_ne_bytes());
    put(buffer, destination::TUNNEL_KIND, &[kind]);
    put(buffer, destination::TUNNEL_PORT, &port.to_be_bytes());
    put(buffer, destination::TUNNEL_FLAGS, &flags.to_ne_bytes());
    put(
        buffer,
        destination::UPPER_THRESHOLD,
        &wanted.upper_threshold.to_ne_bytes(),
    );
    put(
        buffer,
        destination::LOWER_THRESHOLD,
        &wanted.lower_threshold.to_ne_bytes(),
    );
}

fn put_config(buffer: &mut Vec<u8>, config: &Config) {
    put(buffer, top::TIMEOUT_TCP, &config.tcp_seconds.to_ne_bytes());
    put(
        buffer,
        top::TIMEOUT_TCP_FIN,
        &config.tcp_fin_seconds.to_ne_bytes(),
    );
    put(buffer, top::TIMEOUT_UDP, &config.udp_seconds.to_ne_bytes());
}

/// `AF_INET` or `AF_INET6`.
fn family_number(family: Family) -> u16 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

fn protocol_number(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

fn forwarding_number(forwarding: Forwarding) -> u32 {
    match forwarding {
        Forwarding::Masquerade => 0,
        Forwarding::Local => 1,
        Forwarding::Tunnel { .. } => 2,
        Forwarding::Direct => 3,
        Forwarding::Bypass => 4,
    }
}

fn tunnel_number(kind: TunnelKind) -> u8 {
    match kind {
        TunnelKind::Ipip => 0,
        TunnelKind::Gue { .. } => 1,
        TunnelKind::Gre => 2,
    }
}

fn tunnel_port(kind: TunnelKind) -> u16 {
    match kind {
        TunnelKind::Gue { port } => port.get(),
        TunnelKind::Ipip | TunnelKind::Gre => 0,
    }
}

/// Always 16 bytes; an IPv4 address takes the first 4.
fn address_bytes(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&addr.octets());
            bytes
        }
        IpAddr::V6(addr) => addr.octets(),
    }
}

fn longest_prefix(family: Family) -> u8 {
    match family {
        Family::V4 => 32,
        Family::V6 => 128,
    }
}

/// A mask in network order for IPv4, the prefix length as a number for IPv6.
fn netmask_bytes(family: Family, prefix_length: u8) -> [u8; 4] {
    match family {
        Family::V4 => {
            let host_bits = 32 - u32::from(prefix_length.min(32));
            u32::MAX.checked_shl(host_bits).unwrap_or(0).to_be_bytes()
        }
        Family::V6 => u32::from(prefix_length).to_ne_bytes(),
    }
}
