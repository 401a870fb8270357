//! What a server is asked, as the spec says it.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use crd::{HealthCheck, HealthCheckType, PortableLoadBalancerSpec, Protocol};

use super::tally::Limits;
use super::tls::Tls;
use super::{dns, http};

/// One kind of question, and how often it is asked. Two are equal if the spec says the same of both.
#[derive(Clone, Debug)]
pub struct Check {
    /// What it is known by: a hash of what the spec says.
    id: u64,
    /// What is asked.
    pub kind: Kind,
    /// The port that is asked, where it is not the one that traffic goes to.
    pub port: Option<u16>,
    /// Time from one question to the next.
    pub interval: Duration,
    /// Time for the whole answer.
    pub timeout: Duration,
    /// How many answers make a verdict.
    pub limits: Limits,
}

/// What is asked.
#[derive(Clone, Debug)]
pub enum Kind {
    /// To take a connection.
    Tcp,
    /// To answer a GET, by TLS or not.
    Http(http::Request, Option<Tls>),
    /// To say SERVING for the service of this name.
    Grpc(String, Option<Tls>),
    /// To answer this datagram by one that begins so.
    Udp(Vec<u8>, Vec<u8>),
    /// To know a name, over this protocol.
    Dns(dns::Question, Protocol),
}

impl Check {
    /// What the spec says, for a port of a protocol; `None` if that is readiness alone.
    #[must_use]
    pub fn new(spec: &HealthCheck, protocol: Protocol) -> Option<Self> {
        let kind = kind(spec, protocol)?;
        let text = serde_json::to_string(spec).unwrap_or_default();
        let id = crd::names::fnv1a(format!("{protocol} {text}").as_bytes());
        let seconds = |value: i32| Duration::from_secs(u64::try_from(value).unwrap_or_default().max(1));
        let number = |value: i32| u32::try_from(value).unwrap_or_default().max(1);
        Some(Self {
            id,
            kind,
            port: spec.port.and_then(|port| u16::try_from(port).ok()),
            interval: seconds(spec.interval_seconds),
            timeout: seconds(spec.timeout_seconds),
            limits: Limits {
                rise: number(spec.rise),
                fall: number(spec.fall),
            },
        })
    }
}

fn kind(spec: &HealthCheck, protocol: Protocol) -> Option<Kind> {
    let tls = |alpn| spec.tls.as_ref().map(|tls| Tls::new(tls, alpn));
    let request = || http::Request::new(&spec.http.clone().unwrap_or_default());
    match spec.type_ {
        HealthCheckType::Readiness => None,
        HealthCheckType::TCP => Some(Kind::Tcp),
        HealthCheckType::HTTP => Some(Kind::Http(request(), None)),
        HealthCheckType::HTTPS => Some(Kind::Http(request(), Some(tls("http/1.1")?))),
        HealthCheckType::GRPC => {
            let service = spec.grpc.as_ref().and_then(|grpc| grpc.service.clone());
            Some(Kind::Grpc(service.unwrap_or_default(), tls("h2")))
        }
        HealthCheckType::UDP => {
            let udp = spec.udp.as_ref()?;
            Some(Kind::Udp(udp.request_bytes()?, udp.response_bytes()?))
        }
        HealthCheckType::DNS => {
            let question = dns::Question::new(spec.dns.as_ref()?)?;
            Some(Kind::Dns(question, protocol))
        }
    }
}

impl PartialEq for Check {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Check {}

impl PartialOrd for Check {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Check {
    fn cmp(&self, other: &Self) -> Ordering {
        self.id.cmp(&other.id)
    }
}

impl Hash for Check {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// The checks of all ports of a spec, in their order. Made once a spec: CA bundles are long.
#[derive(Clone, Debug, Default)]
pub struct Checks(Vec<Option<Arc<Check>>>);

impl Checks {
    /// Reads a spec.
    #[must_use]
    pub fn new(spec: &PortableLoadBalancerSpec) -> Self {
        let mut common = std::collections::BTreeMap::new();
        let checks = spec.ports.iter().map(|port| match &port.health_check {
            Some(own) => Check::new(own, port.protocol).map(Arc::new),
            None if spec.health_check.is_for(port.protocol) => common
                .entry(port.protocol)
                .or_insert_with(|| Check::new(&spec.health_check, port.protocol).map(Arc::new))
                .clone(),
            None => None,
        });
        Self(checks.collect())
    }

    /// The check of the port at that place in the spec; `None` if readiness alone tells.
    #[must_use]
    pub fn of(&self, port: usize) -> Option<&Arc<Check>> {
        self.0.get(port)?.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(yaml: &str) -> Vec<Option<Kind>> {
        let spec: PortableLoadBalancerSpec = serde_yaml::from_str(yaml).expect("a spec");
        let checks = Checks::new(&spec);
        let kind = |index| checks.of(index).map(|check| check.kind.clone());
        (0..spec.ports.len()).map(kind).collect()
    }

    #[test]
    fn a_ports_own_check_replaces_the_balancers() {
        let found = checks(
            "{backends: {service: {name: web}}, healthCheck: {type: HTTP}, ports: [{name: a, port: 80}, \
             {name: b, port: 81, healthCheck: {type: TCP}}, {name: c, port: 82, healthCheck: {type: Readiness}}, \
             {name: d, port: 53, protocol: UDP}, \
             {name: e, port: 54, protocol: UDP, healthCheck: {type: DNS, dns: {name: a.b}}}]}",
        );
        assert!(matches!(
            found[..],
            [
                Some(Kind::Http(_, None)),
                Some(Kind::Tcp),
                None,
                None,
                Some(Kind::Dns(_, Protocol::UDP))
            ]
        ));
    }

    #[test]
    fn what_the_spec_says_again_is_the_same_check() {
        let check = |text: &str, protocol| {
            Check::new(&serde_yaml::from_str(text).expect("a check"), protocol).expect("not readiness")
        };
        let http = check("{type: HTTP}", Protocol::TCP);
        assert_eq!(http, check("{type: HTTP, intervalSeconds: 5}", Protocol::TCP));
        assert_ne!(http, check("{type: HTTP, intervalSeconds: 6}", Protocol::TCP));
        let dns = "{type: DNS, dns: {name: a.b}}";
        assert_ne!(check(dns, Protocol::TCP), check(dns, Protocol::UDP));
    }
}
