//! A test of one balancer from inside the cluster: is it ready, and do requests through it succeed.

use kube::{Api, Client};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

use crd::condition::{self, State};
use crd::{PortableLoadBalancer, Protocol};

/// A response's first line fits in this.
const FIRST_LINE: usize = 256;
const POLL: Duration = Duration::from_secs(1);
const PER_REQUEST: Duration = Duration::from_secs(5);

/// Which balancer, and what to ask of it.
#[derive(Clone, Debug, clap::Args)]
pub struct Request {
    /// Namespace of the balancer.
    #[arg(long)]
    pub namespace: String,
    /// Name of the balancer.
    #[arg(long)]
    pub name: String,
    /// Path to request; each response must have status 200.
    #[arg(long, default_value = "/")]
    pub path: String,
    /// How many requests to send.
    #[arg(long, default_value_t = 10)]
    pub requests: u32,
    /// How many seconds all of it may take.
    #[arg(long, default_value_t = 120)]
    pub timeout_seconds: u64,
}

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be read.
    #[error("could not read the balancer")]
    Read(#[source] kube::Error),
    /// It did not become ready.
    #[error("the balancer is not ready: {0}")]
    NotReady(String),
    /// There is nothing to connect to.
    #[error("the balancer has no TCP port with an address")]
    NoTarget,
    /// A request failed.
    #[error("request {number} to {target} failed: {cause}")]
    Failed {
        /// Which one.
        number: u32,
        /// Where it went.
        target: String,
        /// Why.
        cause: String,
    },
}

/// Waits for the balancer and sends the requests, one connection each.
pub async fn run(client: Client, request: &Request) -> Result<(), Error> {
    let deadline = Instant::now() + Duration::from_secs(request.timeout_seconds);
    let api = Api::<PortableLoadBalancer>::namespaced(client, &request.namespace);
    let lb = loop {
        let lb = api.get(&request.name).await.map_err(Error::Read)?;
        let Some(missing) = not_ready(&lb) else { break lb };
        if Instant::now() > deadline {
            return Err(Error::NotReady(missing));
        }
        sleep(POLL).await;
    };
    let (host, port) = target(&lb).ok_or(Error::NoTarget)?;
    let mut number = 1;
    while number <= request.requests {
        let until = deadline.min(Instant::now() + PER_REQUEST);
        let cause = match timeout_at(until, get(&host, port, &request.path)).await {
            Ok(Ok(line)) if is_ok(&line) => {
                number += 1;
                continue;
            }
            Ok(Ok(line)) => format!("the answer was {line:?}"),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        // A node's kube-proxy may learn of a new Service later than its balancer is ready.
        if number == 1 && Instant::now() < deadline {
            sleep(POLL).await;
            continue;
        }
        let target = format!("{host} port {port}");
        return Err(Error::Failed {
            number,
            target,
            cause,
        });
    }
    tracing::info!(host, port, requests = request.requests, "all requests succeeded");
    Ok(())
}

/// Why it isn't ready, in its own words.
fn not_ready(lb: &PortableLoadBalancer) -> Option<String> {
    let Some(status) = &lb.status else {
        return Some("it has no status: does the operator run, and serve its class?".to_owned());
    };
    if status.observed_generation != lb.metadata.generation {
        return Some("the operator has not seen its last change".to_owned());
    }
    match condition::find(&status.conditions, condition::READY) {
        Some(ready) if ready.status == State::True.as_str() => None,
        Some(ready) => Some(format!("{}: {}", ready.reason, ready.message)),
        None => Some("it has no condition Ready".to_owned()),
    }
}

/// The first address, and the first TCP port: the node's where the summary has one.
fn target(lb: &PortableLoadBalancer) -> Option<(String, u16)> {
    let status = lb.status.as_ref()?;
    let host = status.addresses.first()?.value.clone();
    let index = lb
        .spec
        .ports
        .iter()
        .position(|port| port.protocol == Protocol::TCP)?;
    let shown = status.summary.as_ref()?.ports.as_ref()?.split(',').nth(index)?;
    let (ports, _) = shown.split_once('/')?;
    let port = ports.rsplit(':').next()?.parse().ok()?;
    Some((host, port))
}

/// The first line of the answer.
async fn get(host: &str, port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((host, port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut start = Vec::new();
    stream.take(FIRST_LINE as u64).read_to_end(&mut start).await?;
    let text = String::from_utf8_lossy(&start);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn is_ok(line: &str) -> bool {
    let mut words = line.split(' ');
    words.next().is_some_and(|version| version.starts_with("HTTP/1.")) && words.next() == Some("200")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tokio::net::TcpListener;

    fn lb(ports: &str, ready: &str) -> PortableLoadBalancer {
        serde_json::from_value(json!({
            "apiVersion": "portablelb.io/v1alpha1", "kind": "PortableLoadBalancer",
            "metadata": {"namespace": "shop", "name": "web", "generation": 2},
            "spec": {"backends": {"type": "Service", "service": {"name": "web"}},
                     "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "http", "port": 80}]},
            "status": {
                "observedGeneration": 2, "summary": {"ports": ports},
                "addresses": [{"type": "IPAddress", "value": "10.96.0.7"}],
                "conditions": [{"type": "Ready", "status": ready, "reason": "Why", "message": "because",
                                "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            },
        }))
        .expect("valid")
    }

    #[test]
    fn requests_go_to_the_first_tcp_port_as_clients_reach_it() {
        assert_eq!(
            target(&lb("53/UDP,80/TCP", "True")),
            Some(("10.96.0.7".into(), 80))
        );
        assert_eq!(
            target(&lb("53:30053/UDP,80:30080/TCP", "True")),
            Some(("10.96.0.7".into(), 30080))
        );
    }

    #[test]
    fn a_balancer_that_is_not_ready_says_why() {
        assert_eq!(not_ready(&lb("", "True")), None);
        assert_eq!(not_ready(&lb("", "False")), Some("Why: because".into()));
        let mut stale = lb("", "True");
        stale.metadata.generation = Some(3);
        assert!(not_ready(&stale).is_some());
    }

    #[test]
    fn only_status_200_is_fine() {
        assert!(is_ok("HTTP/1.1 200 OK") && is_ok("HTTP/1.0 200"));
        assert!(!is_ok("HTTP/1.1 503 Service Unavailable") && !is_ok("SSH-2.0-x 200") && !is_ok(""));
    }

    #[tokio::test]
    async fn the_first_line_of_the_answer_is_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut request = [0; 512];
            let read = stream.read(&mut request).await.expect("a request");
            assert!(request[..read].starts_with(b"GET /healthz HTTP/1.1\r\n"));
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await
                .expect("a reader");
        });
        let line = timeout_at(Instant::now() + PER_REQUEST, get("127.0.0.1", port, "/healthz")).await;
        assert_eq!(line.expect("in time").expect("an answer"), "HTTP/1.1 200 OK");
    }
}
