//! A small HTTP/1.1 server: `/` tells who answers, `/download?bytes=N&rate=BYTES_PER_SECOND` and `/stream`
//! make connections that last. One thread a connection, at most [`MOST_CONNECTIONS`].
#![allow(clippy::disallowed_methods, reason = "threads that pause, and no runtime")]

use super::Identity;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Connections beyond this many are closed at once.
pub const MOST_CONNECTIONS: usize = 1024;
const LONGEST_HEAD: u64 = 8 * 1024;
const IDLE: Duration = Duration::from_mins(2);
const TICK: Duration = Duration::from_millis(100);

/// The server's state, shared by its connections.
#[derive(Debug)]
pub struct Server {
    identity: Identity,
    open: AtomicUsize,
    ending: AtomicBool,
}

impl Server {
    /// A server that answers as `identity`.
    #[must_use]
    pub fn new(identity: Identity) -> Arc<Self> {
        Arc::new(Self {
            identity,
            open: AtomicUsize::new(0),
            ending: AtomicBool::new(false),
        })
    }

    /// Accepts for ever.
    pub fn accept(self: &Arc<Self>, listener: &TcpListener) -> ! {
        loop {
            match listener.accept() {
                Ok((stream, _)) => self.start(stream),
                // Out of descriptors, most likely: give connections time to end.
                Err(_) => thread::sleep(TICK),
            }
        }
    }

    /// Waits, after SIGTERM, for `linger` (who learns late still gets answers), then until no connection is
    /// open or `drain` is over. Connections are told to close with their next answer.
    pub fn end(&self, linger: Duration, drain: Duration) {
        self.ending.store(true, Ordering::Relaxed);
        thread::sleep(linger);
        let mut left = drain;
        while self.open.load(Ordering::Relaxed) > 0 && !left.is_zero() {
            thread::sleep(TICK);
            left = left.saturating_sub(TICK);
        }
    }

    fn start(self: &Arc<Self>, stream: TcpStream) {
        let open = Open::new(self);
        if self.open.load(Ordering::Relaxed) > MOST_CONNECTIONS {
            return;
        }
        // A failed start drops stream and count, which is all there is to do.
        let _ = thread::Builder::new()
            .stack_size(128 * 1024)
            .spawn(move || open.0.converse(&stream));
    }

    /// Answers requests until the client goes, or asks for the end.
    fn converse(&self, stream: &TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(IDLE))?;
        stream.set_write_timeout(Some(IDLE))?;
        let mut reader = BufReader::new(stream);
        while let Some(request) = Request::read(&mut reader)? {
            let close = request.close || self.ending.load(Ordering::Relaxed);
            self.answer(stream, &request, close)?;
            if close || request.path() == "/stream" {
                break;
            }
        }
        Ok(())
    }

    fn answer(&self, mut out: &TcpStream, request: &Request, close: bool) -> std::io::Result<()> {
        match (request.method.as_str(), request.path()) {
            ("GET", "/") => reply(out, "200 OK", &self.identity.line(), close),
            ("GET", "/healthz") => reply(out, "200 OK", "ok\n", close),
            ("GET", "/download") => self.download(out, request, close),
            ("GET", "/stream") => {
                out.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
                loop {
                    out.write_all(self.identity.line().as_bytes())?;
                    thread::sleep(TICK);
                }
            }
            ("GET", _) => reply(out, "404 Not Found", "no such page\n", close),
            _ => reply(out, "405 Method Not Allowed", "only GET\n", close),
        }
    }

    fn download(&self, mut out: &TcpStream, request: &Request, close: bool) -> std::io::Result<()> {
        let mut left = request.number("bytes").unwrap_or(1024);
        let rate = request.number("rate").unwrap_or(1024 * 1024).max(10);
        out.write_all(head("200 OK", left, close).as_bytes())?;
        let line = self.identity.line();
        let mut text = line.bytes().cycle();
        while left > 0 {
            let length = left.min((rate / 10).min(1024 * 1024));
            let part: Vec<u8> = text.by_ref().take(usize::try_from(length).unwrap_or(1)).collect();
            out.write_all(&part)?;
            left -= length;
            thread::sleep(TICK);
        }
        Ok(())
    }
}

/// Counts a connection for as long as it lives.
struct Open(Arc<Server>);

impl Open {
    fn new(server: &Arc<Server>) -> Self {
        server.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(server))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Request {
    method: String,
    target: String,
    close: bool,
}

impl Request {
    /// The next request; none if the client is gone or does not speak HTTP.
    fn read(reader: &mut impl BufRead) -> std::io::Result<Option<Self>> {
        let mut head = reader.take(LONGEST_HEAD);
        let mut line = String::new();
        head.read_line(&mut line)?;
        let mut words = line.split_whitespace();
        let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
            return Ok(None);
        };
        let mut request = Self {
            method: method.to_owned(),
            target: target.to_owned(),
            close: version == "HTTP/1.0",
        };
        loop {
            let mut header = String::new();
            if head.read_line(&mut header)? == 0 {
                return Ok(None);
            }
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                return Ok(Some(request));
            }
            if let Some(value) = header.strip_prefix("connection:") {
                request.close = value.trim() == "close" || (request.close && value.trim() != "keep-alive");
            }
        }
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    fn number(&self, key: &str) -> Option<u64> {
        let query = self.target.split_once('?')?.1;
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
    }
}

fn head(status: &str, length: u64, close: bool) -> String {
    let connection = if close { "close" } else { "keep-alive" };
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n")
}

fn reply(mut out: &TcpStream, status: &str, body: &str, close: bool) -> std::io::Result<()> {
    // One write, one packet: what a balancer sees of it stays easy to count.
    out.write_all((head(status, body.len() as u64, close) + body).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::client;
    use std::net::SocketAddr;
    use std::time::Instant;

    fn start() -> (Arc<Server>, SocketAddr) {
        let server = Server::new(Identity {
            pod: "web-1".into(),
            node: "node1".into(),
            ip: "10.0.0.1".into(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = Arc::clone(&server);
        thread::spawn(move || accepting.accept(&listener));
        (server, address)
    }

    #[test]
    fn it_tells_who_answers() {
        let (_, address) = start();
        assert_eq!(
            client::get(address, "/").unwrap(),
            "pod=web-1 node=node1 ip=10.0.0.1\n"
        );
    }

    #[test]
    fn a_connection_is_kept_until_the_client_asks_for_the_end() {
        let (_, address) = start();
        let mut connection = client::Connection::open(address).unwrap();
        for _ in 0..3 {
            assert!(connection.get("/").unwrap().starts_with("pod=web-1"));
        }
        assert!(client::get(address, "/").unwrap().starts_with("pod=web-1"));
    }

    #[test]
    fn a_download_has_its_length_and_takes_its_time() {
        let (_, address) = start();
        let begin = Instant::now();
        assert_eq!(
            client::get(address, "/download?bytes=5000&rate=10000")
                .unwrap()
                .len(),
            5000
        );
        assert!(begin.elapsed() >= Duration::from_millis(400));
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let (_, address) = start();
        let error = client::get(address, "/nothing").unwrap_err();
        assert!(error.to_string().contains("404"), "{error}");
    }

    #[test]
    fn an_ending_server_answers_and_closes() {
        let (server, address) = start();
        server.ending.store(true, Ordering::Relaxed);
        let mut connection = client::Connection::open(address).unwrap();
        assert!(connection.get("/").is_ok());
        assert!(connection.get("/").is_err());
        server.end(Duration::ZERO, Duration::from_secs(5));
        assert_eq!(server.open.load(Ordering::Relaxed), 0);
    }
}
