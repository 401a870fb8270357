//! How much is taken, and how long it is remembered.
#![allow(
    clippy::struct_field_names,
    reason = "the API's names of durations end in their unit"
)]

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// How much an agent takes. What is absent is not limited.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// A server takes no new connection while it has so many entries in the agent's table, 1 to 2147483647, and takes some
    /// again below three quarters. Entries are not only open connections: one that has ended counts for
    /// timeouts.tcpFinSeconds more, so short connections reach a limit of 12000 at 100 a second and the default 120 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub entries_per_server: Option<i32>,
    /// So many new connections a second are taken, over all ports, by each agent, 1 to 1000000, after a burst of as many;
    /// those beyond are dropped, and clients try again by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub new_connections_per_second: Option<i32>,
    /// So many new connections a second are taken from one address, or from one /64 of IPv6, by each agent, 1 to 1000000,
    /// after a burst of as many; those beyond are dropped. Behind exposure Service clients may share a node's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub new_connections_per_second_per_source: Option<i32>,
}

/// How long the kernel remembers a connection without packets.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// An established connection of TCP, in seconds, 1 to 432000. After it the next packet is answered by a reset: keep
    /// it above the keep-alive times of clients and servers. Defaults to 900.
    #[serde(default = "default_tcp")]
    #[schemars(range(min = 1, max = 432_000))]
    pub tcp_seconds: i32,
    /// A connection of TCP that has ended, in seconds, 1 to 3600. Meanwhile it counts for limits.entriesPerServer.
    /// Defaults to 120.
    #[serde(default = "default_fin")]
    #[schemars(range(min = 1, max = 3600))]
    pub tcp_fin_seconds: i32,
    /// A flow of UDP, in seconds, 1 to 3600. After it the next datagram may go to another server. Defaults to 300.
    #[serde(default = "default_udp")]
    #[schemars(range(min = 1, max = 3600))]
    pub udp_seconds: i32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_seconds: default_tcp(),
            tcp_fin_seconds: default_fin(),
            udp_seconds: default_udp(),
        }
    }
}

fn default_tcp() -> i32 {
    900
}

fn default_fin() -> i32 {
    120
}

fn default_udp() -> i32 {
    300
}
