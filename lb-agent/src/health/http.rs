//! HTTP/1.1: one GET, of whose answer only the status is read.

use std::net::SocketAddr;

use crd::HttpCheck;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::Reason;

/// The most that is read to find the status, which interim answers may come before.
const REPLY_MAX: usize = 16 * 1024;
/// The longest status line.
const LINE_MAX: usize = 1024;

/// A GET.
#[derive(Clone, Debug)]
pub struct Request {
    path: String,
    host: Option<String>,
    /// Good statuses; none: 200 to 399.
    expected: Vec<u16>,
}

impl Request {
    /// As the spec says.
    #[must_use]
    pub fn new(spec: &HttpCheck) -> Self {
        let expected = spec.expected_statuses.iter();
        Self {
            path: spec.path.clone(),
            host: spec.host.clone(),
            expected: expected
                .filter_map(|status| u16::try_from(*status).ok())
                .collect(),
        }
    }

    /// What is sent to a server.
    #[must_use]
    pub fn text(&self, server: SocketAddr) -> String {
        let host = self.host.clone().unwrap_or_else(|| server.to_string());
        format!(
            "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: portable-lb/{}\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            self.path,
            env!("CARGO_PKG_VERSION"),
        )
    }

    fn judge(&self, status: u16) -> Result<(), Reason> {
        let is_good = if self.expected.is_empty() {
            (200..400).contains(&status)
        } else {
            self.expected.contains(&status)
        };
        if is_good {
            Ok(())
        } else {
            Err(Reason::Status(status))
        }
    }
}

/// Asks a server over a connection.
pub async fn ask(
    request: &Request,
    server: SocketAddr,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> Result<(), Reason> {
    let sent = async {
        stream.write_all(request.text(server).as_bytes()).await?;
        stream.flush().await
    };
    sent.await.map_err(|error| Reason::of(&error))?;
    let mut reply = Vec::with_capacity(512);
    let mut chunk = [0; 512];
    loop {
        let length = stream
            .read(&mut chunk)
            .await
            .map_err(|error| Reason::of(&error))?;
        if length == 0 {
            return Err(Reason::ConnectionClosed);
        }
        reply.extend_from_slice(&chunk[..length]);
        if let Some(status) = status(&reply)? {
            return request.judge(status);
        }
        if reply.len() >= REPLY_MAX {
            return Err(Reason::ReplyTooLong);
        }
    }
}

/// The status in the beginning of a reply, over interim answers; `None` if more of it is needed.
pub fn status(reply: &[u8]) -> Result<Option<u16>, Reason> {
    let mut rest = reply;
    loop {
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            let is_hopeless = rest.len() > LINE_MAX || !may_begin(rest);
            return if is_hopeless {
                Err(Reason::BadReply)
            } else {
                Ok(None)
            };
        };
        let status = status_of_line(&rest[..end]).ok_or(Reason::BadReply)?;
        // 101 is an answer to a request that was never made.
        if !(100..200).contains(&status) || status == 101 {
            return Ok(Some(status));
        }
        let Some(next) = end_of_head(rest) else {
            return Ok(None);
        };
        rest = &rest[next..];
    }
}

/// Whether these bytes may be the beginning of a status line.
fn may_begin(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .zip(b"HTTP/1.")
        .all(|(found, wanted)| found == wanted)
}

fn status_of_line(line: &[u8]) -> Option<u16> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let (minor, rest) = rest.split_first()?;
    let rest = rest.strip_prefix(b" ")?;
    let (digits, rest) = rest.split_at_checked(3)?;
    let is_valid = minor.is_ascii_digit()
        && digits.iter().all(u8::is_ascii_digit)
        && (rest.is_empty() || rest.starts_with(b" "));
    let status = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (is_valid && status >= 100).then_some(status)
}

/// Where the head that these bytes begin with ends: after its first empty line.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    let mut after = ends.map(|(at, _)| at + 1);
    after.find_map(|at| {
        let rest = &bytes[at..];
        let empty = [&b"\r\n"[..], b"\n"]
            .into_iter()
            .find(|empty| rest.starts_with(empty))?;
        Some(at + empty.len())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_status_is_read_as_soon_as_its_line_is_there() {
        for (reply, expected) in [
            ("HTTP/1.1 200 OK\r\n", Ok(Some(200))),
            ("HTTP/1.0 503\n", Ok(Some(503))),
            ("HTTP/1.1 204 \r\nX: y", Ok(Some(204))),
            ("HTTP/1.1 200 OK", Ok(None)),
            ("HTT", Ok(None)),
            ("", Ok(None)),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n", Ok(Some(200))),
            ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n", Ok(None)),
            ("HTTP/1.1 101 Switching\r\n", Ok(Some(101))),
            ("SSH-2.0-OpenSSH\r\n", Err(Reason::BadReply)),
            ("\x15\x03\x01", Err(Reason::BadReply)),
            ("HTTP/2 200\r\n", Err(Reason::BadReply)),
            ("HTTP/1.1 20\r\n", Err(Reason::BadReply)),
            ("HTTP/1.1 099 X\r\n", Err(Reason::BadReply)),
            ("HTTP/1.1 2000\r\n", Err(Reason::BadReply)),
            ("HTTP/1.1 +20 X\r\n", Err(Reason::BadReply)),
        ] {
            assert_eq!(status(reply.as_bytes()), expected, "{reply:?}");
        }
        let endless = [b"HTTP/1.1 200 ".as_slice(), &[b'x'; LINE_MAX]].concat();
        assert_eq!(status(&endless), Err(Reason::BadReply));
    }

    #[test]
    fn a_request_names_the_server_unless_told_otherwise() {
        let server = "[fd00::1]:8080".parse().expect("an address");
        let text = Request::new(&HttpCheck::default()).text(server);
        assert!(
            text.starts_with("GET / HTTP/1.1\r\nHost: [fd00::1]:8080\r\n"),
            "{text}"
        );
        assert!(text.ends_with("\r\n\r\n"));
        let spec = HttpCheck {
            path: "/x?y".into(),
            host: Some("web:80".into()),
            ..HttpCheck::default()
        };
        let text = Request::new(&spec).text(server);
        assert!(
            text.starts_with("GET /x?y HTTP/1.1\r\nHost: web:80\r\n"),
            "{text}"
        );
    }

    #[test]
    fn statuses_are_good_as_the_spec_says() {
        let request = |expected_statuses| {
            Request::new(&HttpCheck {
                expected_statuses,
                ..HttpCheck::default()
            })
        };
        let any = request(vec![]);
        assert_eq!((any.judge(200), any.judge(399)), (Ok(()), Ok(())));
        assert_eq!(any.judge(404), Err(Reason::Status(404)));
        let one = request(vec![418]);
        assert_eq!(
            (one.judge(418), one.judge(200)),
            (Ok(()), Err(Reason::Status(200)))
        );
    }

    proptest! {
        #[test]
        fn no_reply_makes_it_panic(reply: Vec<u8>, interim in prop::bool::ANY) {
            let head: &[u8] = if interim { b"HTTP/1.1 100 X\r\n\r\n" } else { b"HTTP/1." };
            let _ = status(&reply);
            let _ = status(&[head, &reply].concat());
        }
    }
}
