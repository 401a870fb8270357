//! gRPC's health service (`grpc.health.v1.Health/Check`), which is one small message each way.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use http::header::{CONTENT_TYPE, HeaderMap, TE};
use http::{Method, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Reason;

const PATH: &str = "/grpc.health.v1.Health/Check";
/// The most that an answer may have; it needs 7 bytes.
const REPLY_MAX: usize = 1024;
const HEADERS_MAX: u32 = 16 * 1024;
const SERVING: u64 = 1;
/// The greatest status that gRPC knows is 16; `UNKNOWN` stands for what it does not.
const UNKNOWN: u8 = 2;

/// Asks a server over a connection for a service, or without a name for itself.
pub async fn ask(
    service: &str,
    server: SocketAddr,
    stream: impl AsyncRead + AsyncWrite + Unpin,
) -> Result<(), Reason> {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(HEADERS_MAX)
        .max_header_list_size(HEADERS_MAX)
        .max_concurrent_reset_streams(1);
    let (sender, connection) = builder
        .handshake::<_, Bytes>(stream)
        .await
        .map_err(|error| reason(&error))?;
    tokio::select! {
        answer = exchange(sender, service, server) => answer,
        // It ends only with an error, or when the server hangs up.
        ended = connection => Err(ended.map_or_else(|error| reason(&error), |()| Reason::ConnectionClosed)),
    }
}

async fn exchange(sender: SendRequest<Bytes>, service: &str, server: SocketAddr) -> Result<(), Reason> {
    let mut sender = sender.ready().await.map_err(|error| reason(&error))?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{server}{PATH}"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .body(())
        .map_err(|_| Reason::BadReply)?;
    let (response, mut body) = sender
        .send_request(request, false)
        .map_err(|error| reason(&error))?;
    body.send_data(message(service), true)
        .map_err(|error| reason(&error))?;
    judge(response.await.map_err(|error| reason(&error))?).await
}

async fn judge(response: Response<h2::RecvStream>) -> Result<(), Reason> {
    if response.status() != http::StatusCode::OK {
        return Err(Reason::Status(response.status().as_u16()));
    }
    // An error may come without a body, in the head.
    status(response.headers())?;
    let mut body = response.into_body();
    let mut reply = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(|error| reason(&error))?;
        if reply.len() + data.len() > REPLY_MAX {
            return Err(Reason::ReplyTooLong);
        }
        reply.extend_from_slice(&data);
    }
    if let Some(trailers) = body.trailers().await.map_err(|error| reason(&error))? {
        status(&trailers)?;
    }
    match serving_status(&reply) {
        Some(SERVING) => Ok(()),
        Some(_) => Err(Reason::NotServing),
        None => Err(Reason::BadReply),
    }
}

/// `grpc-status`, where it is there: 0 is good.
fn status(headers: &HeaderMap) -> Result<(), Reason> {
    let Some(value) = headers.get("grpc-status") else {
        return Ok(());
    };
    let number = value.to_str().ok().and_then(|text| text.parse::<u8>().ok());
    match number.filter(|number| *number <= 16).unwrap_or(UNKNOWN) {
        0 => Ok(()),
        number => Err(Reason::GrpcStatus(number)),
    }
}

/// `HealthCheckRequest {service = 1}`, with gRPC's frame: not compressed, and its length.
fn message(service: &str) -> Bytes {
    let mut field = Vec::with_capacity(service.len() + 3);
    if !service.is_empty() {
        field.push(0x0a);
        put_varint(&mut field, service.len() as u64);
        field.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(field.len()).unwrap_or_default();
    let mut message = vec![0];
    message.extend(length.to_be_bytes());
    message.extend(field);
    message.into()
}

/// The number of `HealthCheckResponse {status = 1}` in a framed reply, 0 where it is left out; `None` if it is none.
#[must_use]
pub fn serving_status(reply: &[u8]) -> Option<u64> {
    let (head, message) = reply.split_at_checked(5)?;
    let length = u32::from_be_bytes(head.get(1..)?.try_into().ok()?);
    if head[0] != 0 || usize::try_from(length).ok()? != message.len() {
        return None;
    }
    let mut rest = message;
    let mut found = 0;
    while !rest.is_empty() {
        let (key, after) = varint(rest)?;
        rest = match key & 7 {
            0 => {
                let (value, after) = varint(after)?;
                if key >> 3 == 1 {
                    found = value;
                }
                after
            }
            1 => after.get(8..)?,
            2 => {
                let (length, after) = varint(after)?;
                after.get(usize::try_from(length).ok()?..)?
            }
            5 => after.get(4..)?,
            _ => return None,
        };
    }
    Some(found)
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(u32::try_from(index).ok()? * 7)?;
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap_or_default());
}

fn reason(error: &h2::Error) -> Reason {
    match error.get_io() {
        Some(error) => Reason::of(error),
        None => Reason::BadReply,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_is_written_as_the_standard_says() {
        assert_eq!(&message("")[..], b"\0\0\0\0\0");
        assert_eq!(&message("a.B")[..], b"\0\0\0\0\x05\x0a\x03a.B");
        let long = "x".repeat(200);
        assert!(message(&long).starts_with(b"\0\0\0\0\xcb\x0a\xc8\x01xx"));
    }

    #[test]
    fn the_status_is_found_among_other_fields() {
        assert_eq!(serving_status(b"\0\0\0\0\x02\x08\x01"), Some(1));
        assert_eq!(serving_status(b"\0\0\0\0\x02\x08\x02"), Some(2));
        assert_eq!(serving_status(b"\0\0\0\0\0"), Some(0));
        assert_eq!(serving_status(b"\0\0\0\0\x07\x12\x01x\x18\x05\x08\x01"), Some(1));
        for bad in [
            &b""[..],
            b"\0\0\0\0\x02\x08",
            b"\x01\0\0\0\x02\x08\x01",
            b"\0\0\0\0\x01\x0b",
            b"\0\0\0\0\x02\x12\x09",
        ] {
            assert_eq!(serving_status(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_reply_makes_it_panic(reply in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = serving_status(&reply);
            let length = u8::try_from(reply.len()).expect("short");
            let _ = serving_status(&[&[0, 0, 0, 0, length], &reply[..]].concat());
        }

        #[test]
        fn numbers_are_read_as_they_were_written(value: u64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            prop_assert_eq!(varint(&bytes), Some((value, &[][..])));
        }
    }
}
