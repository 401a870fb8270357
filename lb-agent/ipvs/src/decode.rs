//! From the kernel's attributes to entries. Bytes are untrusted, and attributes not known here are passed over.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};

use crate::attribute::{Attribute, control, destination, info, read, service, stats, top};
use crate::encode::PERSISTENT;
use crate::{
    Config, Counters, Destination, DestinationEntry, Error, Family, Forwarding, Info, Persistence, Protocol,
    Scheduler, Service, ServiceEntry, ServiceFlags, ServiceId, TunnelFlags, TunnelKind,
};

/// The number of a family, from the controller's answer.
pub(crate) fn family_id(attributes: &[u8]) -> Result<u16, Error> {
    find(attributes, control::FAMILY_ID)?.u16()
}

/// The service of an answer.
pub(crate) fn service(attributes: &[u8]) -> Result<ServiceEntry, Error> {
    ServiceFields::read(find(attributes, top::SERVICE)?.value)?.entry()
}

/// The server of an answer, to a question about a service of this family.
pub(crate) fn destination(attributes: &[u8], family: Family) -> Result<DestinationEntry, Error> {
    DestinationFields::read(find(attributes, top::DESTINATION)?.value)?.entry(family)
}

/// The timeouts of an answer.
pub(crate) fn config(attributes: &[u8]) -> Result<Config, Error> {
    let mut config = Config::default();
    for attribute in read(attributes) {
        let attribute = attribute?;
        match attribute.kind {
            top::TIMEOUT_TCP => config.tcp_seconds = attribute.u32()?,
            top::TIMEOUT_TCP_FIN => config.tcp_fin_seconds = attribute.u32()?,
            top::TIMEOUT_UDP => config.udp_seconds = attribute.u32()?,
            _ => {}
        }
    }
    Ok(config)
}

/// The facts of an answer.
pub(crate) fn info(attributes: &[u8]) -> Result<Info, Error> {
    let [_, major, minor, patch] = find(attributes, info::VERSION)?.u32()?.to_be_bytes();
    let connection_table_size = find(attributes, info::CONNECTION_TABLE_SIZE)?.u32()?;
    Ok(Info {
        version: (major, minor, patch),
        connection_table_size,
    })
}

fn find(attributes: &[u8], kind: u16) -> Result<Attribute<'_>, Error> {
    for attribute in read(attributes) {
        let attribute = attribute?;
        if attribute.kind == kind {
            return Ok(attribute);
        }
    }
    Err(Error::Malformed("an attribute is missing"))
}

/// A service's attributes as they come.
#[derive(Default)]
struct ServiceFields<'a> {
    family: u16,
    protocol: u16,
    address: &'a [u8],
    port: u16,
    mark: u32,
    scheduler: &'a str,
    flags: u32,
    timeout: u32,
    netmask: [u8; 4],
    counters: Counters,
}

impl<'a> ServiceFields<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut fields = Self::default();
        for attribute in read(bytes) {
            let attribute = attribute?;
            match attribute.kind {
                service::FAMILY => fields.family = attribute.u16()?,
                service::PROTOCOL => fields.protocol = attribute.u16()?,
                service::ADDRESS => fields.address = attribute.value,
                service::PORT => fields.port = attribute.port()?,
                service::MARK => fields.mark = attribute.u32()?,
                service::SCHEDULER => fields.scheduler = attribute.text()?,
                service::FLAGS => fields.flags = attribute.u32()?,
                service::TIMEOUT => fields.timeout = attribute.u32()?,
                service::NETMASK => fields.netmask = attribute.u32()?.to_ne_bytes(),
                service::STATS64 => fields.counters = counters(attribute.value)?,
                _ => {}
            }
        }
        Ok(fields)
    }

    fn entry(self) -> Result<ServiceEntry, Error> {
        let family = family(self.family)?;
        let id = match NonZeroU32::new(self.mark) {
            Some(mark) => ServiceId::Mark { family, mark },
            None => ServiceId::Address {
                protocol: protocol(self.protocol)?,
                addr: SocketAddr::new(address(family, self.address)?, self.port),
            },
        };
        let scheduler = self.scheduler.parse::<Scheduler>();
        let persistence = (self.flags & PERSISTENT != 0).then(|| Persistence {
            timeout_seconds: self.timeout,
            prefix_length: prefix_length(family, self.netmask),
        });
        let service = Service {
            id,
            scheduler: scheduler
                .map_err(|_| Error::Malformed("a scheduler's name is too long or missing"))?,
            flags: ServiceFlags::from_bits(self.flags),
            persistence,
        };
        Ok(ServiceEntry {
            service,
            counters: self.counters,
        })
    }
}

/// A server's attributes as they come.
#[derive(Default)]
struct DestinationFields<'a> {
    family: Option<u16>,
    address: &'a [u8],
    port: u16,
    forwarding: u32,
    tunnel_kind: u8,
    tunnel_port: u16,
    tunnel_flags: u16,
    weight: u32,
    upper_threshold: u32,
    lower_threshold: u32,
    active_connections: u32,
    inactive_connections: u32,
    persistent_connections: u32,
    counters: Counters,
}

