//! Where the servers come from.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::validate;

/// Where the servers come from: `type`, and the member of that name.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(self.type == 'Service') == has(self.service)")
        .message(validate::BACKENDS_MEMBER)
        .reason(Reason::FieldValueRequired)
        .field_path(".service")
)]
pub struct Backends {
    /// Kind of the source. Service: the endpoints of a Service. Defaults to Service.
    #[serde(rename = "type", default)]
    pub type_: BackendsType,
    /// The Service whose endpoints are the servers. Present if and only if type is Service.
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
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceBackend {
    /// Name of a Service in the same namespace. Its EndpointSlices are followed; its own address is not used, so it may
    /// be headless. It need not exist yet.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    )]
    pub name: String,
}
