//! How it is found out whether a server may take new connections.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Protocol, validate};

/// How it is found out whether a server may take new connections. A server that fails keeps its connections for the
/// drain time and takes no new ones. If all servers of a port fail, all of them stay.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.http) || self.type in ['HTTP', 'HTTPS']")
        .message(validate::HEALTH_HTTP)
        .reason(Reason::FieldValueForbidden)
        .field_path(".http"),
    validation = Rule::new("self.type == 'HTTPS' ? has(self.tls) : !has(self.tls) || self.type == 'GRPC'")
        .message(validate::HEALTH_TLS)
        .field_path(".tls"),
    validation = Rule::new("!has(self.grpc) || self.type == 'GRPC'")
        .message(validate::HEALTH_GRPC)
        .reason(Reason::FieldValueForbidden)
        .field_path(".grpc"),
    validation = Rule::new("(self.type == 'UDP') == has(self.udp)")
        .message(validate::HEALTH_UDP)
        .field_path(".udp"),
    validation = Rule::new("(self.type == 'DNS') == has(self.dns)")
        .message(validate::HEALTH_DNS)
        .field_path(".dns"),
    validation = Rule::new("self.timeoutSeconds <= self.intervalSeconds")
        .message(validate::HEALTH_TIMEOUT)
        .field_path(".timeoutSeconds")
)]
pub struct HealthCheck {
    /// Kind of the check. Readiness: only what Kubernetes says of the pod. The others ask the server itself too, from
    /// every agent. TCP: it takes a connection; HTTP: it answers a GET; HTTPS: the same by TLS; GRPC: its
    /// grpc.health.v1.Health says SERVING; UDP: it answers a datagram; DNS: it knows a name. Defaults to Readiness.
    #[serde(rename = "type", default)]
    pub type_: HealthCheckType,
    /// The request of HTTP and HTTPS. May be present only if type is one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// How TLS is spoken. Present if type is HTTPS; may be present if it is GRPC, which is without TLS else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsCheck>,
    /// The request of GRPC. May be present only if type is GRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcCheck>,
    /// The datagram of UDP. Present if and only if type is UDP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp: Option<UdpCheck>,
    /// The question of DNS. Present if and only if type is DNS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsCheck>,
    /// The servers' port that is asked, 1 to 65535. If absent, the port that traffic goes to; of a range, its first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// Seconds from one question to the next, 1 to 3600, give or take a tenth. Defaults to 5.
    #[serde(default = "default_interval")]
    #[schemars(range(min = 1, max = 3600))]
    pub interval_seconds: i32,
    /// Seconds that a server has for its whole answer, 1 to 60, at most intervalSeconds. Defaults to 2.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 1, max = 60))]
    pub timeout_seconds: i32,
    /// How many good answers in a row let a failing server take new connections again, 1 to 10. Defaults to 2.
    #[serde(default = "default_rise")]
    #[schemars(range(min = 1, max = 10))]
    pub rise: i32,
    /// How many failures in a row let a server take no new connections, 1 to 10. Defaults to 3.
    #[serde(default = "default_fall")]
    #[schemars(range(min = 1, max = 10))]
    pub fall: i32,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            type_: HealthCheckType::default(),
            http: None,
            tls: None,
            grpc: None,
            udp: None,
            dns: None,
            port: None,
            interval_seconds: default_interval(),
            timeout_seconds: default_timeout(),
            rise: default_rise(),
            fall: default_fall(),
        }
    }
}

impl HealthCheck {
    /// Whether the balancer's own check is meant for ports of a protocol that say nothing of their own: it asks the
    /// port that traffic goes to in that port's protocol, or a port that is named.
    #[must_use]
    pub fn is_for(&self, protocol: Protocol) -> bool {
        self.port.is_some()
            || match self.type_ {
                HealthCheckType::Readiness => false,
                HealthCheckType::TCP
                | HealthCheckType::HTTP
                | HealthCheckType::HTTPS
                | HealthCheckType::GRPC => protocol == Protocol::TCP,
                HealthCheckType::UDP => protocol == Protocol::UDP,
                HealthCheckType::DNS => matches!(protocol, Protocol::TCP | Protocol::UDP),
            }
    }
}

/// Kinds of checks.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthCheckType {
    /// What Kubernetes says of the pod.
    #[default]
    Readiness,
    /// A connection.
    TCP,
    /// A GET.
    HTTP,
    /// A GET by TLS.
    HTTPS,
    /// gRPC's own health service.
    GRPC,
    /// A datagram.
    UDP,
    /// A question for a name.
    DNS,
}

/// A GET request.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HttpCheck {
    /// Path, and query if there is one, of at most 1024 printable characters of ASCII. Defaults to "/".
    #[serde(default = "default_path")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[!-~]*$"))]
    pub path: String,
    /// Value of the header Host: a name, and a port if there is one. If absent, the server's address and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 259),
        regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?$")
    )]
    pub host: Option<String>,
    /// Good statuses of the answer, 200 to 599, at most 16. If absent, all from 200 to 399. Redirects are not followed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(range(min = 200, max = 599)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub expected_statuses: Vec<i32>,
}

