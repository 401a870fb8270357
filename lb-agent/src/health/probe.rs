//! Asks a server once.
//!
//! Connections end by a reset, so that neither side keeps an entry of one that waits (`TIME_WAIT`).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crd::Protocol;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::check::Kind;
use super::{Reason, Target, grpc, http};

/// The longest answer by UDP that is read.
const DATAGRAM_MAX: usize = 4096;
/// The longest answer of DNS by TCP.
const MESSAGE_MAX: u16 = 16 * 1024;

/// Why there is no good answer.
#[derive(Debug)]
pub enum Failure {
    /// The server's fault, or that of the way to it.
    Server(Reason),
    /// This machine could not ask: that says nothing of the server.
    Local(io::Error),
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self::Server(reason)
    }
}

/// Asks once. It takes no longer than the check allows, whatever the server does.
pub async fn probe(target: &Target) -> Result<(), Failure> {
    match tokio::time::timeout(target.check.timeout, ask(target)).await {
        Ok(result) => result,
        Err(_) => Err(Reason::Timeout.into()),
    }
}

async fn ask(target: &Target) -> Result<(), Failure> {
    let server = target.server;
    match &target.check.kind {
        Kind::Tcp => drop(connect(target).await?),
        Kind::Http(request, None) => http::ask(request, server, connect(target).await?).await?,
        Kind::Http(request, Some(tls)) => {
            let stream = tls.connect(connect(target).await?, server).await?;
            http::ask(request, server, stream).await?;
        }
        Kind::Grpc(service, None) => grpc::ask(service, server, connect(target).await?).await?,
        Kind::Grpc(service, Some(tls)) => {
            let stream = tls.connect(connect(target).await?, server).await?;
            grpc::ask(service, server, stream).await?;
        }
        Kind::Udp(request, wanted) => {
            let reply = exchange(target, request).await?;
            if !reply.starts_with(wanted) {
                return Err(Reason::UnexpectedReply.into());
            }
        }
        Kind::Dns(question, protocol) => {
            let id = fastrand::u16(..);
            let message = question.message(id);
            let reply = if *protocol == Protocol::TCP {
                over_tcp(connect(target).await?, &message).await?
            } else {
                exchange(target, &message).await?
            };
            question.judge(id, &reply)?;
        }
    }
    Ok(())
}

async fn connect(target: &Target) -> Result<TcpStream, Failure> {
    let socket = tcp_socket(target).map_err(Failure::Local)?;
    socket
        .connect(target.to)
        .await
        .map_err(|error| match error.kind() {
            // All local ports are taken, or the own address is gone.
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => Failure::Local(error),
            _ => Reason::of(&error).into(),
        })
}

fn tcp_socket(target: &Target) -> io::Result<TcpSocket> {
    let socket = if target.to.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_zero_linger()?;
    let raw = SockRef::from(&socket);
    raw.set_tcp_nodelay(true)?;
    if let Some(mark) = target.mark {
        raw.set_mark(mark.get())?;
    }
    if let Some(source) = target.source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    Ok(socket)
}

async fn udp_socket(target: &Target) -> io::Result<UdpSocket> {
    let any = if target.to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind(SocketAddr::new(target.source.unwrap_or(any), 0)).await?;
    if let Some(mark) = target.mark {
        SockRef::from(&socket).set_mark(mark.get())?;
    }
    Ok(socket)
}

/// Sends a datagram and takes the first that comes back.
async fn exchange(target: &Target, request: &[u8]) -> Result<Vec<u8>, Failure> {
    let socket = udp_socket(target).await.map_err(Failure::Local)?;
    let mut reply = vec![0; DATAGRAM_MAX];
    let answer = async {
        // Connected, it takes datagrams of the server alone, and hears that a port is closed.
        socket.connect(target.to).await?;
        socket.send(request).await?;
        socket.recv(&mut reply).await
    };
    let length = answer.await.map_err(|error| Reason::of(&error))?;
    reply.truncate(length);
    Ok(reply)
}

/// DNS over TCP: each message after its length.
async fn over_tcp(mut stream: TcpStream, message: &[u8]) -> Result<Vec<u8>, Reason> {
    let answer = async {
        let length = u16::try_from(message.len()).unwrap_or_default();
        stream
            .write_all(&[&length.to_be_bytes(), message].concat())
            .await?;
        let length = stream.read_u16().await?;
        if length > MESSAGE_MAX {
            return Ok(None);
        }
        let mut reply = vec![0; usize::from(length)];
        stream.read_exact(&mut reply).await?;
        Ok(Some(reply))
    };
    let reply = answer.await.map_err(|error: io::Error| Reason::of(&error))?;
    reply.ok_or(Reason::ReplyTooLong)
}
