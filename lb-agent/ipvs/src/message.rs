//! Netlink messages: headers around a request, and the messages in what the kernel sent.
use netlink_packet_core::{Emitable, NLMSG_DONE, NLMSG_ERROR, NLMSG_OVERRUN, NetlinkBuffer, NetlinkHeader};
use nix::errno::Errno;

use crate::Error;

const HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;

/// `IPVS_CMD_*`.
pub(crate) mod command {
    pub(crate) const NEW_SERVICE: u8 = 1;
    pub(crate) const SET_SERVICE: u8 = 2;
    pub(crate) const DEL_SERVICE: u8 = 3;
    pub(crate) const GET_SERVICE: u8 = 4;
    pub(crate) const NEW_DEST: u8 = 5;
    pub(crate) const SET_DEST: u8 = 6;
    pub(crate) const DEL_DEST: u8 = 7;
    pub(crate) const GET_DEST: u8 = 8;
    pub(crate) const SET_CONFIG: u8 = 12;
    pub(crate) const GET_CONFIG: u8 = 13;
    pub(crate) const SET_INFO: u8 = 14;
    pub(crate) const GET_INFO: u8 = 15;
    pub(crate) const ZERO: u8 = 16;
    pub(crate) const FLUSH: u8 = 17;
}

/// What the headers of a request say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    /// The generic netlink family: its number in this kernel.
    pub(crate) family: u16,
    pub(crate) command: u8,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
}

impl Request {
    /// Appends the whole message, whose attributes `fill` appends.
    pub(crate) fn emit(self, buffer: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = buffer.len();
        buffer.extend_from_slice(&[0; HEADER]);
        // Version 1 of the family; the two bytes after it are reserved.
        buffer.extend_from_slice(&[self.command, 1, 0, 0]);
        fill(buffer);
        let mut header = NetlinkHeader::default();
        header.length = u32::try_from(buffer.len() - start).unwrap_or(u32::MAX);
        header.message_type = self.family;
        header.flags = self.flags;
        header.sequence_number = self.sequence;
        header.emit(&mut buffer[start..start + HEADER]);
    }
}

/// One message from the kernel.
#[derive(Debug)]
pub(crate) struct Reply<'a> {
    pub(crate) sequence: u32,
    pub(crate) content: Content<'a>,
}

/// What a message from the kernel says.
#[derive(Debug)]
pub(crate) enum Content<'a> {
    /// The request is done: all of a dump is told, or the acknowledgment that was asked for.
    Done,
    /// The request failed.
    Failed(Errno),
    /// Messages were lost.
    Overrun,
    /// An answer: its generic netlink command, and its attributes.
    Answer {
        family: u16,
        command: u8,
        attributes: &'a [u8],
    },
}

/// Reads the messages of one datagram, and gives an error where one doesn't fit its bytes.
pub(crate) fn read(datagram: &[u8]) -> impl Iterator<Item = Result<Reply<'_>, Error>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Ok(message) = NetlinkBuffer::new_checked(rest) else {
            rest = &[];
            return Some(Err(Error::Malformed("a message is cut off")));
        };
        let length = message.length() as usize;
        let (kind, sequence) = (message.message_type(), message.sequence_number());
        let payload = &rest[HEADER..length];
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(content(kind, payload).map(|content| Reply { sequence, content }))
    })
}

fn content(kind: u16, payload: &[u8]) -> Result<Content<'_>, Error> {
    match kind {
        NLMSG_ERROR => status(payload).ok_or(Error::Malformed("an error is cut off")),
        // Kernels of old end a dump without a status.
        NLMSG_DONE => Ok(status(payload).unwrap_or(Content::Done)),
        NLMSG_OVERRUN => Ok(Content::Overrun),
        family => {
            let Some((generic, attributes)) = payload.split_at_checked(GENERIC_HEADER) else {
                return Err(Error::Malformed("a generic netlink header is cut off"));
            };
            Ok(Content::Answer {
                family,
                command: generic[0],
                attributes,
            })
        }
    }
}

/// A status is 0 or a negative error number.
fn status<'a>(payload: &[u8]) -> Option<Content<'a>> {
    Some(match i32::from_ne_bytes(*payload.first_chunk()?) {
        0 => Content::Done,
        status => Content::Failed(Errno::from_raw(status.saturating_neg())),
    })
}
