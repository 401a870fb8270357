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
        .message(validate::BACKENDS_SERVICE)
        .reason(Reason::FieldValueRequired)
        .field_path(".service"),
    validation = Rule::new("(self.type == 'Endpoints') == has(self.endpoints)")
        .message(validate::BACKENDS_ENDPOINTS)
        .reason(Reason::FieldValueRequired)
        .field_path(".endpoints")
)]
pub struct Backends {
    /// Kind of the source. Service: the endpoints of a Service, which weigh the same. Endpoints: addresses that are
    /// given here, with weights; the administrator must have allowed their networks. Defaults to Service.
    #[serde(rename = "type", default)]
    pub type_: BackendsType,
    /// The Service whose endpoints are the servers. Present if and only if type is Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceBackend>,
    /// The servers' addresses, 1 to 256. Present if and only if type is Endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["address".into()]))]
    pub endpoints: Option<Vec<EndpointBackend>>,
}

/// Kinds of backends.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendsType {
    /// A Service in the object's namespace.
    #[default]
    Service,
    /// Addresses that are given in the object.
    Endpoints,
}

/// A server that is no endpoint of a Service.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EndpointBackend {
    /// The server's IPv4 or IPv6 address. Not loopback, link-local, multicast or unspecified.
    #[schemars(length(max = 45))]
    #[x_kube(validation = Rule::new("isIP(self) && ip(self).isGlobalUnicast()").message(validate::HOST_ADDRESS))]
    pub address: String,
    /// The server's share of new connections beside the others', 0 to 65535; 0 takes none. The schedulers wrr, wlc,
    /// sed, nq, sh, mh, fo, ovf, twos, lblc and lblcr heed it; rr, lc and dh only tell 0 from the rest. Defaults to 1.
    #[serde(default = "default_weight")]
    #[schemars(range(min = 0, max = 65535))]
    pub weight: i32,
}

fn default_weight() -> i32 {
    1
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
