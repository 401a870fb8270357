//! The netlink socket: whole datagrams from the kernel alone, and never a wait without end.
use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use netlink_sys::{Socket as NetlinkSocket, SocketAddr, protocols::NETLINK_GENERIC};
use nix::errno::Errno;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce, ReceiveTimeout, SndBuf, SndBufForce};
use nix::sys::socket::{MsgFlags, setsockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::Error;
use crate::message::{self, Reply};

/// How long to wait for the next datagram.
const SILENCE_SECONDS: i64 = 10;
/// How long one request may take in all, a dump of a huge table included.
const PATIENCE: Duration = Duration::from_mins(1);
/// A dump's datagrams have at most 32 KiB.
const DATAGRAM: usize = 64 * 1024;
/// Room for the errors of a whole batch: each takes about 1 KiB of kernel memory.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;
/// Room for a whole batch, which is one datagram.
const SEND_BUFFER: usize = 1024 * 1024;
/// The kernel's netlink port.
const KERNEL: u32 = 0;

/// A generic netlink socket.
pub(crate) struct Socket {
    end: End,
    datagram: Vec<u8>,
}

/// Who is at the other end.
enum End {
    Kernel(NetlinkSocket),
    /// Nobody: these datagrams were prepared, and then there is silence.
    Prepared(VecDeque<Vec<u8>>),
}

impl Socket {
    pub(crate) fn open() -> Result<Self, Error> {
        let socket = NetlinkSocket::new(NETLINK_GENERIC).map_err(failed("open"))?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(SILENCE_SECONDS))
            .map_err(|errno| failed("limit the wait on")(errno.into()))?;
        // An error then carries only the header of what it is about.
        socket.set_cap_ack(true).map_err(failed("set up"))?;
        // Without the privilege to pass the system's limit, as much as it allows; less is slower, or `Overrun`.
        let _ = setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER)
            .or_else(|_| setsockopt(&socket, RcvBuf, &RECEIVE_BUFFER));
        let _ = setsockopt(&socket, SndBufForce, &SEND_BUFFER)
            .or_else(|_| setsockopt(&socket, SndBuf, &SEND_BUFFER));
        Ok(Self {
            end: End::Kernel(socket),
            datagram: Vec::with_capacity(DATAGRAM),
        })
    }

    /// A socket that hears just these datagrams.
    pub(crate) fn prepared(datagrams: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self {
            end: End::Prepared(datagrams.into_iter().collect()),
            datagram: Vec::new(),
        }
    }

    /// Sends messages as one datagram.
    pub(crate) fn send(&self, messages: &[u8]) -> Result<(), Error> {
        if let End::Kernel(socket) = &self.end {
            socket
                .send_to(messages, &SocketAddr::new(KERNEL, 0), 0)
                .map_err(failed("write to"))?;
        }
        Ok(())
    }

    /// Hands each reply to `take` until it returns true.
    pub(crate) fn receive(
        &mut self,
        mut take: impl FnMut(Reply<'_>) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let mut wait = Wait::default();
        loop {
            self.next_datagram(&mut wait)?;
            for reply in message::read(&self.datagram) {
                if take(reply?)? {
                    return Ok(());
                }
            }
            wait.check()?;
        }
    }

    fn next_datagram(&mut self, wait: &mut Wait) -> Result<(), Error> {
        let socket = match &mut self.end {
            End::Kernel(socket) => socket,
            End::Prepared(datagrams) => {
                self.datagram = datagrams.pop_front().ok_or(Error::Timeout)?;
                return Ok(());
            }
        };
        loop {
            self.datagram.clear();
            // With MSG_TRUNC the whole length is told even if the datagram was cut.
            let flags = MsgFlags::MSG_TRUNC.bits();
            match socket.recv_from(&mut self.datagram, flags) {
                Ok((_, sender)) if sender.port_number() != KERNEL => {}
                Ok((length, _)) if length > self.datagram.len() => {
                    return Err(Error::Malformed("a datagram is longer than the kernel's longest"));
                }
                Ok(_) => return Ok(()),
                Err(error) => match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
                    Errno::EINTR => {}
                    Errno::EAGAIN => return Err(Error::Timeout),
                    Errno::ENOBUFS => return Err(Error::Overrun),
                    _ => return Err(failed("read from")(error)),
                },
            }
            wait.check()?;
        }
    }
}

/// How long a request takes. Most have their answer with the first datagram, and are not worth a look at the clock,
/// which is a call of the system on some machines.
#[derive(Default)]
struct Wait {
    end: Option<Instant>,
}

impl Wait {
    /// An error, if it is too long since this was asked for the first time.
    fn check(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let end = *self.end.get_or_insert(now + PATIENCE);
        if now < end { Ok(()) } else { Err(Error::Timeout) }
    }
}

fn failed(step: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Socket { step, source }
}
