//! Servers of all kinds on this machine, which end with the test's runtime.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;

const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

pub(crate) fn listener() -> (TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind(HERE).expect("a free port");
    listener.set_nonblocking(true).expect("a socket can be so");
    let address = listener.local_addr().expect("it is bound");
    (TcpListener::from_std(listener).expect("a runtime"), address)
}

/// A port that nobody listens on: it was just given back.
pub(crate) fn nobody() -> SocketAddr {
    listener().1
}

/// Answers each connection's first bytes in this way.
pub(crate) fn tcp<F, W>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream) -> W + Send + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    let (listener, address) = listener();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// Says the same to everybody who asked something, then ends the connection.
pub(crate) fn says(reply: impl Into<Vec<u8>>) -> SocketAddr {
    let reply = Arc::new(reply.into());
    tcp(move |mut stream| {
        let reply = reply.clone();
        async move {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(&reply).await;
        }
    })
}

/// Takes connections and never says a word.
pub(crate) fn hung() -> SocketAddr {
    tcp(|stream| async move {
        let _stream = stream;
        std::future::pending::<()>().await;
    })
}

/// Says one byte now and then, for ever.
pub(crate) fn drips(text: &'static [u8]) -> SocketAddr {
    tcp(move |mut stream| async move {
        let mut timer = tokio::time::interval(std::time::Duration::from_millis(20));
        for byte in text.iter().cycle() {
            timer.tick().await;
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    })
}

/// Sends the same bytes for ever, as fast as they are taken.
pub(crate) fn floods(text: &'static [u8]) -> SocketAddr {
    tcp(move |mut stream| async move { while stream.write_all(text).await.is_ok() {} })
}

/// Answers each datagram so.
pub(crate) fn udp(answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let socket = std::net::UdpSocket::bind(HERE).expect("a free port");
    socket.set_nonblocking(true).expect("a socket can be so");
    let address = socket.local_addr().expect("it is bound");
    let socket = UdpSocket::from_std(socket).expect("a runtime");
    tokio::spawn(async move {
        let mut request = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut request).await {
            let reply = answer(&request[..length]);
            if !reply.is_empty() {
                let _ = socket.send_to(&reply, from).await;
            }
        }
    });
    address
}

/// How a certificate is.
#[derive(Clone, Copy)]
pub(crate) struct Certificate {
    pub(crate) name: &'static str,
    pub(crate) last_year: i32,
}

/// An authority.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// Makes TLS of what a server speaks.
    pub(crate) fn accept(&self, certificate: Certificate, alpn: &[u8]) -> TlsAcceptor {
        let mut params = CertificateParams::new([certificate.name.to_owned()]).expect("a name");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(certificate.last_year, 12, 31);
        let key = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&key, &self.issuer).expect("signed");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![signed.der().clone()], key)
            .expect("a pair");
        config.alpn_protocols = vec![alpn.to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A web server by TLS that says this.
pub(crate) fn https(acceptor: TlsAcceptor, reply: &'static [u8]) -> SocketAddr {
    tcp(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                return;
            };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(reply).await;
        }
    })
}

/// What a server of gRPC answers: a message, and a status.
#[derive(Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) message: &'static [u8],
    pub(crate) status: &'static str,
}

/// A server of gRPC that answers so if it is asked for this service.
pub(crate) fn grpc(service: &'static [u8], answer: Answer) -> SocketAddr {
    tcp(move |stream| serve_grpc(stream, service, answer))
}

/// The same by TLS.
pub(crate) fn grpcs(acceptor: TlsAcceptor, answer: Answer) -> SocketAddr {
    tcp(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                serve_grpc(stream, b"\0\0\0\0\0", answer).await;
            }
        }
    })
}

async fn serve_grpc<S>(stream: S, service: &'static [u8], answer: Answer)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
        let handle = async move {
            let mut body = request.into_body();
            let asked = body.data().await.expect("a message").expect("whole");
            let response = Response::builder()
                .header("content-type", "application/grpc")
                .body(());
            let mut sender = respond
                .send_response(response.expect("valid"), false)
                .expect("sent");
            let mut trailers = HeaderMap::new();
            let status = if asked == service { answer.status } else { "5" };
            if status == "0" {
                sender
                    .send_data(Bytes::from_static(answer.message), false)
                    .expect("sent");
            }
            trailers.insert("grpc-status", status.parse().expect("a number"));
            sender.send_trailers(trailers).expect("sent");
        };
        tokio::spawn(handle);
    }
}