impl Default for HttpCheck {
    fn default() -> Self {
        Self {
            path: default_path(),
            host: None,
            expected_statuses: Vec::new(),
        }
    }
}

/// How TLS is spoken.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.caBundle) != self.insecureSkipVerify")
        .message(validate::HEALTH_CA)
        .field_path(".caBundle")
)]
pub struct TlsCheck {
    /// Name that the server's certificate must be for, and that the server is told (SNI). If absent, the certificate
    /// must be for the server's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?$")
    )]
    pub server_name: Option<String>,
    /// Certificates in PEM that the server's must be signed by, at most 32768 characters. Present if and only if
    /// insecureSkipVerify is false.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32768), regex(pattern = "-----BEGIN CERTIFICATE-----"))]
    pub ca_bundle: Option<String>,
    /// Whether any certificate is taken, even an expired one. Defaults to false.
    #[serde(default)]
    pub insecure_skip_verify: bool,
}

/// A request to gRPC's health service.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GrpcCheck {
    /// Name of the service that is asked for, at most 253 characters. If absent, the server as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service: Option<String>,
}

/// A datagram and what must come back.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.encoding != 'Hex' || self.request.matches('^([0-9A-Fa-f]{2})+$')")
        .message(validate::HEALTH_HEX)
        .field_path(".request"),
    validation = Rule::new(
        "self.encoding != 'Hex' || !has(self.response) || self.response.matches('^([0-9A-Fa-f]{2})+$')"
    )
    .message(validate::HEALTH_HEX)
    .field_path(".response")
)]
pub struct UdpCheck {
    /// How request and response are written. Text: as they are; Hex: two hexadecimal digits a byte. Defaults to Text.
    #[serde(default)]
    pub encoding: UdpEncoding,
    /// What is sent, at most 512 characters.
    #[schemars(length(min = 1, max = 512))]
    pub request: String,
    /// What the answer must begin with, at most 512 characters. If absent, any answer is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub response: Option<String>,
}

impl UdpCheck {
    /// The bytes of the request; `None` where the object was never validated and is wrong.
    #[must_use]
    pub fn request_bytes(&self) -> Option<Vec<u8>> {
        self.encoding.bytes(&self.request)
    }

    /// The bytes that the answer must begin with.
    #[must_use]
    pub fn response_bytes(&self) -> Option<Vec<u8>> {
        self.encoding.bytes(self.response.as_deref().unwrap_or_default())
    }
}

/// How bytes are written.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UdpEncoding {
    /// As they are.
    #[default]
    Text,
    /// Two hexadecimal digits a byte.
    Hex,
}

impl UdpEncoding {
    fn bytes(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Text => Some(text.as_bytes().to_vec()),
            Self::Hex => {
                let digits: Vec<u8> = text
                    .chars()
                    .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
                    .collect::<Option<_>>()?;
                let (pairs, rest) = digits.as_chunks::<2>();
                rest.is_empty()
                    .then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
            }
        }
    }
}

/// A question for a name.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DnsCheck {
    /// Name that is asked for, at most 253 letters, digits, '-', '_' and '.'. An answer without error that has a
    /// record of it is good.
    #[schemars(
        length(min = 1, max = 253),
        regex(
            pattern = r"^([A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?\.?$"
        )
    )]
    pub name: String,
    /// Type of the record that is asked for. Defaults to A.
    #[serde(rename = "type", default)]
    pub type_: DnsRecordType,
}

/// Types of records.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsRecordType {
    /// An address of IPv4.
    #[default]
    A,
    /// An address of IPv6.
    AAAA,
}

fn default_interval() -> i32 {
    5
}

fn default_timeout() -> i32 {
    2
}

fn default_rise() -> i32 {
    2
}

fn default_fall() -> i32 {
    3
}

fn default_path() -> String {
    "/".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_two_digits_a_byte() {
        assert_eq!(UdpEncoding::Hex.bytes("00fFa0"), Some(vec![0, 255, 160]));
        assert_eq!(UdpEncoding::Text.bytes("00"), Some(vec![48, 48]));
        for wrong in ["0", "0g", "+1", "ä0"] {
            assert_eq!(UdpEncoding::Hex.bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn defaults_are_those_of_the_object() {
        let empty: HealthCheck = serde_json::from_str("{}").expect("all has defaults");
        assert_eq!(empty, HealthCheck::default());
        let http: HttpCheck = serde_json::from_str("{}").expect("all has defaults");
        assert_eq!(http, HttpCheck::default());
    }

    #[test]
    fn udp_follows_readiness_unless_told_otherwise() {
        let check = |text: &str| serde_json::from_str::<HealthCheck>(text).expect("a check");
        for (text, tcp, udp) in [
            ("{}", false, false),
            (r#"{"type": "HTTP"}"#, true, false),
            (r#"{"type": "HTTP", "port": 8081}"#, true, true),
            (r#"{"type": "UDP"}"#, false, true),
            (r#"{"type": "DNS"}"#, true, true),
        ] {
            let check = check(text);
            let found = (check.is_for(Protocol::TCP), check.is_for(Protocol::UDP));
            assert_eq!(found, (tcp, udp), "{text}");
        }
    }
}
