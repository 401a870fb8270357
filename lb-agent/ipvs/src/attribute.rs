//! Netlink attributes: writing them, reading them from untrusted bytes, and IPVS's numbers for them.
//!
//! A table has thousands of each, so that an error is made only where there is one: not by `ok_or`, which makes it first.
use netlink_packet_core::{NLA_F_NESTED, NLA_TYPE_MASK};

use crate::Error;

const HEADER: usize = 4;

/// `CTRL_ATTR_*` of the generic netlink controller.
pub(crate) mod control {
    pub(crate) const FAMILY_ID: u16 = 1;
    pub(crate) const FAMILY_NAME: u16 = 2;
}

/// `IPVS_CMD_ATTR_*`: what a message is about.
pub(crate) mod top {
    pub(crate) const SERVICE: u16 = 1;
    pub(crate) const DESTINATION: u16 = 2;
    pub(crate) const TIMEOUT_TCP: u16 = 4;
    pub(crate) const TIMEOUT_TCP_FIN: u16 = 5;
    pub(crate) const TIMEOUT_UDP: u16 = 6;
}

/// `IPVS_SVC_ATTR_*`.
pub(crate) mod service {
    pub(crate) const FAMILY: u16 = 1;
    pub(crate) const PROTOCOL: u16 = 2;
    pub(crate) const ADDRESS: u16 = 3;
    pub(crate) const PORT: u16 = 4;
    pub(crate) const MARK: u16 = 5;
    pub(crate) const SCHEDULER: u16 = 6;
    pub(crate) const FLAGS: u16 = 7;
    pub(crate) const TIMEOUT: u16 = 8;
    pub(crate) const NETMASK: u16 = 9;
    pub(crate) const STATS64: u16 = 12;
}

/// `IPVS_DEST_ATTR_*`.
pub(crate) mod destination {
    pub(crate) const ADDRESS: u16 = 1;
    pub(crate) const PORT: u16 = 2;
    pub(crate) const FORWARDING: u16 = 3;
    pub(crate) const WEIGHT: u16 = 4;
    pub(crate) const UPPER_THRESHOLD: u16 = 5;
    pub(crate) const LOWER_THRESHOLD: u16 = 6;
    pub(crate) const ACTIVE_CONNECTIONS: u16 = 7;
    pub(crate) const INACTIVE_CONNECTIONS: u16 = 8;
    pub(crate) const PERSISTENT_CONNECTIONS: u16 = 9;
    pub(crate) const FAMILY: u16 = 11;
    pub(crate) const STATS64: u16 = 12;
    pub(crate) const TUNNEL_KIND: u16 = 13;
    pub(crate) const TUNNEL_PORT: u16 = 14;
    pub(crate) const TUNNEL_FLAGS: u16 = 15;
}

/// `IPVS_STATS_ATTR_*`. The rates after these aren't read.
pub(crate) mod stats {
    pub(crate) const CONNECTIONS: u16 = 1;
    pub(crate) const INCOMING_PACKETS: u16 = 2;
    pub(crate) const OUTGOING_PACKETS: u16 = 3;
    pub(crate) const INCOMING_BYTES: u16 = 4;
    pub(crate) const OUTGOING_BYTES: u16 = 5;
}

/// `IPVS_INFO_ATTR_*`.
pub(crate) mod info {
    pub(crate) const VERSION: u16 = 1;
    pub(crate) const CONNECTION_TABLE_SIZE: u16 = 2;
}

/// Appends an attribute.
pub(crate) fn put(buffer: &mut Vec<u8>, kind: u16, value: &[u8]) {
    append(buffer, kind, |buffer| buffer.extend_from_slice(value));
}

/// Appends an attribute whose value is the attributes that `fill` appends.
pub(crate) fn nest(buffer: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    append(buffer, kind | NLA_F_NESTED, fill);
}

/// IPVS's attributes are all far below the 64 KiB that the length can tell.
fn append(buffer: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; HEADER]);
    fill(buffer);
    let length = u16::try_from(buffer.len() - start).unwrap_or(u16::MAX);
    buffer[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    buffer[start + 2..start + HEADER].copy_from_slice(&kind.to_ne_bytes());
    buffer.resize(buffer.len().next_multiple_of(4), 0);
}

/// One attribute that was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attribute<'a> {
    pub(crate) kind: u16,
    pub(crate) value: &'a [u8],
}

/// Reads attributes, and gives an error where one doesn't fit its bytes.
pub(crate) fn read(bytes: &[u8]) -> impl Iterator<Item = Result<Attribute<'_>, Error>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some((attribute, after)) = split(rest) else {
            rest = &[];
            return Some(Err(Error::Malformed("an attribute is cut off")));
        };
        rest = after;
        Some(Ok(attribute))
    })
}

/// The first attribute, and the bytes after it and its padding.
fn split(bytes: &[u8]) -> Option<(Attribute<'_>, &[u8])> {
    let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    // The kernel sets the bits for nesting and byte order, or not.
    let kind = u16::from_ne_bytes(*bytes.get(2..HEADER)?.first_chunk()?) & NLA_TYPE_MASK;
    let value = bytes.get(HEADER..length)?;
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((Attribute { kind, value }, rest))
}

impl<'a> Attribute<'a> {
    pub(crate) fn u8(self) -> Result<u8, Error> {
        self.number().map(u8::from_ne_bytes)
    }

    pub(crate) fn u16(self) -> Result<u16, Error> {
        self.number().map(u16::from_ne_bytes)
    }

    /// A port, which is in network order.
    pub(crate) fn port(self) -> Result<u16, Error> {
        self.number().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(self) -> Result<u32, Error> {
        self.number().map(u32::from_ne_bytes)
    }

    pub(crate) fn u64(self) -> Result<u64, Error> {
        self.number().map(u64::from_ne_bytes)
    }

    /// The bytes before the first NUL.
    pub(crate) fn text(self) -> Result<&'a str, Error> {
        let bytes = self.value.split(|byte| *byte == 0).next().unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|_| Error::Malformed("a name is not text"))
    }

    fn number<const N: usize>(self) -> Result<[u8; N], Error> {
        match self.value.first_chunk() {
            Some(bytes) => Ok(*bytes),
            None => Err(Error::Malformed("a number is cut off")),
        }
    }
}
