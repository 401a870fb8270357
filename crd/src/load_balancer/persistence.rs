//! Clients that come back to the server they had.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A client comes back to the server that it had before, while that takes connections.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Persistence {
    /// How long after a client's last connection ended it is remembered, in seconds, 1 to 86400. The kernel counts in
    /// steps of about 60 while connections are open. Defaults to 10800.
    #[serde(default = "default_timeout")]
    #[schemars(range(min = 1, max = 86400))]
    pub timeout_seconds: i32,
    /// IPv4 clients that are equal in so many leading bits count as one, 1 to 32. Behind exposure Service clients may all
    /// come from one node's address, and then are one. Defaults to 32.
    #[serde(rename = "prefixLengthIPv4", default = "default_v4")]
    #[schemars(range(min = 1, max = 32))]
    pub prefix_length_ipv4: i32,
    /// IPv6 clients that are equal in so many leading bits count as one, 1 to 128. Defaults to 128.
    #[serde(rename = "prefixLengthIPv6", default = "default_v6")]
    #[schemars(range(min = 1, max = 128))]
    pub prefix_length_ipv6: i32,
    /// Port: a client has one server for each port or range. All: one server for all ports, as for a pair of HTTP and
    /// HTTPS; then no port may have a targetPort, and servers are reached at the numbers that clients ask for. Defaults to Port.
    #[serde(default)]
    pub scope: PersistenceScope,
}

/// What a client is remembered for.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PersistenceScope {
    /// Each port or range alone.
    #[default]
    Port,
    /// All ports together.
    All,
}

fn default_timeout() -> i32 {
    10800
}

fn default_v4() -> i32 {
    32
}

fn default_v6() -> i32 {
    128
}
