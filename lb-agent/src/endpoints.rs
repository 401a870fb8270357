//! Reads the servers out of `EndpointSlices`, or out of the object. Pure, and wary: anybody who may write slices may write anything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crd::target::Target;
use crd::{EndpointBackend, Protocol};
use ipnetwork::IpNetwork;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use crate::desired::Inputs;
use crate::table::{Family, Weight};
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

/// A server that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What is told of it.
    pub state: State,
    /// Its weight.
    pub weight: u32,
}

/// Servers that may be used.
pub type Candidates = BTreeMap<SocketAddr, Candidate>;

/// The servers that a port leads to.
#[must_use]
pub fn candidates(inputs: &Inputs<'_>, target: &Target, protocol: Protocol) -> Candidates {
    match (&inputs.spec.backends.endpoints, target) {
        (Some(endpoints), Target::Number(port)) => given(endpoints, inputs.networks, *port),
        (Some(_), Target::Named(_)) => Candidates::new(),
        (None, _) => {
            let slices = inputs.slices.iter().map(AsRef::as_ref);
            of_slices(slices, inputs.trust, target, protocol)
        }
    }
}

/// Those that the object itself names, in the networks that are allowed.
fn given(endpoints: &[EndpointBackend], networks: Option<&[IpNetwork]>, port: u16) -> Candidates {
    let is_allowed =
        |address: IpAddr| networks.is_none_or(|networks| networks.iter().any(|it| it.contains(address)));
    let candidate = |endpoint: &EndpointBackend| {
        let address: IpAddr = endpoint.address.parse().ok()?;
        if !is_routable(address) || !is_allowed(address) {
            return None;
        }
        let weight = u32::try_from(endpoint.weight).ok()?;
        let state = State::Ready;
        Some((SocketAddr::new(address, port), Candidate { state, weight }))
    };
    endpoints.iter().filter_map(candidate).collect()
}

/// Those of all slices, of both families. They weigh the same.
fn of_slices<'a>(
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    trust: &Trust,
    target: &Target,
    protocol: Protocol,
) -> Candidates {
    let mut candidates = Candidates::new();
    for slice in slices {
        let (Some(port), true) = (port(slice, target, protocol), is_trusted_slice(slice, trust)) else {
            continue;
        };
        for endpoint in slice
            .endpoints
            .iter()
            .filter(|endpoint| is_trusted(endpoint, trust))
        {
            let Some(address) = address(endpoint, &slice.address_type) else {
                continue;
            };
            let state = state(endpoint);
            let weight = Weight::NORMAL.0;
            // While an endpoint moves between slices it is in two; the better word counts.
            let known = candidates
                .entry(SocketAddr::new(address, port))
                .or_insert(Candidate { state, weight });
            known.state = state.max(known.state);
        }
    }
    candidates
}

/// Those of a family that take new connections: the ready ones; if there is none, the terminating that still serve.
#[must_use]
pub fn taking(candidates: &Candidates, family: Family) -> BTreeSet<SocketAddr> {
    let of = |wanted: State| -> BTreeSet<SocketAddr> {
        let fits = |(at, it): &(&SocketAddr, &Candidate)| it.state == wanted && Family::of(at.ip()) == family;
        candidates.iter().filter(fits).map(|(at, _)| *at).collect()
    };
    let ready = of(State::Ready);
    if ready.is_empty() {
        of(State::Terminating)
    } else {
        ready
    }
}

fn is_trusted_slice(slice: &EndpointSlice, trust: &Trust) -> bool {
    match trust {
        Trust::All => true,
        Trust::Pods { namespace, .. } => slice.metadata.namespace.as_ref() == Some(namespace),
    }
}

fn is_trusted(endpoint: &Endpoint, trust: &Trust) -> bool {
    let Trust::Pods { namespace, .. } = trust else {
        return true;
    };
    endpoint.target_ref.as_ref().is_some_and(|target| {
        target.kind.as_deref() == Some("Pod") && target.namespace.as_ref() == Some(namespace)
    })
}

