//! Servers that echo, and a client's connections to them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

/// Tells every client its address's last number and the client's address, and then echoes.
pub(crate) fn serve_tcp(listener: TcpListener) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
}

/// Answers every datagram with this text.
pub(crate) fn serve_udp(socket: UdpSocket, text: String) {
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(text.as_bytes(), from);
        }
    });
}

/// A connection of the client's through the agent.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    /// The server's number.
    pub(crate) server: u8,
    /// The client's address as the server sees it.
    pub(crate) peer: String,
}

impl Connection {
    pub(crate) fn over(stream: TcpStream) -> std::io::Result<Self> {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut connection = Connection {
            stream: BufReader::new(stream),
            server: 0,
            peer: String::new(),
        };
        let hello = connection.line()?;
        let (server, peer) = hello.split_once(' ').ok_or(std::io::ErrorKind::InvalidData)?;
        connection.server = server.parse().map_err(|_| std::io::ErrorKind::InvalidData)?;
        peer.clone_into(&mut connection.peer);
        Ok(connection)
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        if line.ends_with('\n') {
            Ok(line.trim().to_owned())
        } else {
            Err(std::io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Whether what is said comes back.
    pub(crate) fn echoes(&mut self) -> bool {
        let said = self.stream.get_mut().write_all(b"still there?\n");
        said.is_ok() && self.line().is_ok_and(|line| line == "still there?")
    }
}

fn serve(mut stream: TcpStream) {
    let (Ok(own), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else {
        return;
    };
    // Of fd00::21 it is 21 too: the tests' addresses are decimal in both families.
    let own = own.ip().to_canonical().to_string();
    let octet = own.rsplit(['.', ':']).next().unwrap_or_default();
    let _ = stream.write_all(format!("{octet} {}\n", peer.ip().to_canonical()).as_bytes());
    let Ok(copy) = stream.try_clone() else { return };
    for line in BufReader::new(copy).lines().map_while(Result::ok) {
        let _ = stream.write_all(format!("{line}\n").as_bytes());
    }
}

/// The answer to one datagram.
pub(crate) fn ask(socket: &UdpSocket) -> Option<u8> {
    socket.send(b"who?").ok()?;
    let mut buffer = [0; 8];
    let length = socket.recv(&mut buffer).ok()?;
    std::str::from_utf8(&buffer[..length]).ok()?.parse().ok()
}
