//! The `PortableLoadBalancer` object: what its user asks for.

use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::status::PortableLoadBalancerStatus;

/// What a `PortableLoadBalancer` should do.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "portablelb.io",
    version = "v1alpha1",
    kind = "PortableLoadBalancer",
    plural = "portableloadbalancers",
    singular = "portableloadbalancer",
    shortname = "plb",
    category = "portablelb",
    namespaced,
    status = "PortableLoadBalancerStatus",
    doc = "PortableLoadBalancer is an L4 load balancer that moves with its application: pods that balance by IPVS."
)]
#[serde(rename_all = "camelCase")]
pub struct PortableLoadBalancerSpec {
    /// Which operator serves this object. Immutable.
    #[serde(default = "default_class")]
    pub class_name: String,
    /// Where the real servers come from.
    pub backends: Backends,
    /// The ports to listen on, 1 to 64.
    pub ports: Vec<Port>,
    /// How a real server is chosen for a new connection.
    #[serde(default)]
    pub scheduler: Scheduler,
    /// How packets reach the real servers.
    #[serde(default)]
    pub forwarding: Forwarding,
    /// The flannel backend of the cluster, or `Auto` to read it from the nodes.
    #[serde(default)]
    pub flannel_backend: FlannelBackend,
    /// How long, in seconds, a server that goes away keeps its connections.
    #[serde(default = "default_drain")]
    pub drain_timeout_seconds: i32,
    /// How clients reach the agents.
    #[serde(default)]
    pub exposure: Exposure,
    /// How many agents there are, and how they share the work.
    #[serde(default)]
    pub redundancy: Redundancy,
    /// What users may say of the agents' pods.
    #[serde(default)]
    pub agent: Agent,
}

/// A union: `type` and the member of that name.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Backends {
    /// The member that is present.
    #[serde(rename = "type", default)]
    pub type_: BackendsType,
    /// The Service whose EndpointSlices are followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceBackend>,
}

/// Kinds of backends.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendsType {
    /// A Service in the object's namespace.
    #[default]
    Service,
}

/// A Service in the object's own namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceBackend {
    /// Its name.
    pub name: String,
}

/// One port that the balancer listens on.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// A name of its own, unique in the object.
    pub name: String,
    /// The port number.
    pub port: i32,
    /// The protocol.
    #[serde(default)]
    pub protocol: Protocol,
    /// The server's port: a number, or the name of a port of the Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_port: Option<k8s_openapi::apimachinery::pkg::util::intstr::IntOrString>,
}

/// Transport protocols.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    #[default]
    TCP,
    /// UDP.
    UDP,
}

impl Protocol {
    /// The word in the object, which is also that of Services and slices.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TCP => "TCP",
            Self::UDP => "UDP",
        }
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The IPVS scheduler.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Scheduler {
    /// Its name.
    #[serde(default)]
    pub name: SchedulerName,
    /// Flags of `sh` and `mh`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<SchedulerFlag>,
}

/// The kernel's schedulers.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum SchedulerName {
    Rr,
    Wrr,
    Lc,
    #[default]
    Wlc,
    Lblc,
    Lblcr,
    Dh,
    Sh,
    Sed,
    Nq,
    Fo,
    Ovf,
    Mh,
    Twos,
}

/// Flags of the hashing schedulers.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedulerFlag {
    /// Hash the client's port too.
    Port,
    /// Choose another server where the hashed one has weight 0.
    Fallback,
}

/// How packets reach the real servers.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Forwarding {
    /// The forwarding method.
    #[serde(rename = "type", default)]
    pub type_: ForwardingType,
}

/// Forwarding methods.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardingType {
    /// Full NAT.
    #[default]
    NAT,
}

/// Flannel's backends.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlannelBackend {
    /// Read it from the nodes.
    #[default]
    Auto,
    /// host-gw.
    HostGW,
    /// vxlan.
    VXLAN,
    /// udp.
    UDP,
    /// Another network plugin.
    None,
}

/// How clients reach the agents: `type` and the member of that name.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Exposure {
    /// The member that is present.
    #[serde(rename = "type", default)]
    pub type_: ExposureType,
    /// Settings of `Service`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceExposure>,
}

/// Ways in.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExposureType {
    /// A Service in front of the agents.
    #[default]
    Service,
    /// The agents' pod addresses.
    PodIP,
}

/// The Service in front of the agents.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceExposure {
    /// Its type.
    #[serde(rename = "type", default)]
    pub type_: ServiceType,
}

/// Types of Services.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ServiceType {
    #[default]
    ClusterIP,
    NodePort,
    LoadBalancer,
}

/// How many agents there are, and how they share the work.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Redundancy {
    /// The number of agents, 1 to 8.
    #[serde(default = "default_replicas")]
    pub replicas: i32,
    /// How they share the work.
    #[serde(default)]
    pub mode: RedundancyMode,
}

/// How agents share the work.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedundancyMode {
    /// All agents attract traffic; each sees its share of the connections.
    #[default]
    ActiveActive,
}

/// What users may say of the agents' pods. All else is the administrator's.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// CPU and memory of the `serve` container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Labels that the agents' nodes must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
}

fn default_class() -> String {
    "portable-lb".to_owned()
}

fn default_drain() -> i32 {
    30
}

fn default_replicas() -> i32 {
    2
}

impl Default for Redundancy {
    fn default() -> Self {
        Self {
            replicas: default_replicas(),
            mode: RedundancyMode::default(),
        }
    }
}
