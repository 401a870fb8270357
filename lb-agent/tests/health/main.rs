//! Health checks against real servers on this machine, good ones and bad ones.

mod many;
mod servers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crd::Protocol;
use lb_agent::health::probe::{Failure, probe};
use lb_agent::health::{Check, Reason, Target};
use servers::{Answer, Authority, Certificate, drips, floods, hung, nobody, says, tcp, udp};

const GOOD: Certificate = Certificate {
    name: "web.example.com",
    last_year: 4000,
};

/// A check of a port of a protocol, as it stands in an object.
fn check(yaml: &str, protocol: Protocol) -> Arc<Check> {
    let spec: crd::HealthCheck = serde_yaml::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"));
    Arc::new(Check::new(&spec, protocol).expect("not readiness"))
}

async fn ask(yaml: &str, server: SocketAddr) -> Result<(), Reason> {
    ask_by(yaml, Protocol::TCP, server).await
}

async fn ask_by(yaml: &str, protocol: Protocol, server: SocketAddr) -> Result<(), Reason> {
    let since = Instant::now();
    let answer = probe(&Target::direct(server, check(yaml, protocol))).await;
    assert!(since.elapsed() < Duration::from_millis(1900), "it takes too long");
    answer.map_err(|failure| match failure {
        Failure::Server(reason) => reason,
        Failure::Local(error) => panic!("this machine is at fault: {error}"),
    })
}

#[tokio::test]
async fn a_connection_is_taken_or_refused() {
    assert_eq!(ask("{type: TCP}", hung()).await, Ok(()));
    assert_eq!(ask("{type: TCP}", nobody()).await, Err(Reason::ConnectionRefused));
}

#[tokio::test]
async fn a_check_may_have_a_port_of_its_own() {
    let server = hung();
    let other = SocketAddr::new(server.ip(), 1);
    let yaml = format!("{{type: TCP, port: {}}}", server.port());
    assert_eq!(ask(&yaml, other).await, Ok(()));
}

