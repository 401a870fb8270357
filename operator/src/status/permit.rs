//! What is valid, and still not to be had here: what the administrator has not allowed, or has not installed.

use std::net::IpAddr;

use super::truth::Finding;
use crate::config::Agents;
use crd::condition::reason;
use crd::{BackendsType, EndpointBackend, ExposureType, NETWORKS_MAX, PortableLoadBalancerSpec};

/// So many addresses are named.
const NAMED: usize = 4;

/// Why a spec can't be served by this installation.
pub(super) fn check(spec: &PortableLoadBalancerSpec, settings: &Agents) -> Result<(), Finding> {
    if spec.exposure.type_ == ExposureType::VirtualIP {
        let message = "spec.exposure.type: VirtualIP needs an announcer, which leads the network's packets to the agents, \
                       and this version has none for clusters: choose Service or PodIP";
        return Err(Finding::new(reason::EXPOSURE_NOT_AVAILABLE, message));
    }
    let endpoints = spec.backends.endpoints.as_deref().unwrap_or_default();
    let is_allowed = |endpoint: &&EndpointBackend| {
        let address: Option<IpAddr> = endpoint.address.parse().ok();
        address.is_some_and(|address| {
            settings
                .allowed_endpoint_cidrs
                .iter()
                .any(|it| it.contains(address))
        })
    };
    let refused: Vec<&str> = endpoints
        .iter()
        .filter(|endpoint| !is_allowed(endpoint))
        .map(|endpoint| endpoint.address.as_str())
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    Err(Finding::new(
        reason::ENDPOINT_NOT_ALLOWED,
        explain(&refused, settings),
    ))
}

/// What agents are told of the networks that servers by address have to be in. Without it they go by what was allowed
/// when they were made.
pub(super) fn networks(spec: &PortableLoadBalancerSpec, settings: &Agents) -> Option<Vec<String>> {
    let networks = &settings.allowed_endpoint_cidrs;
    let is_told = spec.backends.type_ == BackendsType::Endpoints && networks.len() <= NETWORKS_MAX;
    is_told.then(|| networks.iter().map(ToString::to_string).collect())
}

fn explain(refused: &[&str], settings: &Agents) -> String {
    let mut named = refused[..refused.len().min(NAMED)].join(", ");
    if let more @ 1.. = refused.len().saturating_sub(NAMED) {
        named = format!("{named} and {more} more");
    }
    let allowed: Vec<String> = settings
        .allowed_endpoint_cidrs
        .iter()
        .map(ToString::to_string)
        .collect();
    let allowed = if allowed.is_empty() {
        "none are".to_owned()
    } else {
        format!("these are: {}", allowed.join(", "))
    };
    format!(
        "spec.backends.endpoints: {named}: outside the networks that the administrator allows ({allowed}); \
         let the chart's value agents.allowedEndpointCIDRs cover them, or use backends of type Service"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(change: &Value) -> PortableLoadBalancerSpec {
        let mut spec =
            json!({"backends": {"service": {"name": "web"}}, "ports": [{"name": "http", "port": 80}]});
        for (key, value) in change.as_object().expect("a map") {
            spec[key] = value.clone();
        }
        serde_json::from_value(spec).expect("a spec")
    }

    fn endpoints(addresses: &[&str]) -> PortableLoadBalancerSpec {
        let endpoints: Vec<Value> = addresses.iter().map(|it| json!({"address": it})).collect();
        spec(&json!({"backends": {"type": "Endpoints", "endpoints": endpoints}}))
    }

    fn settings(allowed: &[&str]) -> Agents {
        serde_json::from_value(json!({
            "namespace": "agents", "clusterRole": "r", "image": "i", "allowedEndpointCIDRs": allowed,
        }))
        .expect("settings")
    }

    #[test]
    fn addresses_of_ones_own_need_the_administrators_word() {
        let given = endpoints(&["192.0.2.7", "2001:db8::7"]);
        assert_eq!(
            check(&given, &settings(&["192.0.2.0/24", "2001:db8::/32"])),
            Ok(())
        );
        let finding = check(&given, &settings(&["192.0.2.0/24"])).expect_err("not allowed");
        assert_eq!(finding.reason, reason::ENDPOINT_NOT_ALLOWED);
        for word in [": 2001:db8::7:", "192.0.2.0/24", "agents.allowedEndpointCIDRs"] {
            assert!(finding.message.contains(word), "{word} in {}", finding.message);
        }
        let finding = check(&given, &settings(&[])).expect_err("not allowed");
        assert!(finding.message.contains("none are"), "{}", finding.message);
    }

    #[test]
    fn many_addresses_make_no_long_message() {
        let many: Vec<String> = (1..=200).map(|octet| format!("192.0.2.{octet}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let finding = check(&endpoints(&many), &settings(&[])).expect_err("not allowed");
        assert!(
            finding.message.contains("192.0.2.4 and 196 more"),
            "{}",
            finding.message
        );
    }

    #[test]
    fn agents_are_told_of_the_networks_where_servers_are_named() {
        let told = |spec| networks(spec, &settings(&["192.0.2.0/24"]));
        let given = endpoints(&["192.0.2.7"]);
        assert_eq!(told(&given), Some(vec!["192.0.2.0/24".to_owned()]));
        assert_eq!(told(&spec(&json!({}))), None);
        assert_eq!(networks(&given, &settings(&[])), Some(vec![]));
    }

    #[test]
    fn nobody_announces_virtual_addresses() {
        let exposure = json!({"exposure": {"type": "VirtualIP", "virtualIP": {"addresses": ["192.0.2.1"]}}});
        let finding = check(&spec(&exposure), &settings(&[])).expect_err("not to be had");
        assert_eq!(finding.reason, reason::EXPOSURE_NOT_AVAILABLE);
        assert_eq!(check(&spec(&json!({})), &settings(&[])), Ok(()));
    }
}
