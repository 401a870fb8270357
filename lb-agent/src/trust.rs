//! Whose addresses may be servers, and which objects an agent of a cluster may serve. Pure.
//!
//! The operator says the same in the object's status. The agent does not rely on it: it follows the object by itself.

use std::net::IpAddr;

use crd::{EndpointBackend, ExposureType, PortableLoadBalancerSpec, PortableLoadBalancerStatus};
use ipnetwork::IpNetwork;

/// Whose addresses are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Users of a cluster wrote the object: others' addresses would make the balancer aim at anything.
    Pods {
        /// Pods of this namespace are servers.
        namespace: String,
        /// Servers that the object names have to be in one of these networks.
        networks: Vec<IpNetwork>,
    },
    /// All: the administrator wrote them into a file.
    All,
}

impl Trust {
    /// Pods of this namespace, and nothing else.
    #[must_use]
    pub fn pods(namespace: impl Into<String>) -> Self {
        Self::Pods {
            namespace: namespace.into(),
            networks: Vec::new(),
        }
    }

    /// The networks that servers by address have to be in now, if the operator tells any. It may allow less than when
    /// the agent was made; that it allows more is not believed.
    #[must_use]
    pub fn networks_now(&self, status: Option<&PortableLoadBalancerStatus>) -> Option<Vec<IpNetwork>> {
        if *self == Self::All {
            return None;
        }
        let networks = status?.endpoint_networks.as_ref()?.iter();
        Some(networks.filter_map(|it| it.parse().ok()).collect())
    }

    /// Why an object that is valid is not served all the same.
    #[must_use]
    pub fn refusal(&self, spec: &PortableLoadBalancerSpec) -> Option<String> {
        let Self::Pods { networks, .. } = self else {
            return None;
        };
        if spec.exposure.type_ == ExposureType::VirtualIP {
            return Some("spec.exposure.type: VirtualIP: nobody would lead its packets to a pod".to_owned());
        }
        let endpoints = spec.backends.endpoints.iter().flatten();
        let is_allowed = |endpoint: &&EndpointBackend| {
            let address: Option<IpAddr> = endpoint.address.parse().ok();
            address.is_some_and(|address| networks.iter().any(|it| it.contains(address)))
        };
        let refused = endpoints
            .filter(|it| !is_allowed(it))
            .map(|it| &it.address)
            .next()?;
        Some(format!(
            "spec.backends.endpoints: {refused}: outside the networks that the administrator allows"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(trust: &Trust, spec: &str) -> Option<String> {
        let text = format!("{{ports: [{{name: http, port: 80}}], {spec}}}");
        trust.refusal(&serde_yaml::from_str(&text).expect("a spec"))
    }

    #[test]
    fn servers_by_address_have_to_be_allowed() {
        const GIVEN: &str =
            "backends: {type: Endpoints, endpoints: [{address: 192.0.2.7}, {address: '2001:db8::7'}]}";
        let allowing = |networks: &[&str]| Trust::Pods {
            namespace: "shop".into(),
            networks: networks.iter().map(|it| it.parse().expect("a network")).collect(),
        };
        assert_eq!(
            refusal(&allowing(&["192.0.2.0/24", "2001:db8::/32"]), GIVEN),
            None
        );
        assert_eq!(refusal(&Trust::All, GIVEN), None);
        let told = refusal(&allowing(&["192.0.2.0/24"]), GIVEN).expect("refused");
        assert!(told.contains("2001:db8::7"), "{told}");
        assert!(refusal(&Trust::pods("shop"), GIVEN).is_some());
    }

    #[test]
    fn a_pod_takes_no_virtual_addresses() {
        const VIRTUAL: &str = "backends: {service: {name: web}}, exposure: {type: VirtualIP, virtualIP: {addresses: [192.0.2.1]}}";
        assert!(refusal(&Trust::pods("shop"), VIRTUAL).is_some());
        assert_eq!(refusal(&Trust::All, VIRTUAL), None);
    }
}
