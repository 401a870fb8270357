//! How packets reach the servers.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How packets reach the servers.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Forwarding {
    /// The forwarding method. NAT: addresses are rewritten both ways, so servers see the agent's address, anything can
    /// be a server, and answers pass the balancer. Defaults to NAT.
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

impl FlannelBackend {
    /// The word in the object.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "Auto",
            Self::HostGW => "HostGW",
            Self::VXLAN => "VXLAN",
            Self::UDP => "UDP",
            Self::None => "None",
        }
    }
}
