//! How clients reach the balancer.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

use crate::validate;

/// How clients reach the agents: `type`, and the member of that name.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.type == 'Service' || !has(self.service)")
        .message(validate::EXPOSURE_MEMBER)
        .reason(Reason::FieldValueForbidden)
        .field_path(".service"),
    validation = Rule::new("(self.type == 'VirtualIP') == has(self.virtualIP)")
        .message(validate::EXPOSURE_VIRTUAL_IP)
        .reason(Reason::FieldValueRequired)
        .field_path(".virtualIP")
)]
pub struct Exposure {
    /// Kind of the way in. Service: a Service in front of the agents, with an address that stays. PodIP: the agents' own
    /// pod addresses, which change with the pods. VirtualIP: addresses of its own, which the network leads to the agents;
    /// without Kubernetes the agent takes them, in a cluster no part of this version can. Defaults to Service.
    #[serde(rename = "type", default)]
    pub type_: ExposureType,
    /// The Service in front of the agents. May be present only if type is Service; absent is one of type ClusterIP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceExposure>,
    /// The balancer's own addresses. Present if and only if type is VirtualIP.
    #[serde(rename = "virtualIP", skip_serializing_if = "Option::is_none")]
    pub virtual_ip: Option<VirtualIP>,
}

impl Exposure {
    /// Type of the Service in front of the agents, where there is one.
    #[must_use]
    pub fn service_type(&self) -> Option<ServiceType> {
        match self.type_ {
            ExposureType::Service => Some(self.service.as_ref().map(|it| it.type_).unwrap_or_default()),
            ExposureType::PodIP | ExposureType::VirtualIP => None,
        }
    }

    /// The balancer's own addresses; none where it has none, or where they were never validated.
    pub fn virtual_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let given = self.virtual_ip.iter().flat_map(|it| &it.addresses);
        given.filter_map(|address| address.parse().ok())
    }
}

/// Ways in.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExposureType {
    /// A Service in front of the agents.
    #[default]
    Service,
    /// The agents' pod addresses.
    PodIP,
    /// Addresses of the balancer's own.
    VirtualIP,
}

/// Addresses of the balancer's own.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct VirtualIP {
    /// The addresses, 1 to 8. Not loopback, link-local, multicast or unspecified.
    #[schemars(length(min = 1, max = 8), inner(length(max = 45)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(a, isIP(a) && ip(a).isGlobalUnicast())").message(validate::HOST_ADDRESS)
    )]
    pub addresses: Vec<String>,
}

/// The Service in front of the agents.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceExposure {
    /// Type of the Service. ClusterIP: reached within the cluster. NodePort: also at a port of every node.
    /// LoadBalancer: also at an address that the cluster's provider gives. Defaults to ClusterIP.
    #[serde(rename = "type", default)]
    pub type_: ServiceType,
}

/// Types of Services.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "Kubernetes' own words")]
pub enum ServiceType {
    #[default]
    ClusterIP,
    NodePort,
    LoadBalancer,
}

impl ServiceType {
    /// The word in the object, which is also that of Services.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}
