//! What users may say of the agents' pods.

use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::KubeSchema;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

use crate::validate;

/// What users may say of the agents' pods. All else is the administrator's.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// Computing resources of each agent. Defaults to what the administrator chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "resources")]
    pub resources: Option<ResourceRequirements>,
    /// Labels that a node must have to run an agent, at most 16. Keys have at most 317 characters, values at most 63.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "node_selector")]
    pub node_selector: BTreeMap<String, String>,
}

fn node_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "type": "string",
            "maxLength": 63,
            "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$",
        },
        "x-kubernetes-map-type": "atomic",
        "x-kubernetes-validations": [{
            "rule": "self.all(key, key.size() >= 1 && key.size() <= 317)",
            "message": validate::NODE_SELECTOR_KEY,
        }],
    })
}

/// Kubernetes' own resources without claims, which need a pod that declares them.
fn resources(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "limits": quantities("Most that an agent may use, by name of the resource: cpu, memory or ephemeral-storage."),
            "requests": quantities("What is reserved for an agent, by name of the resource: cpu, memory or ephemeral-storage. Defaults to the limits."),
        },
    })
}

fn quantities(description: &str) -> Value {
    json!({
        "type": "object",
        "description": description,
        "maxProperties": 3,
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "maxLength": 64,
            "pattern": r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]+)?$",
        },
        "x-kubernetes-validations": [{
            "rule": "self.all(key, key in ['cpu', 'memory', 'ephemeral-storage'])",
            "message": validate::RESOURCE_NAME,
        }],
    })
}
