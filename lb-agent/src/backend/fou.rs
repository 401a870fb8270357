//! Lets the kernel unwrap GUE: a UDP port of its own, by the generic netlink family `fou`.

use anyhow::{Context as _, bail};
use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};
use nix::errno::Errno;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::time::{TimeVal, TimeValLike as _};
use tracing::info;

use super::tunnel::load;
use crate::table::Family;

const CONTROLLER: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

const ADD: u8 = 1;
const GET: u8 = 3;
const PORT: u16 = 1;
const AF: u16 = 2;
const TYPE: u16 = 4;
const GUE: u8 = 2;

const ERROR: u16 = 2;
/// The kernel's netlink port.
const KERNEL: u32 = 0;
const DATAGRAM: usize = 16 * 1024;
/// The 16 bytes of a netlink header, and 4 of a generic one.
const HEADERS: usize = 20;

/// Opens the port, unless it is open.
pub(super) fn listen(family: Family, port: u16) -> anyhow::Result<()> {
    // No alias leads the kernel to this module, so it does not come by need.
    load("fou");
    let mut kernel = Kernel::open()?;
    let name: &[u8] = b"fou\0";
    let answer = kernel.ask(CONTROLLER, GET_FAMILY, &attribute(FAMILY_NAME, name));
    let fou = match answer.map(|answer| number_of(&answer, FAMILY_ID)) {
        Ok(Some(fou)) => fou,
        Ok(None) => bail!("the kernel's answer about its module fou makes no sense"),
        Err(Refusal::Errno(Errno::ENOENT)) => bail!(
            "the kernel module fou is missing: run `modprobe fou` on the node, and write fou into \
             /etc/modules-load.d/portable-lb.conf so that it is loaded at each start"
        ),
        Err(refusal) => return Err(refusal).context("could not ask for the kernel module fou"),
    };
    let mut wanted = attribute(PORT, &port.to_be_bytes());
    wanted.extend(attribute(AF, &[address_family(family)]));
    wanted.extend(attribute(TYPE, &[GUE]));
    match kernel.ask(fou, ADD, &wanted) {
        Ok(_) => info!(%family, port, "GUE is unwrapped"),
        // Ours from before, or somebody else's.
        Err(Refusal::Errno(Errno::EADDRINUSE | Errno::EALREADY)) => {
            let found = kernel.ask(fou, GET, &wanted);
            let kind = found
                .ok()
                .and_then(|found| value_of(&found, TYPE)?.first().copied());
            if kind != Some(GUE) {
                bail!(
                    "UDP port {port} is used by something else here: choose another forwarding.tunnel.port"
                );
            }
        }
        Err(refusal) => return Err(refusal).context("could not open the port of GUE"),
    }
    Ok(())
}

fn address_family(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the kernel refuses")]
    Errno(#[source] Errno),
    #[error("no netlink")]
    Socket(#[source] std::io::Error),
    #[error("the kernel's answer makes no sense")]
    Nonsense,
}

struct Kernel(Socket);

impl Kernel {
    fn open() -> anyhow::Result<Self> {
        let socket = Socket::new(NETLINK_GENERIC).context("could not open netlink")?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(10)).context("could not limit the wait")?;
        Ok(Self(socket))
    }

    /// Sends one request, and returns the attributes of the answer; none for a mere acknowledgment.
    fn ask(&mut self, family: u16, command: u8, attributes: &[u8]) -> Result<Vec<u8>, Refusal> {
        let request = request(family, command, attributes);
        self.0
            .send_to(&request, &SocketAddr::new(KERNEL, 0), 0)
            .map_err(Refusal::Socket)?;
        let mut answer = Vec::new();
        loop {
            let mut datagram = Vec::with_capacity(DATAGRAM);
            let (_, sender) = self.0.recv_from(&mut datagram, 0).map_err(Refusal::Socket)?;
            if sender.port_number() != KERNEL {
                continue;
            }
            for message in Messages(&datagram) {
                match message {
                    (ERROR, body) => {
                        let code = body.first_chunk::<4>().ok_or(Refusal::Nonsense)?;
                        return match i32::from_ne_bytes(*code) {
                            0 => Ok(answer),
                            code => Err(Refusal::Errno(Errno::from_raw(code.wrapping_neg()))),
                        };
                    }
                    (_, body) => answer = body.get(4..).unwrap_or_default().to_vec(),
                }
            }
        }
    }
}

fn request(family: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADERS + attributes.len()).unwrap_or(u32::MAX);
    let mut request = length.to_ne_bytes().to_vec();
    request.extend(family.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    // Sequence and sender: one question is asked at a time.
    request.extend([0; 8]);
    request.extend([command, 1, 0, 0]);
    request.extend(attributes);
    request
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut attribute = length.to_ne_bytes().to_vec();
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// The messages of a datagram: type and what is after the header.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = u32::from_ne_bytes(*self.0.first_chunk()?);
        let kind = u16::from_ne_bytes(*self.0.get(4..)?.first_chunk()?);
        let length = usize::try_from(length).ok()?;
        let body = self.0.get(16..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    }
}

fn value_of(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*attributes.first_chunk()?));
        let kind = u16::from_ne_bytes(*attributes.get(2..)?.first_chunk()?) & 0x3fff;
        let value = attributes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn number_of(attributes: &[u8], wanted: u16) -> Option<u16> {
    value_of(attributes, wanted)?
        .first_chunk()
        .map(|bytes| u16::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_are_read_as_they_were_written() {
        let mut written = attribute(PORT, &[1, 2]);
        written.extend(attribute(TYPE, &[GUE]));
        assert_eq!(written.len(), 16);
        assert_eq!(value_of(&written, PORT), Some([1, 2].as_slice()));
        assert_eq!(value_of(&written, TYPE), Some([GUE].as_slice()));
        assert_eq!(value_of(&written, AF), None);
        let request = request(7, ADD, &written);
        let found: Vec<_> = Messages(&request).collect();
        assert_eq!(found, [(7, &request[16..])]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, wanted: u16) {
            let _ = value_of(&bytes, wanted);
            let _ = number_of(&bytes, wanted);
            prop_assert!(Messages(&bytes).count() <= bytes.len());
        }
    }
}
