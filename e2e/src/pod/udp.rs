//! A UDP server that answers each datagram with its identity, and a client of it.

use super::Identity;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// Longer than an answer takes, and short, so that what is lost costs little time.
const PATIENCE: Duration = Duration::from_millis(300);

/// A client whose datagrams all come from one port: one flow.
#[derive(Debug)]
pub struct Flow(UdpSocket);

impl Flow {
    /// To a server.
    pub fn new(server: SocketAddr) -> std::io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// Sends a datagram and gives the answer.
    pub fn ask(&self) -> std::io::Result<String> {
        self.0.send(b"?")?;
        let mut buffer = [0; 512];
        let length = self.0.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }
}

/// Answers for ever. Sending errors (a client that is gone) are not the server's end.
pub fn serve(socket: &UdpSocket, identity: &Identity) -> std::io::Result<()> {
    let answer = identity.line();
    let mut buffer = [0; 2048];
    loop {
        let (_, client) = socket.recv_from(&mut buffer)?;
        let _ = socket.send_to(answer.as_bytes(), client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_is_answered_with_the_identity() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let identity = Identity {
            pod: "a".into(),
            node: "n".into(),
            ip: "1".into(),
        };
        std::thread::spawn(move || serve(&server, &identity));
        let flow = Flow::new(address).unwrap();
        assert_eq!(flow.ask().unwrap(), "pod=a node=n ip=1\n");
    }
}
