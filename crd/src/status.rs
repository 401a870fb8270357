//! The status of a `PortableLoadBalancer`: what was observed.
//!
//! Writers keep within the bounds by [`shorten`]: a status that is refused tells nobody anything.
#![allow(
    unreachable_pub,
    reason = "kube's derive nests a copy of every type in a function"
)]
#![allow(
    clippy::doc_markdown,
    reason = "users of kubectl see these texts, where backticks would disturb"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Greatest length in characters of an agent's `message`.
pub const MESSAGE_MAX: usize = 1024;
/// Greatest number of exceptions that an agent tells.
pub const EXCEPTIONS_MAX: usize = 16;
/// Greatest number of ended drains that an agent tells.
pub const DRAINS_MAX: usize = 8;
/// Greatest number of networks in `endpointNetworks`.
pub const NETWORKS_MAX: usize = 256;
/// Greatest number of servers that are told in `backends`.
pub const BACKENDS_MAX: usize = 32;

/// What the operator and the agents observed. Each agent owns its entry in `agents`, the operator all else.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PortableLoadBalancerStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// What holds for the balancer: Accepted (the spec is valid), ResolvedRefs (Service and ports exist), AddressAssigned,
    /// Programmed (all agents hold this generation), BackendsAvailable (a server takes connections), Degraded (fewer
    /// agents than wanted), Ready (this generation serves; it stays true without backends).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Where clients connect to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub addresses: Vec<Address>,
    /// Strings for the columns of `kubectl get`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// The pod network as the agents found it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// One entry an agent, written by that agent alone. The operator removes those of vanished pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub agents: Vec<AgentStatus>,
    /// The networks that the administrator allows servers by address in. Agents lead nothing new elsewhere, also not to
    /// servers that were allowed before. Absent where all servers are pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), inner(length(max = 43)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub endpoint_networks: Option<Vec<String>>,
    /// Servers that are not healthy, at most 32, folded from the agents' exceptions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub backends: Vec<BackendStatus>,
}

/// One address that clients connect to.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// Kind of the address, IPAddress or Hostname.
    #[serde(rename = "type")]
    pub type_: AddressType,
    /// The address itself.
    #[schemars(length(min = 1, max = 253))]
    pub value: String,
}

/// Kinds of addresses.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AddressType {
    IPAddress,
    Hostname,
}

/// Strings for the columns of `kubectl get`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The first address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub address: Option<String>,
    /// The ports and their protocols, for example "80/TCP,53/UDP".
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub ports: Option<String>,
    /// Healthy and all servers, for example "3/3".
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub backends: Option<String>,
    /// Agents that serve this generation, and those wanted, for example "2/2".
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub agents: Option<String>,
    /// The node of the agent that attracts traffic, where there is one alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub active_node: Option<String>,
}

/// The pod network.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// The backend in use.
    pub flannel_backend: crate::FlannelBackend,
    /// MTU in bytes of the agents' interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub mtu: Option<i32>,
    /// The forwarding method in use.
    pub forwarding: crate::ForwardingType,
    /// Why these, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
}

/// What one agent says of itself.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// The name of its pod.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The node that it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub node: Option<String>,
    /// Its address.
    #[serde(rename = "podIP", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub pod_ip: Option<String>,
    /// Whether it attracts traffic. Active: it does; Backup: it would, were it needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<AgentRole>,
    /// The generation that its kernel holds; absent while it holds none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// A hash of its table: equal tables, equal hashes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub table_hash: Option<String>,
    /// MTU in bytes of its interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub mtu: Option<i32>,
    /// How many servers its table holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub servers: Option<ServerCounts>,
    /// Servers that are not healthy, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub exceptions: Vec<ServerException>,
    /// The servers that it removed last after they had drained, at most 8, the newest at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub drains: Vec<DrainedServer>,
    /// How many servers it removed after they had drained, since it started: more than `drains` has room for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drained: Option<DrainCounts>,
    /// One CamelCase word where the agent cannot serve this generation, for example KernelModuleMissing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 64),
        regex(pattern = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    )]
    pub reason: Option<String>,
    /// What is wrong and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// What an agent does with traffic.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AgentRole {
    Active,
    Backup,
}

/// Numbers of servers. A server is counted once a port.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServerCounts {
    /// All, draining ones left out.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub total: i32,
    /// Those that take new connections and do not fail their check.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub healthy: i32,
    /// Those that keep their connections and take no new ones.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub draining: i32,
    /// Those that fail their check and take new connections all the same, because all servers of their port fail.
    /// Defaults to 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub panicking: i32,
}

/// A server that is not healthy, as one agent sees it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct ServerException {
    /// Address, port and protocol, for example "10.244.1.7:8080/TCP".
    #[schemars(length(min = 1, max = 64))]
    pub server: String,
    /// Its state. Unhealthy: takes no traffic; Draining: keeps its connections and takes no new ones.
    pub state: ServerState,
    /// Why, one CamelCase word, for example NotReady.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
}

/// States of a server.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum ServerState {
    Healthy,
    Unhealthy,
    Draining,
    Disagreement,
}

/// A server that an agent removed.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct DrainedServer {
    /// Address, port and protocol, for example "10.244.1.7:8080/TCP".
    #[schemars(length(min = 1, max = 64))]
    pub server: String,
    /// How it ended. Finished: its connections had ended; Cut: it still had some when its time was over, and they were
    /// reset; Moved: its UDP flows go on at other servers.
    pub outcome: DrainOutcome,
    /// How many connections were cut or moved.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub connections: i32,
    /// When it was removed.
    pub end_time: Time,
}

/// Servers that drained, by how that ended.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DrainCounts {
    /// Those whose connections had ended.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub finished: i32,
    /// Those that still had connections when their time was over.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub cut: i32,
    /// Those whose UDP flows go on at other servers.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub moved: i32,
}

impl DrainCounts {
    /// The count of an outcome.
    pub fn of(&mut self, outcome: DrainOutcome) -> &mut i32 {
        match outcome {
            DrainOutcome::Finished => &mut self.finished,
            DrainOutcome::Cut => &mut self.cut,
            DrainOutcome::Moved => &mut self.moved,
        }
    }
}

/// Ways in which a drain ends.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum DrainOutcome {
    Finished,
    Cut,
    Moved,
}

/// A server that is not healthy, as all agents together see it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct BackendStatus {
    /// Address, port and protocol, for example "10.244.1.7:8080/TCP".
    #[schemars(length(min = 1, max = 64))]
    pub server: String,
    /// Its state; Disagreement where the agents differ.
    pub state: ServerState,
    /// Why, one CamelCase word.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
}

/// Cuts a text to at most `max` characters, which it shows by its end.
#[must_use]
pub fn shorten(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars()
        .take(max.saturating_sub(1))
        .chain(['…'])
        .take(max)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(shorten("äöü", 3), "äöü");
        assert_eq!(shorten("äöüß", 3), "äö…");
        assert_eq!(shorten("äöüß", 0), "");
    }
}
