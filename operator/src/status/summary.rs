//! Strings for the columns of `kubectl get`.

use k8s_openapi::api::core::v1::Service;

use crd::{Address, Port, PortableLoadBalancer, ServerCounts, ServiceType, Summary, shorten};

/// Greatest length of `ports` in characters.
const PORTS_MAX: usize = 1024;

/// What the columns are made of.
pub(crate) struct Columns<'a> {
    pub(crate) lb: &'a PortableLoadBalancer,
    pub(crate) addresses: &'a [Address],
    /// The Service in front and its type, where there is one.
    pub(crate) front: Option<&'a Service>,
    pub(crate) exposed: Option<ServiceType>,
    pub(crate) servers: Option<ServerCounts>,
    /// Nodes of the agents that serve this generation.
    pub(crate) serving: Vec<Option<String>>,
    pub(crate) wanted: usize,
}

pub(crate) fn summary(of: Columns<'_>) -> Summary {
    let ports: Vec<String> = of.lb.spec.ports.iter().map(|port| one(port, &of)).collect();
    let agents = format!("{}/{}", of.serving.len().min(of.wanted), of.wanted);
    Summary {
        address: of.addresses.first().map(|address| address.value.clone()),
        ports: Some(shorten(&ports.join(","), PORTS_MAX)),
        backends: of
            .servers
            .map(|servers| format!("{}/{}", servers.healthy, servers.total)),
        agents: Some(agents),
        active_node: match <[_; 1]>::try_from(of.serving) {
            Ok([node]) => node,
            Err(_) => None,
        },
    }
}

/// `80/TCP`, or `80:30080/TCP` where clients need the node port, as kubectl prints Services.
fn one(port: &Port, of: &Columns<'_>) -> String {
    match node_port(port, of) {
        Some(node_port) => format!("{}:{node_port}/{}", port.port, port.protocol),
        None => format!("{}/{}", port.port, port.protocol),
    }
}

fn node_port(port: &Port, of: &Columns<'_>) -> Option<i32> {
    if of.exposed != Some(ServiceType::NodePort) {
        return None;
    }
    let ports = of.front?.spec.as_ref()?.ports.as_ref()?;
    ports
        .iter()
        .find(|it| it.name.as_ref() == Some(&port.name))?
        .node_port
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lb() -> PortableLoadBalancer {
        serde_json::from_value(json!({
            "apiVersion": "portablelb.io/v1alpha1", "kind": "PortableLoadBalancer",
            "metadata": {"namespace": "shop", "name": "web"},
            "spec": {"backends": {"type": "Service", "service": {"name": "web"}},
                     "ports": [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]},
        }))
        .expect("valid")
    }

    fn parts(lb: &PortableLoadBalancer) -> Columns<'_> {
        Columns {
            lb,
            addresses: &[],
            front: None,
            exposed: Some(ServiceType::ClusterIP),
            servers: Some(ServerCounts {
                total: 3,
                healthy: 2,
                draining: 0,
                panicking: 0,
            }),
            serving: vec![Some("node1".into())],
            wanted: 2,
        }
    }

    #[test]
    fn the_columns_read_like_those_of_services() {
        let lb = lb();
        let summary = summary(parts(&lb));
        assert_eq!(summary.ports.as_deref(), Some("80/TCP,53/UDP"));
        assert_eq!(summary.backends.as_deref(), Some("2/3"));
        assert_eq!(summary.agents.as_deref(), Some("1/2"));
        assert_eq!(summary.active_node.as_deref(), Some("node1"));
    }

    #[test]
    fn node_ports_are_shown_where_clients_need_them() {
        let lb = lb();
        let front: Service = serde_json::from_value(
            json!({"spec": {"ports": [{"name": "http", "port": 80, "nodePort": 30080}]}}),
        )
        .expect("valid");
        let of = |exposed| {
            summary(Columns {
                front: Some(&front),
                exposed,
                ..parts(&lb)
            })
            .ports
        };
        assert_eq!(
            of(Some(ServiceType::NodePort)).as_deref(),
            Some("80:30080/TCP,53/UDP")
        );
        assert_eq!(
            of(Some(ServiceType::LoadBalancer)).as_deref(),
            Some("80/TCP,53/UDP")
        );
    }

    #[test]
    fn two_serving_agents_are_no_active_node() {
        let lb = lb();
        let serving = vec![Some("node1".into()), Some("node2".into())];
        assert_eq!(
            summary(Columns {
                serving,
                ..parts(&lb)
            })
            .active_node,
            None
        );
    }
}