impl<'a> DestinationFields<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut fields = Self::default();
        for attribute in read(bytes) {
            let attribute = attribute?;
            match attribute.kind {
                destination::FAMILY => fields.family = Some(attribute.u16()?),
                destination::ADDRESS => fields.address = attribute.value,
                destination::PORT => fields.port = attribute.port()?,
                destination::FORWARDING => fields.forwarding = attribute.u32()?,
                destination::TUNNEL_KIND => fields.tunnel_kind = attribute.u8()?,
                destination::TUNNEL_PORT => fields.tunnel_port = attribute.port()?,
                destination::TUNNEL_FLAGS => fields.tunnel_flags = attribute.u16()?,
                destination::WEIGHT => fields.weight = attribute.u32()?,
                destination::UPPER_THRESHOLD => fields.upper_threshold = attribute.u32()?,
                destination::LOWER_THRESHOLD => fields.lower_threshold = attribute.u32()?,
                destination::ACTIVE_CONNECTIONS => fields.active_connections = attribute.u32()?,
                destination::INACTIVE_CONNECTIONS => fields.inactive_connections = attribute.u32()?,
                destination::PERSISTENT_CONNECTIONS => fields.persistent_connections = attribute.u32()?,
                destination::STATS64 => fields.counters = counters(attribute.value)?,
                _ => {}
            }
        }
        Ok(fields)
    }

    fn entry(self, service_family: Family) -> Result<DestinationEntry, Error> {
        let family = self.family.map_or(Ok(service_family), family)?;
        let destination = Destination {
            addr: SocketAddr::new(address(family, self.address)?, self.port),
            forwarding: self.forwarding()?,
            weight: self.weight,
            upper_threshold: self.upper_threshold,
            lower_threshold: self.lower_threshold,
        };
        Ok(DestinationEntry {
            destination,
            active_connections: self.active_connections,
            inactive_connections: self.inactive_connections,
            persistent_connections: self.persistent_connections,
            counters: self.counters,
        })
    }

    fn forwarding(&self) -> Result<Forwarding, Error> {
        match self.forwarding {
            0 => Ok(Forwarding::Masquerade),
            1 => Ok(Forwarding::Local),
            2 => Ok(Forwarding::Tunnel {
                kind: self.tunnel()?,
                flags: TunnelFlags::from_bits(self.tunnel_flags),
            }),
            3 => Ok(Forwarding::Direct),
            4 => Ok(Forwarding::Bypass),
            _ => Err(Error::Malformed("a forwarding method is not known")),
        }
    }

    fn tunnel(&self) -> Result<TunnelKind, Error> {
        let port = NonZeroU16::new(self.tunnel_port);
        match (self.tunnel_kind, port) {
            (0, _) => Ok(TunnelKind::Ipip),
            (1, Some(port)) => Ok(TunnelKind::Gue { port }),
            (2, _) => Ok(TunnelKind::Gre),
            _ => Err(Error::Malformed("a tunnel is not known")),
        }
    }
}

fn counters(bytes: &[u8]) -> Result<Counters, Error> {
    let mut counters = Counters::default();
    for attribute in read(bytes) {
        let attribute = attribute?;
        match attribute.kind {
            stats::CONNECTIONS => counters.connections = attribute.u64()?,
            stats::INCOMING_PACKETS => counters.incoming_packets = attribute.u64()?,
            stats::OUTGOING_PACKETS => counters.outgoing_packets = attribute.u64()?,
            stats::INCOMING_BYTES => counters.incoming_bytes = attribute.u64()?,
            stats::OUTGOING_BYTES => counters.outgoing_bytes = attribute.u64()?,
            _ => {}
        }
    }
    Ok(counters)
}

fn family(number: u16) -> Result<Family, Error> {
    match number {
        2 => Ok(Family::V4),
        10 => Ok(Family::V6),
        _ => Err(Error::Malformed("an address family is not known")),
    }
}

fn protocol(number: u16) -> Result<Protocol, Error> {
    match number {
        6 => Ok(Protocol::Tcp),
        17 => Ok(Protocol::Udp),
        132 => Ok(Protocol::Sctp),
        _ => Err(Error::Malformed("a protocol is not known")),
    }
}

fn address(family: Family, bytes: &[u8]) -> Result<IpAddr, Error> {
    let addr = match family {
        Family::V4 => bytes
            .first_chunk::<4>()
            .map(|bytes| Ipv4Addr::from(*bytes).into()),
        Family::V6 => bytes
            .first_chunk::<16>()
            .map(|bytes| Ipv6Addr::from(*bytes).into()),
    };
    match addr {
        Some(addr) => Ok(addr),
        None => Err(Error::Malformed("an address is cut off or missing")),
    }
}

/// Masks with holes don't come from here; of those the leading ones count.
fn prefix_length(family: Family, netmask: [u8; 4]) -> u8 {
    let length = match family {
        Family::V4 => u32::from_be_bytes(netmask).leading_ones(),
        Family::V6 => u32::from_ne_bytes(netmask),
    };
    u8::try_from(length).unwrap_or(u8::MAX)
}
