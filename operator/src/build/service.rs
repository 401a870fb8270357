//! The Service in front of the agents: a stable address.

use k8s_openapi::api::core::v1::{ClientIPConfig, Service, ServicePort, ServiceSpec, SessionAffinityConfig};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeSet;

use super::Wanted;
use crd::{Persistence, Port, ServiceType};

/// Greatest length of a port's name in Kubernetes.
const NAME_MAX: usize = 63;

/// Selects the agents and keeps the listeners' ports.
pub(super) fn service(wanted: &Wanted<'_>) -> Service {
    let spec = &wanted.lb.spec;
    let exposure = spec.exposure.service.clone().unwrap_or_default();
    // Local keeps the client's address and spares a hop; only nodes with agents take traffic then.
    let outside = exposure.type_ != ServiceType::ClusterIP;
    // Each agent remembers its own clients only, so they have to come back to it.
    let sticky = spec.persistence.as_ref();
    Service {
        metadata: wanted.metadata(),
        spec: Some(ServiceSpec {
            type_: Some(exposure.type_.as_str().to_owned()),
            selector: Some(wanted.selector()),
            ports: Some(ports(&spec.ports)),
            ip_family_policy: Some("PreferDualStack".to_owned()),
            external_traffic_policy: outside.then(|| "Local".to_owned()),
            session_affinity: sticky.map(|_| "ClientIP".to_owned()),
            session_affinity_config: sticky.map(affinity),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn affinity(persistence: &Persistence) -> SessionAffinityConfig {
    SessionAffinityConfig {
        client_ip: Some(ClientIPConfig {
            timeout_seconds: Some(persistence.timeout_seconds),
        }),
    }
}

/// A Service knows no ranges: each number is a port. The API allows 100 in all.
fn ports(ports: &[Port]) -> Vec<ServicePort> {
    let mut names: BTreeSet<String> = ports.iter().map(|port| port.name.clone()).collect();
    let mut all = Vec::new();
    for port in ports {
        let Some(end) = port.end_port else {
            all.push(one(port, port.name.clone(), port.port));
            continue;
        };
        for number in port.port..=end {
            let name = unused(&port.name, number, &names);
            names.insert(name.clone());
            all.push(one(port, name, number));
        }
    }
    all
}

/// A name for one number of a range.
fn unused(range: &str, number: i32, names: &BTreeSet<String>) -> String {
    let mut suffix = format!("-{number}");
    loop {
        let length = range.len().min(NAME_MAX.saturating_sub(suffix.len()));
        let name = format!("{}{suffix}", &range[..length]);
        if !names.contains(&name) {
            return name;
        }
        suffix.insert(0, 'x');
    }
}

fn one(port: &Port, name: String, number: i32) -> ServicePort {
    ServicePort {
        name: Some(name),
        port: number,
        protocol: Some(port.protocol.as_str().to_owned()),
        target_port: Some(IntOrString::Int(number)),
        ..ServicePort::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(of: &[(&str, i32, i32)]) -> Vec<String> {
        let port = |(name, port, end): &(&str, i32, i32)| -> Port {
            let end = (end > port).then_some(end);
            serde_json::from_value(json!({"name": name, "port": port, "endPort": end})).expect("a port")
        };
        let of: Vec<Port> = of.iter().map(port).collect();
        let line = |it: ServicePort| format!("{} {}", it.name.unwrap_or_default(), it.port);
        ports(&of).into_iter().map(line).collect()
    }

    #[test]
    fn each_number_of_a_range_is_a_port() {
        assert_eq!(
            names(&[("http", 80, 0), ("rtp", 100, 102)]),
            ["http 80", "rtp-100 100", "rtp-101 101", "rtp-102 102"]
        );
    }

    #[test]
    fn names_are_unique_and_short_enough() {
        let long = "a".repeat(63);
        let all = names(&[("rtp", 100, 101), ("rtp-101", 7, 0), (&long, 20000, 20001)]);
        assert_eq!(all[1], "rtpx-101 101");
        let only: BTreeSet<&str> = all.iter().filter_map(|it| it.split(' ').next()).collect();
        assert_eq!(only.len(), all.len());
        assert!(only.iter().all(|it| it.len() <= 63), "{only:?}");
    }
}
