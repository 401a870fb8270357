//! What is kept of an `EndpointSlice`, read once when it comes: a large Service has thousands of endpoints, and of the
//! text of each only its address and its state count. Pure, and wary: anybody who may write slices may write anything.

use std::net::IpAddr;

use crd::Protocol;
use crd::target::Target;
use k8s_openapi::api::discovery::v1::{self, EndpointConditions, EndpointPort, EndpointSlice};

use crate::trust::Trust;

/// What a slice tells of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Neither ready nor serving.
    NotReady,
    /// On its way out, but still answering.
    Terminating,
    /// Ready for new connections.
    Ready,
}

/// The servers of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    namespace: Option<String>,
    ports: Vec<Port>,
    /// By address, so that those of many slices are soon in order.
    endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    name: String,
    protocol: String,
    number: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Endpoint {
    address: IpAddr,
    state: State,
    /// Whether it is said to be a pod of the slice's own namespace.
    is_pod: bool,
}

impl Slice {
    /// The servers, as far as they are trusted.
    pub(super) fn servers(&self, trust: &Trust) -> impl Iterator<Item = (IpAddr, State)> {
        let (is_trusted, only_pods) = match trust {
            Trust::All => (true, false),
            Trust::Pods { namespace, .. } => (self.namespace.as_ref() == Some(namespace), true),
        };
        let endpoints = self.endpoints.iter();
        endpoints
            .filter(move |it| is_trusted && (it.is_pod || !only_pods))
            .map(|it| (it.address, it.state))
    }

    /// The number of the servers' port that is meant.
    pub(super) fn port(&self, target: &Target, protocol: Protocol) -> Option<u16> {
        let name = match target {
            Target::Number(number) => return Some(*number),
            Target::Named(name) => name.as_deref().unwrap_or_default(),
        };
        let is_meant = |port: &&Port| port.name == name && port.protocol == protocol.as_str();
        let found = self.ports.iter().find(is_meant)?;
        Some(found.number).filter(|number| *number != 0)
    }
}

impl From<EndpointSlice> for Slice {
    fn from(slice: EndpointSlice) -> Self {
        let namespace = slice.metadata.namespace;
        let endpoint = |endpoint: &v1::Endpoint| {
            Some(Endpoint {
                address: address(endpoint, &slice.address_type)?,
                state: state(endpoint.conditions.as_ref()),
                is_pod: is_pod(endpoint, namespace.as_deref()),
            })
        };
        let mut endpoints: Vec<Endpoint> = slice.endpoints.iter().filter_map(endpoint).collect();
        endpoints.sort_unstable_by_key(|it| it.address);
        Self {
            endpoints,
            ports: slice.ports.into_iter().flatten().map(Port::from).collect(),
            namespace,
        }
    }
}

impl From<EndpointPort> for Port {
    /// A number that is none becomes 0, which is none either.
    fn from(port: EndpointPort) -> Self {
        Self {
            name: port.name.unwrap_or_default(),
            protocol: port.protocol.unwrap_or_else(|| "TCP".to_owned()),
            number: port
                .port
                .and_then(|it| u16::try_from(it).ok())
                .unwrap_or_default(),
        }
    }
}

/// An endpoint's first address; the others are, by the API's definition, the same endpoint.
fn address(endpoint: &v1::Endpoint, address_type: &str) -> Option<IpAddr> {
    let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    let is_of_type = match address {
        IpAddr::V4(_) => address_type == "IPv4",
        IpAddr::V6(_) => address_type == "IPv6",
    };
    (is_of_type && is_routable(address)).then_some(address)
}

/// Refuses what would reach the agent itself, its node or a group of hosts.
pub(super) fn is_routable(address: IpAddr) -> bool {
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        return false;
    }
    match address {
        IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_broadcast() && v4.octets()[0] != 0,
        IpAddr::V6(v6) => !v6.is_unicast_link_local() && v6.to_ipv4_mapped().is_none(),
    }
}

fn is_pod(endpoint: &v1::Endpoint, namespace: Option<&str>) -> bool {
    endpoint.target_ref.as_ref().is_some_and(|target| {
        target.kind.as_deref() == Some("Pod") && target.namespace.as_deref() == namespace
    })
}

/// Absent conditions have the meaning that the API gives them.
pub(super) fn state(conditions: Option<&EndpointConditions>) -> State {
    let ready = conditions.and_then(|it| it.ready).unwrap_or(true);
    let serving = conditions.and_then(|it| it.serving).unwrap_or(ready);
    let terminating = conditions.and_then(|it| it.terminating).unwrap_or(false);
    match (ready, serving, terminating) {
        (true, _, false) => State::Ready,
        (_, true, true) => State::Terminating,
        _ => State::NotReady,
    }
}
