//! How many agents there are, and how they share the work.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many agents there are, and how they share the work.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Redundancy {
    /// Number of agents, 1 to 8. Each is a pod, on a node of its own where possible. Defaults to 2.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 8))]
    pub replicas: i32,
    /// How the agents share the work. ActiveActive: all attract traffic, and each schedules the connections that it
    /// sees. Defaults to ActiveActive.
    #[serde(default)]
    pub mode: RedundancyMode,
}

impl Default for Redundancy {
    fn default() -> Self {
        Self {
            replicas: default_replicas(),
            mode: RedundancyMode::default(),
        }
    }
}

/// How agents share the work.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedundancyMode {
    /// All agents attract traffic; each sees its share of the connections.
    #[default]
    ActiveActive,
}

fn default_replicas() -> i32 {
    2
}