/// An endpoint's first address; the others are, by the API's definition, the same endpoint.
fn address(endpoint: &Endpoint, address_type: &str) -> Option<IpAddr> {
    let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
    let is_of_type = match address {
        IpAddr::V4(_) => address_type == "IPv4",
        IpAddr::V6(_) => address_type == "IPv6",
    };
    (is_of_type && is_routable(address)).then_some(address)
}

/// Refuses what would reach the agent itself, its node or a group of hosts.
fn is_routable(address: IpAddr) -> bool {
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        return false;
    }
    match address {
        IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_broadcast() && v4.octets()[0] != 0,
        IpAddr::V6(v6) => !v6.is_unicast_link_local() && v6.to_ipv4_mapped().is_none(),
    }
}

fn port(slice: &EndpointSlice, target: &Target, protocol: Protocol) -> Option<u16> {
    let name = match target {
        Target::Number(number) => return Some(*number),
        Target::Named(name) => name.as_deref().unwrap_or_default(),
    };
    let found = slice.ports.iter().flatten().find(|port| {
        port.name.as_deref().unwrap_or_default() == name
            && port.protocol.as_deref().unwrap_or("TCP") == protocol.as_str()
    })?;
    u16::try_from(found.port?).ok().filter(|port| *port != 0)
}

