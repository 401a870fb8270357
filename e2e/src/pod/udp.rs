//! A UDP server that answers each datagram with its identity.

use super::Identity;
use std::net::UdpSocket;

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
    use std::time::Duration;

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
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        client.send_to(b"?", address).unwrap();
        let mut buffer = [0; 100];
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"pod=a node=n ip=1\n");
    }
}
