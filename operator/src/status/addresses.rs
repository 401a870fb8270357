//! Where clients connect to, by the way of exposure.

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::ResourceExt;

use super::pods::is_ready;
use super::truth::Finding;
use crate::gather::Observed;
use crd::condition::reason;
use crd::{Address, AddressType, ExposureType, PortableLoadBalancer, ServiceType, names};

/// As many as the status takes.
const MAX: usize = 32;

/// The addresses, or why there are none.
pub(crate) fn addresses(lb: &PortableLoadBalancer, observed: &Observed) -> Result<Vec<Address>, Finding> {
    let (mut found, missing) = match exposed(lb) {
        None if lb.spec.exposure.type_ == ExposureType::VirtualIP => (
            Vec::new(),
            "nobody announces the addresses of spec.exposure.virtualIP",
        ),
        None => (
            pod_addresses(observed),
            "no agent is ready, so there is no pod address yet",
        ),
        Some(ServiceType::NodePort) => (
            node_addresses(observed),
            "no agent is ready, so no node takes traffic yet",
        ),
        Some(ServiceType::ClusterIP) => (
            cluster_addresses(lb, observed),
            "the agents' Service has no address yet",
        ),
        Some(ServiceType::LoadBalancer) => (
            ingress_addresses(lb, observed),
            "the cluster's cloud controller has given the agents' Service no address yet; where there is no such \
             controller, set spec.exposure.service.type to NodePort or ClusterIP",
        ),
    };
    found.truncate(MAX);
    if found.is_empty() {
        Err(Finding::new(reason::ADDRESS_PENDING, missing))
    } else {
        Ok(found)
    }
}

/// The type of the Service in front of the agents, if there should be one.
pub(crate) fn exposed(lb: &PortableLoadBalancer) -> Option<ServiceType> {
    let exposure = &lb.spec.exposure;
    let service = || {
        exposure
            .service
            .as_ref()
            .map(|service| service.type_)
            .unwrap_or_default()
    };
    (exposure.type_ == ExposureType::Service).then(service)
}

/// The Service in front, if it is this balancer's and not one of a namesake that is gone.
pub(crate) fn front<'a>(lb: &PortableLoadBalancer, observed: &'a Observed) -> Option<&'a Service> {
    let service = observed.service.as_deref()?;
    (service.labels().get(names::UID_LABEL) == lb.uid().as_ref()).then_some(service)
}

fn cluster_addresses(lb: &PortableLoadBalancer, observed: &Observed) -> Vec<Address> {
    let spec = front(lb, observed).and_then(|service| service.spec.as_ref());
    let addresses = spec.and_then(|spec| spec.cluster_ips.clone()).unwrap_or_default();
    addresses.into_iter().map(ip).collect()
}

fn ingress_addresses(lb: &PortableLoadBalancer, observed: &Observed) -> Vec<Address> {
    let status = front(lb, observed).and_then(|service| service.status.as_ref());
    let ingress = status.and_then(|status| status.load_balancer.as_ref()?.ingress.clone());
    let address =
        |it: k8s_openapi::api::core::v1::LoadBalancerIngress| it.ip.map(ip).or(it.hostname.map(hostname));
    ingress
        .unwrap_or_default()
        .into_iter()
        .filter_map(address)
        .collect()
}

/// Only nodes with a ready agent take traffic. Addresses that the outside knows come first.
fn node_addresses(observed: &Observed) -> Vec<Address> {
    let runs_agent = |node: &&std::sync::Arc<Node>| {
        let mut pods = observed.pods.iter().filter(|pod| takes_traffic(pod));
        pods.any(|pod| {
            pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == node.metadata.name.as_ref()
        })
    };
    let serving: Vec<_> = observed.nodes.iter().filter(runs_agent).collect();
    let of_type = |type_: &'static str| {
        let all = serving
            .iter()
            .filter_map(|node| node.status.as_ref()?.addresses.as_ref())
            .flatten();
        all.filter(move |it| it.type_ == type_)
            .map(|it| ip(it.address.clone()))
    };
    of_type("ExternalIP").chain(of_type("InternalIP")).collect()
}

