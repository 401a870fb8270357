//! The pod network as nodes and agents tell it.

use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::sync::Arc;

use crd::{AgentStatus, FlannelBackend, Network, PortableLoadBalancerSpec, shorten};

const BACKEND_TYPE: &str = "flannel.alpha.coreos.com/backend-type";
/// Greatest length of `reason` in characters.
const REASON_MAX: usize = 1024;

/// What flannel wrote on a node. Its udp backend leaves the word empty, see `pkg/backend/udp` of flannel 0.28.
pub(crate) fn flannel_backend(node: &Node) -> Option<&str> {
    let word = node.annotations().get(BACKEND_TYPE)?;
    Some(if word.is_empty() { "udp" } else { word })
}

/// What the spec says, else what the nodes say; the MTU is the smallest that an agent found.
pub(crate) fn network(
    spec: &PortableLoadBalancerSpec,
    nodes: &[Arc<Node>],
    agents: &[&AgentStatus],
) -> Network {
    let (flannel_backend, reason) = match spec.flannel_backend {
        FlannelBackend::Auto => detect(nodes),
        told => (told, "spec.flannelBackend says so".to_owned()),
    };
    Network {
        flannel_backend,
        mtu: agents.iter().filter_map(|agent| agent.mtu).min(),
        forwarding: spec.forwarding.type_,
        reason: Some(shorten(&reason, REASON_MAX)),
    }
}

fn detect(nodes: &[Arc<Node>]) -> (FlannelBackend, String) {
    let mut found: BTreeMap<&str, &str> = BTreeMap::new();
    for node in nodes {
        if let Some(backend) = flannel_backend(node) {
            // One node a backend is enough to look at.
            found
                .entry(backend)
                .or_insert(node.metadata.name.as_deref().unwrap_or_default());
        }
    }
    let mut of_all = found.iter();
    match (of_all.next(), of_all.next()) {
        (None, _) => (
            FlannelBackend::None,
            "no node has flannel's annotation: another network plugin is taken for granted".to_owned(),
        ),
        (Some((backend, _)), None) => (
            known(backend),
            format!("flannel's annotation on the nodes says {backend}"),
        ),
        (Some(_), Some(_)) => {
            let each: Vec<String> = found
                .iter()
                .map(|(backend, node)| format!("{backend} on {node}"))
                .collect();
            let message = format!(
                "flannel's annotations differ: {}; restart flannel on the nodes",
                each.join(", ")
            );
            (FlannelBackend::Auto, message)
        }
    }
}

fn known(backend: &str) -> FlannelBackend {
    match backend {
        "host-gw" => FlannelBackend::HostGW,
        "vxlan" => FlannelBackend::VXLAN,
        "udp" => FlannelBackend::UDP,
        _ => FlannelBackend::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn nodes(backends: &[Option<&str>]) -> Vec<Arc<Node>> {
        let node = |(index, backend): (usize, Option<&str>)| {
            let mut node: Node =
                serde_json::from_value(json!({"metadata": {"name": format!("node{index}")}})).expect("valid");
            if let Some(backend) = backend {
                node.annotations_mut().insert(BACKEND_TYPE.into(), backend.into());
            }
            Arc::new(node)
        };
        backends.iter().copied().enumerate().map(node).collect()
    }

    #[test]
    fn what_all_nodes_say_is_the_backend() {
        let cases = [
            ("host-gw", FlannelBackend::HostGW),
            ("vxlan", FlannelBackend::VXLAN),
            ("udp", FlannelBackend::UDP),
            ("wireguard", FlannelBackend::None),
        ];
        for (word, backend) in cases {
            let (found, reason) = detect(&nodes(&[Some(word), None, Some(word)]));
            assert_eq!(found, backend);
            assert!(reason.contains(word), "{reason}");
        }
    }

    #[test]
    fn flannels_udp_backend_leaves_its_word_empty() {
        assert_eq!(detect(&nodes(&[Some(""), Some("")])).0, FlannelBackend::UDP);
    }

    #[test]
    fn without_annotations_it_is_another_plugin() {
        assert_eq!(detect(&nodes(&[None, None])).0, FlannelBackend::None);
    }

    #[test]
    fn nodes_that_differ_are_named() {
        let (found, reason) = detect(&nodes(&[Some("vxlan"), Some("host-gw")]));
        assert_eq!(found, FlannelBackend::Auto);
        assert!(
            reason.contains("vxlan on node0") && reason.contains("host-gw on node1"),
            "{reason}"
        );
    }
}
