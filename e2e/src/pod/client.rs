//! An HTTP client that makes a new connection for each request, so that each one is balanced.
#![allow(clippy::disallowed_methods, reason = "threads that pause, and no runtime")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST_LINE: u64 = 8 * 1024;

/// One connection, for requests one after another.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
    is_closing: bool,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::new(stream),
            is_closing: false,
        })
    }

    /// The body of `path`, over a connection that stays.
    pub fn get(&mut self, path: &str) -> Result<String> {
        self.request(path, "keep-alive")?;
        self.body()
    }

    /// Whether the server has said that it closes the connection.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// Asks for `path`; the answer's body is read with [`Read`] afterwards. Returns the body's length.
    pub fn start(&mut self, path: &str) -> Result<u64> {
        self.request(path, "close")?;
        self.head()
    }

    fn request(&mut self, path: &str, connection: &str) -> Result<()> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: {connection}\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes())
    }

    fn head(&mut self) -> Result<u64> {
        let status = self.line()?;
        if status.split_whitespace().nth(1) != Some("200") {
            return Err(Error::new(
                ErrorKind::InvalidData,
                format!("answered {:?}", status.trim()),
            ));
        }
        let mut length = 0;
        loop {
            let header = self.line()?.trim().to_ascii_lowercase();
            if header.is_empty() {
                return Ok(length);
            }
            if let Some(value) = header.strip_prefix("connection:") {
                self.is_closing = value.trim() == "close";
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value
                    .trim()
                    .parse()
                    .map_err(|error| Error::new(ErrorKind::InvalidData, error))?;
            }
        }
    }

    /// One more line of what the server sends.
    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.stream.by_ref().take(LONGEST_LINE).read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(line)
    }

    fn body(&mut self) -> Result<String> {
        let length = self.head()?;
        let mut body = String::new();
        self.stream.by_ref().take(length).read_to_string(&mut body)?;
        if (body.len() as u64) < length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(body)
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        self.stream.read(buffer)
    }
}

/// The body of `path`, over a connection of its own.
pub fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut connection = Connection::open(address)?;
    connection.request(path, "close")?;
    connection.body()
}

/// A client that keeps its connection until the server says that it closes it, as browsers and proxies do.
#[derive(Debug)]
pub struct Keeper {
    address: SocketAddr,
    open: Option<Connection>,
}

impl Keeper {
    /// Connects with the first request.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        Self { address, open: None }
    }

    /// The body of `path`. A request that fails is not tried again.
    pub fn get(&mut self, path: &str) -> Result<String> {
        let mut connection = match self.open.take() {
            Some(connection) => connection,
            None => Connection::open(self.address)?,
        };
        let body = connection.get(path)?;
        self.open = Some(connection).filter(|connection| !connection.is_closing());
        Ok(body)
    }
}

/// What many requests came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers, by the line that was answered.
    pub answers: BTreeMap<String, usize>,
    /// Failed requests, as text.
    pub failures: Vec<String>,
    /// The longest time from one answer to the next.
    pub longest_gap: Duration,
    last: Option<Instant>,
}

impl Tally {
    /// Counts one request. Only the first failures are kept as text, so that a long run stays small.
    pub fn count(&mut self, outcome: Result<String>) {
        match outcome {
            Ok(body) => {
                *self.answers.entry(body.trim().to_owned()).or_default() += 1;
                let now = Instant::now();
                let gap = self.last.replace(now).map(|last| now.duration_since(last));
                self.longest_gap = self.longest_gap.max(gap.unwrap_or_default());
            }
            Err(error) => self.failures.push(error.to_string()),
        }
    }

    /// All requests that were answered.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.answers.values().sum()
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (line, count) in &self.answers {
            writeln!(out, "{count} {line}")?;
        }
        writeln!(out, "{} failures", self.failures.len())?;
        self.failures
            .iter()
            .take(10)
            .try_for_each(|failure| writeln!(out, "failure: {failure}"))
    }
}

/// Makes `count` requests for an `http://` address, each on a new connection, `interval` apart.
pub fn get_many(url: &str, count: usize, interval: Duration) -> Result<Tally> {
    let (host, path) = split(url)?;
    let address = resolve(&host)?;
    let mut tally = Tally::default();
    for _ in 0..count {
        tally.count(get(address, &path));
        thread::sleep(interval);
    }
    Ok(tally)
}

fn split(url: &str) -> Result<(String, String)> {
    let wrong = || {
        Error::new(
            ErrorKind::InvalidInput,
            format!("{url:?} is not an http:// address"),
        )
    };
    let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host.is_empty() {
        return Err(wrong());
    }
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let host = if has_port {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    Ok((host, format!("/{path}")))
}

fn resolve(host: &str) -> Result<SocketAddr> {
    let none = || Error::new(ErrorKind::NotFound, format!("{host} has no address"));
    host.to_socket_addrs()?.next().ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_host_port_and_path() {
        assert_eq!(
            split("http://web").unwrap(),
            ("web:80".to_owned(), "/".to_owned())
        );
        assert_eq!(
            split("http://10.0.0.1:81/a?b").unwrap(),
            ("10.0.0.1:81".to_owned(), "/a?b".to_owned())
        );
        assert!(split("https://web").is_err());
        assert!(split("http:///").is_err());
    }

    #[test]
    fn a_tally_counts_by_answer() {
        let mut tally = Tally::default();
        tally.count(Ok("a\n".into()));
        tally.count(Ok("a\n".into()));
        tally.count(Err(ErrorKind::TimedOut.into()));
        assert_eq!(tally.answers["a"], 2);
        assert_eq!((tally.answered(), tally.failures.len()), (2, 1));
    }
}