fn pod_addresses(observed: &Observed) -> Vec<Address> {
    let ready = observed.pods.iter().filter(|pod| takes_traffic(pod));
    let statuses = ready.filter_map(|pod| pod.status.as_ref()?.pod_ips.as_ref());
    statuses.flatten().map(|it| ip(it.ip.clone())).collect()
}

fn takes_traffic(pod: &Pod) -> bool {
    is_ready(pod) && pod.metadata.deletion_timestamp.is_none()
}

fn ip(value: String) -> Address {
    Address {
        type_: AddressType::IPAddress,
        value,
    }
}

fn hostname(value: String) -> Address {
    Address {
        type_: AddressType::Hostname,
        value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn lb(exposure: &Value) -> PortableLoadBalancer {
        serde_json::from_value(json!({
            "apiVersion": "portablelb.io/v1alpha1", "kind": "PortableLoadBalancer",
            "metadata": {"namespace": "shop", "name": "web", "uid": "u1"},
            "spec": {"backends": {"type": "Service", "service": {"name": "web"}},
                     "ports": [{"name": "http", "port": 80}], "exposure": exposure},
        }))
        .expect("valid")
    }

    fn of_service(type_: &str) -> PortableLoadBalancer {
        lb(&json!({"type": "Service", "service": {"type": type_}}))
    }

    fn observed(uid: &str) -> Observed {
        let service = json!({
            "metadata": {"labels": {"portablelb.io/plb-uid": uid}},
            "spec": {"clusterIPs": ["10.96.0.7", "fd00::7"]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "lb.example.com"}]}},
        });
        let pod = |name: &str, node: &str, ready: &str, ip: &str| {
            json!({
                "metadata": {"name": name}, "spec": {"nodeName": node, "containers": []},
                "status": {"podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": ready}]},
            })
        };
        let node = |name: &str, ip: &str| {
            json!({
                "metadata": {"name": name}, "status": {"addresses": [{"type": "InternalIP", "address": ip}, {"type": "Hostname", "address": name}]},
            })
        };
        let read = |value: Value| serde_json::from_value(value).expect("valid");
        Observed {
            service: Some(Arc::new(serde_json::from_value(service).expect("valid"))),
            pods: vec![
                Arc::new(read(pod("a", "node1", "True", "10.244.1.2"))),
                Arc::new(read(pod("b", "node2", "False", "10.244.2.2"))),
            ],
            nodes: [("node1", "10.98.0.11"), ("node2", "10.98.0.12")]
                .into_iter()
                .map(|(name, ip)| Arc::new(serde_json::from_value(node(name, ip)).expect("valid")))
                .collect(),
            ..Observed::default()
        }
    }

    fn values(lb: &PortableLoadBalancer, uid: &str) -> Vec<String> {
        let found = addresses(lb, &observed(uid)).unwrap_or_default();
        found.into_iter().map(|address| address.value).collect()
    }

    #[test]
    fn each_exposure_has_its_addresses() {
        assert_eq!(values(&of_service("ClusterIP"), "u1"), ["10.96.0.7", "fd00::7"]);
        assert_eq!(values(&of_service("NodePort"), "u1"), ["10.98.0.11"]);
        assert_eq!(
            values(&of_service("LoadBalancer"), "u1"),
            ["192.0.2.1", "lb.example.com"]
        );
        assert_eq!(values(&lb(&json!({"type": "PodIP"})), "u1"), ["10.244.1.2"]);
    }

    #[test]
    fn the_service_of_a_namesake_that_is_gone_has_no_address_for_us() {
        assert!(values(&of_service("ClusterIP"), "u2").is_empty());
    }

    #[test]
    fn a_missing_address_tells_what_to_do() {
        let finding = addresses(&of_service("LoadBalancer"), &Observed::default()).expect_err("no address");
        assert_eq!(finding.reason, reason::ADDRESS_PENDING);
        assert!(finding.message.contains("NodePort"), "{}", finding.message);
    }
}