#[tokio::test]
async fn the_status_of_http_tells() {
    let http = "{type: HTTP, http: {path: /healthz}, timeoutSeconds: 1}";
    assert_eq!(
        ask(http, says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")).await,
        Ok(())
    );
    let interim = says("HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 302 Found\r\n\r\n");
    assert_eq!(ask(http, interim).await, Ok(()));
    let busy = says("HTTP/1.1 503 Service Unavailable\r\n\r\n");
    assert_eq!(ask(http, busy).await, Err(Reason::Status(503)));
    let wanted = "{type: HTTP, http: {expectedStatuses: [503]}}";
    assert_eq!(ask(wanted, busy).await, Ok(()));
    assert_eq!(ask(http, nobody()).await, Err(Reason::ConnectionRefused));
}

#[tokio::test]
async fn the_request_is_the_one_in_the_spec() {
    let (sender, mut requests) = tokio::sync::mpsc::channel(1);
    let server = tcp(move |stream| {
        let sender = sender.clone();
        async move {
            let mut request = vec![0; 4096];
            stream.readable().await.expect("a request");
            let length = stream.try_read(&mut request).expect("a request");
            request.truncate(length);
            let _ = sender.send(String::from_utf8(request)).await;
            let _ = stream.try_write(b"HTTP/1.1 200 OK\r\n\r\n");
        }
    });
    let yaml = "{type: HTTP, http: {path: '/ready?x=1', host: 'web:8080'}}";
    assert_eq!(ask(yaml, server).await, Ok(()));
    let request = requests.recv().await.expect("a request").expect("text");
    assert!(
        request.starts_with("GET /ready?x=1 HTTP/1.1\r\nHost: web:8080\r\n"),
        "{request}"
    );
}

#[tokio::test]
async fn servers_that_misbehave_fail_in_time_and_in_little_memory() {
    let http = "{type: HTTP, timeoutSeconds: 1}";
    assert_eq!(ask(http, hung()).await, Err(Reason::Timeout));
    assert_eq!(
        ask(http, drips(b"HTTP/1.1 100 X\r\n\r\n")).await,
        Err(Reason::Timeout)
    );
    assert_eq!(ask(http, floods(&[b'x'; 4096])).await, Err(Reason::BadReply));
    assert_eq!(
        ask(http, floods(b"HTTP/1.1 100 X\r\n\r\n")).await,
        Err(Reason::ReplyTooLong)
    );
    assert_eq!(ask(http, says("")).await, Err(Reason::ConnectionClosed));
    assert_eq!(ask(http, says("SSH-2.0-x\r\n")).await, Err(Reason::BadReply));
    assert_eq!(
        ask("{type: GRPC, timeoutSeconds: 1}", hung()).await,
        Err(Reason::Timeout)
    );
    let tls = "{type: HTTPS, timeoutSeconds: 1, tls: {insecureSkipVerify: true}}";
    assert_eq!(ask(tls, hung()).await, Err(Reason::Timeout));
    assert_eq!(
        ask(tls, says("HTTP/1.1 400 Bad Request\r\n\r\n")).await,
        Err(Reason::TlsFailed)
    );
}

fn https(ca: &str, name: &str) -> String {
    let pem = ca.replace('\n', "\\n");
    format!("{{type: HTTPS, tls: {{serverName: {name}, caBundle: \"{pem}\"}}}}")
}

#[tokio::test]
async fn certificates_are_verified() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let serve = |authority: &Authority, certificate| {
        servers::https(
            authority.accept(certificate, b"http/1.1"),
            b"HTTP/1.1 200 OK\r\n\r\n",
        )
    };
    let good = serve(&ours, GOOD);
    assert_eq!(ask(&https(&ours.pem, GOOD.name), good).await, Ok(()));
    let both = format!("{}{}", theirs.pem, ours.pem);
    assert_eq!(ask(&https(&both, GOOD.name), good).await, Ok(()));
    assert_eq!(
        ask(&https(&ours.pem, "other.example.com"), good).await,
        Err(Reason::TlsWrongName)
    );
    assert_eq!(
        ask(&https(&theirs.pem, GOOD.name), good).await,
        Err(Reason::TlsUntrusted)
    );
    let expired = serve(
        &ours,
        Certificate {
            last_year: 2021,
            ..GOOD
        },
    );
    assert_eq!(
        ask(&https(&ours.pem, GOOD.name), expired).await,
        Err(Reason::TlsExpired)
    );
    let any = "{type: HTTPS, tls: {insecureSkipVerify: true}}";
    assert_eq!(ask(any, expired).await, Ok(()));
    let broken = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    assert_eq!(
        ask(&https(broken, GOOD.name), good).await,
        Err(Reason::CaBundleInvalid)
    );
}

#[tokio::test]
async fn without_a_name_the_certificate_is_for_the_address() {
    let authority = Authority::new();
    let serve = |name| {
        let certificate = Certificate { name, ..GOOD };
        servers::https(
            authority.accept(certificate, b"http/1.1"),
            b"HTTP/1.1 200 OK\r\n\r\n",
        )
    };
    let yaml = https(&authority.pem, "x").replace("serverName: x, ", "");
    assert_eq!(ask(&yaml, serve("127.0.0.1")).await, Ok(()));
    assert_eq!(ask(&yaml, serve("127.0.0.2")).await, Err(Reason::TlsWrongName));
}

