//! Which listeners a port has, which packets they get, and which port of a server they lead to.

use std::net::IpAddr;

use crd::target::{self, Target, TargetError};
use crd::{
    BackendsType, ExposureType, ForwardingType, PersistenceScope, Port, PortableLoadBalancerSpec, Protocol,
};

use super::Inputs;
use crate::table::{Family, Listener, MarkRule};

/// The first and the last number of a port that can be listened on. The agent's own port must stay reachable for the
/// kubelet, or the agent is never ready.
pub(super) fn span(port: &Port) -> Option<(u16, u16)> {
    let span = (port.number()?, port.last_number()?);
    let is_ours = port.protocol == Protocol::TCP && (span.0..=span.1).contains(&crd::names::ADMIN_PORT);
    (!is_ours).then_some(span)
}

/// The servers' port. IPVS keeps the number that the client asked for where the server's is 0.
pub(super) fn target(
    inputs: &Inputs<'_>,
    port: &Port,
    (first, last): (u16, u16),
) -> Result<Target, TargetError> {
    if first != last || is_one_for_all(inputs.spec) {
        return Ok(Target::Number(0));
    }
    if inputs.spec.forwarding.type_ != ForwardingType::NAT {
        return Ok(Target::Number(first));
    }
    match (
        inputs.spec.backends.type_,
        target::resolve(port, inputs.service_ports)?,
    ) {
        (BackendsType::Endpoints, Target::Named(name)) => Err(TargetError::NoNames(name.unwrap_or_default())),
        (_, target) => Ok(target),
    }
}

/// The listeners of a port, each with the rule that leads packets to it.
pub(super) fn fronts(inputs: &Inputs<'_>, port: &Port, family: Family) -> Vec<(Listener, MarkRule)> {
    let Some((first, last)) = span(port) else {
        return Vec::new();
    };
    let spec = inputs.spec;
    let plain = if is_one_for_all(spec) {
        Listener::all_ports(family)
    } else {
        Listener::marked(family, port.protocol, first)
    };
    // A persistent service of a mark takes no port of a server's: `ip_vs_sched_persist` compares with port 0.
    let by_address = spec.persistence.is_some() && plain.port != 0 && first == last;
    let front = |destination: Option<IpAddr>| {
        let listener = Listener {
            address: destination.filter(|_| by_address),
            ..plain
        };
        let rule = MarkRule {
            protocol: port.protocol,
            first,
            last,
            destination,
            mark: listener.mark(),
        };
        (listener, rule)
    };
    destinations(inputs, family, by_address)
        .into_iter()
        .map(front)
        .collect()
}

/// The addresses that packets must go to; `None` is any.
fn destinations(inputs: &Inputs<'_>, family: Family, by_address: bool) -> Vec<Option<IpAddr>> {
    if inputs.spec.exposure.type_ == ExposureType::VirtualIP {
        return own(inputs.spec, family).map(Some).collect();
    }
    let own: Vec<_> = inputs.addresses.of(family).map(Some).collect();
    if by_address && !own.is_empty() {
        own
    } else {
        vec![None]
    }
}

/// The balancer's own addresses of a family.
pub(super) fn own(spec: &PortableLoadBalancerSpec, family: Family) -> impl Iterator<Item = IpAddr> {
    let exposure = Some(&spec.exposure).filter(|it| it.type_ == ExposureType::VirtualIP);
    let addresses = exposure.into_iter().flat_map(crd::Exposure::virtual_addresses);
    addresses.filter(move |address| Family::of(*address) == family)
}

fn is_one_for_all(spec: &PortableLoadBalancerSpec) -> bool {
    spec.persistence
        .as_ref()
        .is_some_and(|it| it.scope == PersistenceScope::All)
}
