//! The newest servers of each service of IPVS, for little: the kernel lists them first, and of its answer only the
//! beginning is asked for. Its list in `/proc` is written as a whole, which takes milliseconds for a thousand servers.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use netlink_packet_core::{
    Emitable, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader, NlaBuffer,
    NlasIterator,
};
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

/// So many servers of a service are looked at, or a few more.
const ENOUGH: usize = 64;
/// The kernel makes its answer's next part as long as there is room for.
const PART: usize = 8192;
const HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;

/// The controller of generic netlink: its number, its question for a family, and what that is about.
const CONTROLLER: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// `IPVS_CMD_GET_SERVICE`, `IPVS_CMD_GET_DEST`, and what both are about: `IPVS_CMD_ATTR_SERVICE`, `IPVS_CMD_ATTR_DEST`.
const GET_SERVICE: u8 = 4;
const GET_DEST: u8 = 8;
const SERVICE: u16 = 1;
const DEST: u16 = 2;
/// `IPVS_DEST_ATTR_ADDR`, `_PORT` and `_WEIGHT`.
const ADDRESS: u16 = 1;
const PORT: u16 = 2;
const WEIGHT: u16 = 4;

/// So long the same services are asked about. To list them takes as long as to ask.
const SAME: Duration = Duration::from_secs(1);

/// IPVS, as it calls itself in this kernel.
pub(super) struct Ipvs {
    number: u16,
    services: Vec<Vec<u8>>,
    listed: Option<Instant>,
}

impl Ipvs {
    /// Asks for its number.
    pub(super) fn find() -> Result<Self> {
        let name = attribute(FAMILY_NAME, b"IPVS\0");
        let mut found = None;
        let request = message((CONTROLLER, GET_FAMILY), NLM_F_REQUEST, &name);
        ask(&request, |attributes| {
            let id = value(attributes, FAMILY_ID);
            found = id.and_then(|id| Some(u16::from_ne_bytes(id.try_into().ok()?)));
            true
        })?;
        let number = found.context("the kernel has no IPVS")?;
        Ok(Self {
            number,
            services: Vec::new(),
            listed: None,
        })
    }

    /// The newest servers of each service that take connections.
    pub(super) fn newest(&mut self) -> Result<Vec<SocketAddrV4>> {
        if self.listed.is_none_or(|listed| listed.elapsed() > SAME) {
            self.services = self.services()?;
            self.listed = Some(Instant::now());
        }
        let mut servers = Vec::new();
        for service in &self.services {
            let mut left = ENOUGH;
            self.list(GET_DEST, service, |attributes| {
                servers.extend(value(attributes, DEST).and_then(|it| server(&it)));
                left -= 1;
                left == 0
            })?;
        }
        Ok(servers)
    }

    fn services(&self) -> Result<Vec<Vec<u8>>> {
        let mut services = Vec::new();
        self.list(GET_SERVICE, &[], |attributes| {
            services.extend(value(attributes, SERVICE).map(|service| attribute(SERVICE, &service)));
            false
        })?;
        Ok(services)
    }

    fn list(&self, command: u8, about: &[u8], take: impl FnMut(&[u8]) -> bool) -> Result<()> {
        let request = message((self.number, command), NLM_F_REQUEST | NLM_F_DUMP, about);
        ask(&request, take)
    }
}

/// Sends a request by a socket of its own, and hands over each answer's attributes until it is enough. What then is
/// left of the answer goes with the socket.
fn ask(request: &[u8], mut take: impl FnMut(&[u8]) -> bool) -> Result<()> {
    let socket = Socket::new(NETLINK_GENERIC)?;
    socket.send_to(request, &SocketAddr::new(0, 0), 0)?;
    loop {
        let mut part = Vec::with_capacity(PART);
        socket.recv(&mut part, 0)?;
        let mut rest = &part[..];
        while !rest.is_empty() {
            let answer = NetlinkBuffer::new_checked(rest)?;
            let (kind, length) = (answer.message_type(), answer.length() as usize);
            let content = rest.get(HEADER..length).context("an answer is cut off")?;
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => bail!("IPVS can't be read: {content:?}"),
                _ if take(content.get(GENERIC_HEADER..).unwrap_or_default()) => return Ok(()),
                _ => rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default(),
            }
        }
    }
}

fn message((family, command): (u16, u8), flags: u16, attributes: &[u8]) -> Vec<u8> {
    let mut message = vec![0; HEADER];
    message.extend([command, 1, 0, 0]);
    message.extend(attributes);
    let mut header = NetlinkHeader::default();
    header.length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    header.message_type = family;
    header.flags = flags;
    header.emit(&mut message[..HEADER]);
    message
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    let mut attribute: Vec<u8> = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

fn value(attributes: &[u8], kind: u16) -> Option<Vec<u8>> {
    let mut all = NlasIterator::new(attributes).map_while(Result::ok);
    let found: NlaBuffer<&[u8]> = all.find(|it| it.kind() == kind)?;
    Some(found.value().to_vec())
}

/// A server of IPv4 that has a weight.
fn server(attributes: &[u8]) -> Option<SocketAddrV4> {
    let weight = value(attributes, WEIGHT)?;
    let address: [u8; 4] = *value(attributes, ADDRESS)?.first_chunk()?;
    let port = u16::from_be_bytes(value(attributes, PORT)?.try_into().ok()?);
    weight
        .iter()
        .any(|it| *it != 0)
        .then(|| SocketAddrV4::new(Ipv4Addr::from(address), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_counts_if_it_has_a_weight() {
        let of = |weight: u32| {
            let mut address = [0; 16];
            address[..4].copy_from_slice(&[10, 200, 0, 1]);
            [
                attribute(ADDRESS, &address),
                attribute(PORT, &8080_u16.to_be_bytes()),
                attribute(WEIGHT, &weight.to_ne_bytes()),
            ]
            .concat()
        };
        assert_eq!(server(&of(1)), Some("10.200.0.1:8080".parse().unwrap()));
        assert_eq!(server(&of(256)), server(&of(1)));
        assert_eq!(server(&of(0)), None, "it drains");
        assert_eq!(server(&of(1)[..20]), None);
    }

    #[test]
    fn a_message_is_as_long_as_it_says() {
        let name = attribute(FAMILY_NAME, b"IPVS\0");
        let message = message((CONTROLLER, GET_FAMILY), NLM_F_REQUEST, &name);
        let read = NetlinkBuffer::new_checked(&message[..]).unwrap();
        assert_eq!((read.length(), read.message_type()), (32, CONTROLLER));
        assert_eq!(
            value(&message[HEADER + GENERIC_HEADER..], FAMILY_NAME).unwrap(),
            b"IPVS\0"
        );
    }
}