/// Absent conditions have the meaning that the API gives them.
fn state(endpoint: &Endpoint) -> State {
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|it| it.ready).unwrap_or(true);
    let serving = conditions.and_then(|it| it.serving).unwrap_or(ready);
    let terminating = conditions.and_then(|it| it.terminating).unwrap_or(false);
    match (ready, serving, terminating) {
        (true, _, false) => State::Ready,
        (_, true, true) => State::Terminating,
        _ => State::NotReady,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ObjectReference;
    use k8s_openapi::api::discovery::v1::{EndpointConditions, EndpointPort};

    /// Ready, serving, terminating.
    type Conditions = (Option<bool>, Option<bool>, Option<bool>);
    const READY: Conditions = (Some(true), Some(true), Some(false));
    const UNREADY: Conditions = (Some(false), Some(false), Some(false));
    const LEAVING: Conditions = (Some(false), Some(true), Some(true));

    fn endpoint(address: &str, (ready, serving, terminating): Conditions) -> Endpoint {
        Endpoint {
            addresses: vec![address.to_owned()],
            conditions: Some(EndpointConditions {
                ready,
                serving,
                terminating,
            }),
            target_ref: Some(ObjectReference {
                kind: Some("Pod".into()),
                namespace: Some("shop".into()),
                ..ObjectReference::default()
            }),
            ..Endpoint::default()
        }
    }

    pub(crate) fn slice(address_type: &str, port: i32, endpoints: Vec<Endpoint>) -> EndpointSlice {
        let mut slice = EndpointSlice {
            address_type: address_type.to_owned(),
            endpoints,
            ports: Some(vec![EndpointPort {
                name: Some("http".into()),
                port: Some(port),
                protocol: Some("TCP".into()),
                ..EndpointPort::default()
            }]),
            ..EndpointSlice::default()
        };
        slice.metadata.namespace = Some("shop".into());
        slice
    }

    pub(crate) fn ready(addresses: &[&str]) -> Vec<Endpoint> {
        addresses.iter().map(|address| endpoint(address, READY)).collect()
    }

    fn read(slices: &[EndpointSlice]) -> Candidates {
        let target = Target::Named(Some("http".into()));
        of_slices(slices, &Trust::pods("shop"), &target, Protocol::TCP)
    }

    fn addresses(list: &[&str]) -> BTreeSet<SocketAddr> {
        list.iter().map(|it| it.parse().expect("an address")).collect()
    }

    #[test]
    fn all_slices_count_and_each_has_its_own_port_number() {
        let slices = [
            slice("IPv4", 8080, ready(&["10.0.0.1"])),
            slice("IPv4", 9090, ready(&["10.0.0.2"])),
        ];
        let found = taking(&read(&slices), Family::V4);
        assert_eq!(found, addresses(&["10.0.0.1:8080", "10.0.0.2:9090"]));
    }

    #[test]
    fn both_families_are_followed() {
        let slices = [
            slice("IPv4", 80, ready(&["10.0.0.1"])),
            slice("IPv6", 80, ready(&["fd00::1"])),
        ];
        assert_eq!(taking(&read(&slices), Family::V4), addresses(&["10.0.0.1:80"]));
        assert_eq!(taking(&read(&slices), Family::V6), addresses(&["[fd00::1]:80"]));
    }

    #[test]
    fn only_ready_servers_take_connections() {
        let list = vec![
            endpoint("10.0.0.1", READY),
            endpoint("10.0.0.2", LEAVING),
            endpoint("10.0.0.3", UNREADY),
        ];
        assert_eq!(
            taking(&read(&[slice("IPv4", 80, list)]), Family::V4),
            addresses(&["10.0.0.1:80"])
        );
    }

    #[test]
    fn without_a_ready_server_the_terminating_that_serve_take_connections() {
        let list = vec![endpoint("10.0.0.2", LEAVING), endpoint("10.0.0.3", UNREADY)];
        assert_eq!(
            taking(&read(&[slice("IPv4", 80, list)]), Family::V4),
            addresses(&["10.0.0.2:80"])
        );
    }

    #[test]
    fn absent_conditions_mean_ready_and_not_terminating() {
        let mut bare = endpoint("10.0.0.1", READY);
        bare.conditions = None;
        let list = vec![bare, endpoint("10.0.0.2", (None, None, None))];
        assert_eq!(taking(&read(&[slice("IPv4", 80, list)]), Family::V4).len(), 2);
        assert_eq!(
            state(&endpoint("10.0.0.1", (Some(false), None, Some(true)))),
            State::NotReady
        );
    }

    #[test]
    fn a_terminating_server_is_not_ready_whatever_ready_says() {
        // So it is in slices of a Service with publishNotReadyAddresses.
        assert_eq!(
            state(&endpoint("10.0.0.1", (Some(true), Some(true), Some(true)))),
            State::Terminating
        );
    }

    #[test]
    fn only_pods_of_the_namespace_are_taken() {
        let mut node = endpoint("10.0.0.1", READY);
        node.target_ref = None;
        let mut other = endpoint("10.0.0.2", READY);
        other.target_ref.as_mut().expect("given").namespace = Some("else".into());
        let mut foreign = slice("IPv4", 80, ready(&["10.0.0.3"]));
        foreign.metadata.namespace = Some("else".into());
        let slices = [slice("IPv4", 80, vec![node, other]), foreign];
        assert_eq!(read(&slices), Candidates::new());
        let all = of_slices(&slices, &Trust::All, &Target::Number(80), Protocol::TCP);
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn addresses_that_reach_no_pod_are_refused() {
        let v4 = [
            "127.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "web",
            "",
            "fd00::1",
        ];
        let v6 = ["::1", "::", "fe80::1", "ff02::1", "::ffff:10.0.0.1", "10.0.0.1"];
        let fqdn = slice("FQDN", 80, ready(&["web.example.com"]));
        let slices = [slice("IPv4", 80, ready(&v4)), slice("IPv6", 80, ready(&v6)), fqdn];
        assert_eq!(read(&slices), Candidates::new());
    }

    #[test]
    fn only_the_first_address_counts() {
        let mut two = endpoint("10.0.0.1", READY);
        two.addresses.push("10.0.0.2".into());
        let mut none = endpoint("10.0.0.3", READY);
        none.addresses.clear();
        assert_eq!(read(&[slice("IPv4", 80, vec![two, none])]).len(), 1);
    }

    #[test]
    fn an_endpoint_in_two_slices_is_ready_if_one_says_so() {
        let old = slice("IPv4", 80, vec![endpoint("10.0.0.1", UNREADY)]);
        let new = slice("IPv4", 80, ready(&["10.0.0.1"]));
        assert_eq!(taking(&read(&[new, old]), Family::V4).len(), 1);
    }

    #[test]
    fn a_slice_without_the_port_has_no_servers_for_it() {
        for port in [0, -1, 65536] {
            assert_eq!(
                read(&[slice("IPv4", port, ready(&["10.0.0.1"]))]),
                Candidates::new()
            );
        }
        let mut other = slice("IPv4", 80, ready(&["10.0.0.1"]));
        other.ports.as_mut().expect("given")[0].protocol = Some("UDP".into());
        assert_eq!(read(&[other]), Candidates::new());
    }
}
