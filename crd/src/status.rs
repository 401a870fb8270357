//! The status of a `PortableLoadBalancer`: what was observed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator and the agents observed. Each agent owns its entry in `agents`, the operator all else.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PortableLoadBalancerStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// See [`crate::condition`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Where clients connect to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// Strings for the columns of `kubectl get`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// The pod network as the agents found it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// One entry an agent, written by that agent alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub agents: Vec<AgentStatus>,
    /// Servers that are not healthy, folded from the agents' exceptions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backends: Vec<BackendStatus>,
}

/// One address that clients connect to.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// `IPAddress` or `Hostname`.
    #[serde(rename = "type")]
    pub type_: AddressType,
    /// The address itself.
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
    pub address: Option<String>,
    /// For example `80/TCP,53/UDP`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<String>,
    /// Healthy and all servers, for example `3/3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backends: Option<String>,
    /// Agents that serve this generation, and those wanted, for example `2/2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agents: Option<String>,
    /// The node of the agent that attracts traffic, where there is one alone.
    #[serde(skip_serializing_if = "Option::is_none")]
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
    pub mtu: Option<i32>,
    /// The forwarding method in use.
    pub forwarding: crate::ForwardingType,
    /// Why these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What one agent says of itself.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// The name of its pod.
    pub name: String,
    /// The node that it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Its address.
    #[serde(rename = "podIP", skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<String>,
    /// Whether it attracts traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<AgentRole>,
    /// The generation that its kernel holds; absent while it holds none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// A hash of its table: equal tables, equal hashes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_hash: Option<String>,
    /// MTU in bytes of its interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<i32>,
    /// How many servers its table holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub servers: Option<ServerCounts>,
    /// Servers that are not healthy, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<ServerException>,
    /// One CamelCase word where the agent cannot serve this generation, for example `KernelModuleMissing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What is wrong and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
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
    pub total: i32,
    /// Those that take new connections.
    pub healthy: i32,
    /// Those that keep their connections and take no new ones.
    pub draining: i32,
}

/// A server that is not healthy, as one agent sees it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct ServerException {
    /// Address, port and protocol, for example `10.244.1.7:8080/TCP`.
    pub server: String,
    /// Its state.
    pub state: ServerState,
    /// Why, for example `NotReady`.
    #[serde(skip_serializing_if = "Option::is_none")]
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

/// A server that is not healthy, as all agents together see it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct BackendStatus {
    /// Address, port and protocol.
    pub server: String,
    /// Its state; `Disagreement` where the agents differ.
    pub state: ServerState,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
