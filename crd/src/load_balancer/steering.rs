//! Which CPUs work on packets.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which CPUs of a node work on an agent's packets.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PacketSteering {
    /// Receive packet steering of the pod's interface. Auto spreads flows over all CPUs of the node; None leaves it as the
    /// node has it, for nodes whose network card or administrator spreads them already. A change makes the agents' pods
    /// anew. Defaults to Auto.
    #[serde(default)]
    pub rps: Rps,
}

/// Receive packet steering.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rps {
    /// Flows are spread over all CPUs.
    #[default]
    Auto,
    /// As the node has it.
    None,
}
