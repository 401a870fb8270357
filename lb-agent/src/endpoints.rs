//! Finds the servers in slices, or in the object. Pure.

mod slice;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crd::target::Target;
use crd::{EndpointBackend, Protocol};
use ipnetwork::IpNetwork;

use crate::desired::Inputs;
use crate::table::{Family, Weight};
use crate::trust::Trust;
use slice::is_routable;
pub use slice::{Slice, State};

/// A server that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What is told of it.
    pub state: State,
    /// Its weight.
    pub weight: u32,
}

/// Servers that may be used, sorted by address. None is there twice.
pub type Candidates = Vec<(SocketAddr, Candidate)>;

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
    let all: BTreeMap<SocketAddr, Candidate> = endpoints.iter().filter_map(candidate).collect();
    all.into_iter().collect()
}

/// Those of all slices, of both families. They weigh the same.
fn of_slices<'a>(
    slices: impl IntoIterator<Item = &'a Slice>,
    trust: &Trust,
    target: &Target,
    protocol: Protocol,
) -> Candidates {
    let of_slice = |slice: &'a Slice| {
        let port = slice.port(target, protocol).into_iter();
        port.flat_map(|port| {
            let servers = slice.servers(trust);
            servers.map(move |(address, state)| (SocketAddr::new(address, port), state))
        })
    };
    let mut found: Vec<_> = slices.into_iter().flat_map(of_slice).collect();
    // While an endpoint moves between slices it is in two; the better word counts.
    // Each slice is in order already, which a stable sort makes use of.
    found.sort_by_key(|(at, state)| (*at, Reverse(*state)));
    found.dedup_by_key(|(at, _)| *at);
    let weight = Weight::NORMAL.0;
    let candidate = |(at, state)| (at, Candidate { state, weight });
    found.into_iter().map(candidate).collect()
}

/// The state of those of a family that take new connections: ready; if none is, terminating and still serving.
#[must_use]
pub fn taking(candidates: &[(SocketAddr, Candidate)], family: Family) -> State {
    let is_ready =
        |(at, it): &(SocketAddr, Candidate)| it.state == State::Ready && Family::of(at.ip()) == family;
    if candidates.iter().any(is_ready) {
        State::Ready
    } else {
        State::Terminating
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ObjectReference;
    use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
    use std::collections::BTreeSet;

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
        of_slices(&kept(slices), &Trust::pods("shop"), &target, Protocol::TCP)
    }

    /// Those that take new connections.
    fn takers(candidates: &[(SocketAddr, Candidate)], family: Family) -> BTreeSet<SocketAddr> {
        let state = taking(candidates, family);
        let fits = |(at, it): &&(SocketAddr, Candidate)| it.state == state && Family::of(at.ip()) == family;
        candidates.iter().filter(fits).map(|(at, _)| *at).collect()
    }

    fn kept(slices: &[EndpointSlice]) -> Vec<Slice> {
        slices.iter().cloned().map(Slice::from).collect()
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
        let found = takers(&read(&slices), Family::V4);
        assert_eq!(found, addresses(&["10.0.0.1:8080", "10.0.0.2:9090"]));
    }

    #[test]
    fn both_families_are_followed() {
        let slices = [
            slice("IPv4", 80, ready(&["10.0.0.1"])),
            slice("IPv6", 80, ready(&["fd00::1"])),
        ];
        assert_eq!(takers(&read(&slices), Family::V4), addresses(&["10.0.0.1:80"]));
        assert_eq!(takers(&read(&slices), Family::V6), addresses(&["[fd00::1]:80"]));
    }

    #[test]
    fn only_ready_servers_take_connections() {
        let list = vec![
            endpoint("10.0.0.1", READY),
            endpoint("10.0.0.2", LEAVING),
            endpoint("10.0.0.3", UNREADY),
        ];
        assert_eq!(
            takers(&read(&[slice("IPv4", 80, list)]), Family::V4),
            addresses(&["10.0.0.1:80"])
        );
    }

    #[test]
    fn without_a_ready_server_the_terminating_that_serve_take_connections() {
        let list = vec![endpoint("10.0.0.2", LEAVING), endpoint("10.0.0.3", UNREADY)];
        assert_eq!(
            takers(&read(&[slice("IPv4", 80, list)]), Family::V4),
            addresses(&["10.0.0.2:80"])
        );
    }

    #[test]
    fn absent_conditions_mean_ready_and_not_terminating() {
        let mut bare = endpoint("10.0.0.1", READY);
        bare.conditions = None;
        let list = vec![bare, endpoint("10.0.0.2", (None, None, None))];
        assert_eq!(takers(&read(&[slice("IPv4", 80, list)]), Family::V4).len(), 2);
        assert_eq!(
            slice::state(
                endpoint("10.0.0.1", (Some(false), None, Some(true)))
                    .conditions
                    .as_ref()
            ),
            State::NotReady
        );
    }

    #[test]
    fn a_terminating_server_is_not_ready_whatever_ready_says() {
        // So it is in slices of a Service with publishNotReadyAddresses.
        assert_eq!(
            slice::state(
                endpoint("10.0.0.1", (Some(true), Some(true), Some(true)))
                    .conditions
                    .as_ref()
            ),
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
        let all = of_slices(&kept(&slices), &Trust::All, &Target::Number(80), Protocol::TCP);
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
        assert_eq!(takers(&read(&[new, old]), Family::V4).len(), 1);
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