#[tokio::test]
async fn grpc_says_whether_it_serves() {
    let answer = |message, status| Answer { message, status };
    let serving = answer(b"\0\0\0\0\x02\x08\x01", "0");
    let any = b"\0\0\0\0\0";
    assert_eq!(ask("{type: GRPC}", servers::grpc(any, serving)).await, Ok(()));
    let cart = servers::grpc(b"\0\0\0\0\x06\x0a\x04Cart", serving);
    assert_eq!(ask("{type: GRPC, grpc: {service: Cart}}", cart).await, Ok(()));
    assert_eq!(ask("{type: GRPC}", cart).await, Err(Reason::GrpcStatus(5)));
    for (message, status, reason) in [
        (&b"\0\0\0\0\x02\x08\x02"[..], "0", Reason::NotServing),
        (b"\0\0\0\0\0", "0", Reason::NotServing),
        (b"\0\0\0\0\x02\x08", "0", Reason::BadReply),
        (b"", "12", Reason::GrpcStatus(12)),
        (b"", "many", Reason::GrpcStatus(2)),
        (&[0; 2000], "0", Reason::ReplyTooLong),
    ] {
        let server = servers::grpc(any, answer(message, status));
        assert_eq!(ask("{type: GRPC}", server).await, Err(reason));
    }
    assert_eq!(
        ask("{type: GRPC}", says("HTTP/1.1 200 OK\r\n\r\n")).await,
        Err(Reason::BadReply)
    );
    let acceptor = Authority::new().accept(GOOD, b"h2");
    let yaml = "{type: GRPC, tls: {insecureSkipVerify: true}}";
    assert_eq!(ask(yaml, servers::grpcs(acceptor, serving)).await, Ok(()));
}

#[tokio::test]
async fn a_datagram_is_answered() {
    let by_udp = async |yaml: &str, server| ask_by(yaml, Protocol::UDP, server).await;
    let echo = udp(<[u8]>::to_vec);
    let udp_check = |rest: &str| format!("{{type: UDP, timeoutSeconds: 1, udp: {{{rest}}}}}");
    assert_eq!(by_udp(&udp_check("request: ping"), echo).await, Ok(()));
    assert_eq!(
        by_udp(&udp_check("request: ping, response: pi"), echo).await,
        Ok(())
    );
    let hex = udp_check("encoding: Hex, request: 'ff00', response: 'FF'");
    assert_eq!(by_udp(&hex, echo).await, Ok(()));
    let other = udp_check("request: ping, response: pong");
    assert_eq!(by_udp(&other, echo).await, Err(Reason::UnexpectedReply));
    let silent = udp(|_| Vec::new());
    assert_eq!(by_udp(&other, silent).await, Err(Reason::Timeout));
    // The kernel answers for a closed port, by ICMP.
    assert_eq!(by_udp(&other, nobody()).await, Err(Reason::ConnectionRefused));
}

#[tokio::test]
async fn a_name_is_known_by_udp_and_tcp() {
    let yaml = "{type: DNS, timeoutSeconds: 1, dns: {name: example.com}}";
    let good = udp(dns_reply);
    assert_eq!(ask_by(yaml, Protocol::UDP, good).await, Ok(()));
    let yaml_v6 = "{type: DNS, dns: {name: example.com, type: AAAA}}";
    assert_eq!(ask_by(yaml_v6, Protocol::UDP, good).await, Err(Reason::NoRecord));
    let garbage = udp(|_| b"garbage, and more than a header of it".to_vec());
    assert_eq!(ask_by(yaml, Protocol::UDP, garbage).await, Err(Reason::BadReply));
    let refused = udp(|question| {
        let mut reply = dns_reply(question);
        reply[3] = 5;
        reply
    });
    assert_eq!(
        ask_by(yaml, Protocol::UDP, refused).await,
        Err(Reason::DnsCode(5))
    );
    let over_tcp = tcp(|mut stream| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut question = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
        stream.read_exact(&mut question).await.expect("a question");
        let reply = dns_reply(&question);
        let length = u16::try_from(reply.len()).expect("short").to_be_bytes();
        stream
            .write_all(&[&length[..], &reply].concat())
            .await
            .expect("sent");
    });
    assert_eq!(ask(yaml, over_tcp).await, Ok(()));
    assert_eq!(ask(yaml, says([0xff; 100])).await, Err(Reason::ReplyTooLong));
    assert_eq!(ask(yaml, says([0, 50, 1])).await, Err(Reason::ConnectionClosed));
}

/// One record of type A.
fn dns_reply(question: &[u8]) -> Vec<u8> {
    let mut reply = question.to_vec();
    reply[2] |= 0x80;
    reply[7] = 1;
    reply.extend(*b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02\x01");
    reply
}
