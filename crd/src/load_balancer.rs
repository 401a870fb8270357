//! The `PortableLoadBalancer` object: what its user asks for.
//!
//! The documentation of fields is what `kubectl explain` prints, so it speaks to users. There is no conversion
//! webhook: a field added here has the shape it keeps.
#![allow(
    unreachable_pub,
    reason = "kube's derive nests a copy of every type in a function"
)]
#![allow(
    clippy::doc_markdown,
    reason = "users of kubectl see these texts, where backticks would disturb"
)]

mod agent;
mod backends;
mod exposure;
mod forwarding;
mod health;
mod limits;
mod persistence;
mod ports;
mod redundancy;
mod scheduler;
mod steering;

pub use agent::*;
pub use backends::*;
pub use exposure::*;
pub use forwarding::*;
pub use health::*;
pub use limits::*;
pub use persistence::*;
pub use ports::*;
pub use redundancy::*;
pub use scheduler::*;
pub use steering::*;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use std::time::Duration;

use crate::names::DEFAULT_CLASS;
use crate::status::PortableLoadBalancerStatus;
use crate::validate;

/// What the balancer should do.
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
    derive = "PartialEq",
    selectable = ".spec.className",
    doc = "PortableLoadBalancer is a load balancer for TCP, UDP and SCTP that moves with its application: \
           pods that balance by the kernel's IPVS, alike on every cluster.",
    validation = Rule::new("!self.metadata.name.contains('.')")
        .message(validate::NAME)
        .field_path(".metadata.name"),
    validation = Rule::new(
        "self.spec.forwarding.type == 'NAT' || self.spec.exposure.type == 'VirtualIP'"
    )
        .message(validate::FORWARDING_ADDRESS)
        .field_path(".spec.forwarding.type"),
    validation = Rule::new(
        "self.spec.forwarding.type == 'NAT' || self.spec.ports.all(p, !has(p.targetPort))"
    )
        .message(validate::FORWARDING_PORTS)
        .reason(Reason::FieldValueForbidden)
        .field_path(".spec.ports"),
    validation = Rule::new(
        "self.spec.forwarding.type == 'NAT' || self.spec.ports.all(p, p.protocol == 'TCP' \
         || (has(p.healthCheck) ? p.healthCheck.type != 'Readiness' \
         : self.spec.healthCheck.type != 'Readiness' && (has(self.spec.healthCheck.port) \
         || p.protocol == 'UDP' && self.spec.healthCheck.type in ['UDP', 'DNS'])))"
    )
        .message(validate::FORWARDING_CHECKS)
        .field_path(".spec.ports"),
    validation = Rule::new(
        "!has(self.spec.persistence) || self.spec.persistence.scope == 'Port' \
         || self.spec.ports.all(p, !has(p.targetPort))"
    )
        .message(validate::SCOPE_PORTS)
        .reason(Reason::FieldValueForbidden)
        .field_path(".spec.ports"),
    validation = Rule::new(
        "self.spec.backends.type == 'Service' \
         || self.spec.ports.all(p, !has(p.targetPort) || type(p.targetPort) == int)"
    )
        .message(validate::TARGET_NAMES)
        .field_path(".spec.ports"),
    validation = Rule::new(
        "self.spec.scheduler.name != 'ovf' || self.spec.backends.type == 'Endpoints'"
    )
        .message(validate::OVF_WEIGHTS)
        .field_path(".spec.scheduler.name"),
    validation = Rule::new(
        "self.spec.exposure.type != 'Service' \
         || self.spec.ports.map(p, has(p.endPort) ? p.endPort - p.port + 1 : 1).sum() <= 100"
    )
        .message(validate::PORTS_OF_SERVICE)
        .field_path(".spec.ports"),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.className"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.summary.address"),
    printcolumn(name = "Ports", type_ = "string", json_path = ".status.summary.ports"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(
        name = "Backends",
        type_ = "string",
        json_path = ".status.summary.backends",
        description = "Servers that take new connections, of all"
    ),
    printcolumn(
        name = "Agents",
        type_ = "string",
        json_path = ".status.summary.agents",
        description = "Agents that serve this generation, of those wanted"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Scheduler", type_ = "string", json_path = ".spec.scheduler.name", priority = 1),
    printcolumn(name = "Forwarding", type_ = "string", json_path = ".spec.forwarding.type", priority = 1),
    printcolumn(
        name = "Flannel",
        type_ = "string",
        json_path = ".status.network.flannelBackend",
        priority = 1
    ),
    printcolumn(
        name = "Node",
        type_ = "string",
        json_path = ".status.summary.activeNode",
        priority = 1,
        description = "The node that attracts all traffic, where there is one alone"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "self.warmUpSeconds == 0 || !has(self.scheduler) || self.scheduler.name in ['wrr', 'wlc', 'sed', 'nq']"
    )
    .message(validate::WARM_UP_BY_WEIGHT)
    .field_path(".warmUpSeconds")
)]
pub struct PortableLoadBalancerSpec {
    /// Name of the class of balancers, that is of the operator that serves this object.
    /// At most 63 lowercase letters, digits, '-' and '.'. Cannot be changed. Defaults to "portable-lb".
    #[serde(default = "default_class")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
    )]
    #[x_kube(validation = Rule::new("self == oldSelf").message(validate::CLASS_IMMUTABLE))]
    pub class_name: String,

    /// Where the servers come from.
    pub backends: Backends,

    /// The ports that the balancer listens on, 1 to 64. Names are unique, and ports of one protocol do not overlap.
    /// Exposure Service has room for 100 numbers in all, those in ranges included.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(
        merge_strategy = ListMerge::Map(vec!["name".into()]),
        validation = Rule::new(
            "self.all(p, self.exists_one(q, q.protocol == p.protocol && \
             q.port <= (has(p.endPort) ? p.endPort : p.port) && p.port <= (has(q.endPort) ? q.endPort : q.port)))"
        )
        .message(validate::PORTS_UNIQUE)
        .reason(Reason::FieldValueDuplicate)
    )]
    pub ports: Vec<Port>,

    /// How a server is chosen for a new connection. Defaults to wlc.
    #[serde(default)]
    pub scheduler: Scheduler,

    /// How packets reach the servers. Defaults to NAT.
    #[serde(default)]
    pub forwarding: Forwarding,

    /// The pod network, from which MTU and possible kinds of forwarding follow. Auto reads it from the nodes.
    /// HostGW, VXLAN and UDP are flannel's backends; None is another network plugin. Defaults to Auto.
    #[serde(default)]
    pub flannel_backend: FlannelBackend,

    /// Clients that come back to the server they had. Absent: every connection is scheduled anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence: Option<Persistence>,

    /// How much each agent takes. Absent is not limited.
    #[serde(default)]
    pub limits: Limits,

    /// How long connections without packets are remembered. Defaults to 900, 120 and 300 seconds.
    #[serde(default)]
    pub timeouts: Timeouts,

    /// Who may connect: networks such as 192.0.2.0/24 or 2001:db8::/32, at most 64; all others' new connections are
    /// dropped. Empty is everybody. Seen is the address that reaches the agent: behind exposure Service that of a pod or,
    /// where the cluster translates it, of a node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 43)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(range, isCIDR(range))").message(validate::SOURCE_RANGE)
    )]
    pub source_ranges: Vec<String>,

    /// How long a server that goes away keeps its connections, in seconds, 0 to 3600. It takes no new ones meanwhile,
    /// and leaves earlier when its last connection ends. Defaults to 30.
    #[serde(default = "default_drain")]
    #[schemars(range(min = 0, max = 3600))]
    pub drain_timeout_seconds: i32,

    /// How it is found out whether a server may take new connections. TCP, HTTP, HTTPS and GRPC are for ports of TCP,
    /// UDP for those of UDP, DNS for both, and with a port of its own each is for all. The other ports follow Readiness,
    /// unless they have a check of their own. Defaults to Readiness.
    #[serde(default)]
    pub health_check: HealthCheck,

    /// Seconds in which a new server's share of new connections grows to its full size, 0 to 3600. Only with the
    /// schedulers wrr, wlc, sed and nq, which go by weight. Defaults to 0, the full share at once.
    #[serde(default)]
    #[schemars(range(min = 0, max = 3600))]
    pub warm_up_seconds: i32,

    /// How clients reach the balancer. Defaults to a Service of type ClusterIP.
    #[serde(default)]
    pub exposure: Exposure,

    /// How many agents serve, and how they share the work. Defaults to 2 that are all active.
    #[serde(default)]
    pub redundancy: Redundancy,

    /// Which CPUs of a node work on an agent's packets. Defaults to all.
    #[serde(default)]
    pub packet_steering: PacketSteering,

    /// Settings of the agents' pods. What is not here is set by the administrator, for all agents.
    #[serde(default)]
    pub agent: Agent,
}

impl PortableLoadBalancerSpec {
    /// How long a server that goes away keeps its connections.
    #[must_use]
    pub fn drain_timeout(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.drain_timeout_seconds).unwrap_or_default())
    }

    /// How long the share of a new server grows.
    #[must_use]
    pub fn warm_up(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.warm_up_seconds).unwrap_or_default())
    }
}

fn default_class() -> String {
    DEFAULT_CLASS.to_owned()
}

fn default_drain() -> i32 {
    30
}
