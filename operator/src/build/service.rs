//! The Service in front of the agents: a stable address.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Wanted;
use crd::{Port, ServiceType};

/// Selects the agents and keeps the listeners' ports.
pub(super) fn service(wanted: &Wanted<'_>) -> Service {
    let exposure = wanted.lb.spec.exposure.service.clone().unwrap_or_default();
    let type_ = match exposure.type_ {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    // Local keeps the client's address and spares a hop; only nodes with agents take traffic then.
    let outside = exposure.type_ != ServiceType::ClusterIP;
    Service {
        metadata: wanted.metadata(),
        spec: Some(ServiceSpec {
            type_: Some(type_.to_owned()),
            selector: Some(wanted.selector()),
            ports: Some(wanted.lb.spec.ports.iter().map(port).collect()),
            ip_family_policy: Some("PreferDualStack".to_owned()),
            external_traffic_policy: outside.then(|| "Local".to_owned()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(port: &Port) -> ServicePort {
    ServicePort {
        name: Some(port.name.clone()),
        port: port.port,
        protocol: Some(port.protocol.as_str().to_owned()),
        target_port: Some(IntOrString::Int(port.port)),
        ..ServicePort::default()
    }
}
