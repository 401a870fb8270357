//! What the kernel should hold for a spec and its endpoints. Pure.

mod fronts;
mod health;
mod settings;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use crd::PortableLoadBalancerSpec;
use crd::target::TargetError;
use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::addresses::Addresses;
use crate::endpoints::{self, Candidates, State, Trust};
use crate::health::{Checks, Health, Reason, Targets};
use crate::table::{Family, Listener, Server, Service, Table, Weight};

/// Everything that the wanted table is made of.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// What the user asks for.
    pub spec: &'a PortableLoadBalancerSpec,
    /// The Service's ports; `None` where there is no Service.
    pub service_ports: Option<&'a [ServicePort]>,
    /// Its slices.
    pub slices: &'a [Arc<EndpointSlice>],
    /// Whose addresses are taken.
    pub trust: &'a Trust,
    /// The agent's own addresses.
    pub addresses: &'a Addresses,
    /// What servers are asked.
    pub checks: &'a Checks,
    /// What they answered.
    pub health: &'a Health,
}

/// The wanted table and what is to be told of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// The table, without servers that drain.
    pub table: Table,
    /// Servers that the slices name and that are not ready.
    pub unready: BTreeMap<(Listener, SocketAddr), State>,
    /// Whom to ask whether they serve.
    pub targets: Targets,
    /// Servers that are ready and fail their check.
    pub failing: BTreeMap<(Listener, SocketAddr), Reason>,
    /// Listeners of which all servers fail, so that all stay in the table.
    pub panicking: BTreeSet<Listener>,
    /// Ports that lead nowhere.
    pub unresolved: Vec<TargetError>,
}

/// The table that the spec and the endpoints ask for. The spec was validated before; what still is wrong is left out.
#[must_use]
pub fn desired(inputs: &Inputs<'_>) -> Desired {
    let mut desired = Desired::default();
    desired.table.timeouts = Some(settings::timeouts(&inputs.spec.timeouts));
    let families = inputs.addresses.families();
    for family in &families {
        let rules = settings::rules(inputs.spec, *family);
        desired.table.rules.insert(*family, rules);
    }
    let mut asked = Vec::new();
    for (index, port) in inputs.spec.ports.iter().enumerate() {
        let Some(span) = fronts::span(port) else { continue };
        let candidates = match fronts::target(inputs, port, span) {
            Ok(target) => endpoints::candidates(inputs, &target, port.protocol),
            Err(error) => {
                desired.unresolved.push(error);
                Candidates::new()
            }
        };
        for family in &families {
            for (listener, rule) in fronts::fronts(inputs, port, *family) {
                desired.table.rules.entry(*family).or_default().marks.insert(rule);
                desired.add(inputs.spec, listener, &candidates);
                asked.extend(inputs.checks.of(index).map(|check| (listener, check, span.0)));
            }
        }
    }
    for (listener, check, first) in asked {
        desired.ask(listener, check, first);
    }
    desired.leave_out_failing(inputs.health);
    desired
}

impl Desired {
    fn add(&mut self, spec: &PortableLoadBalancerSpec, listener: Listener, candidates: &Candidates) {
        let service = self.table.services.entry(listener).or_insert_with(|| Service {
            scheduling: settings::scheduling(spec, listener.family),
            servers: BTreeMap::new(),
        });
        let taking = endpoints::taking(candidates, listener.family);
        let of_family = candidates
            .iter()
            .filter(|(at, _)| Family::of(at.ip()) == listener.family);
        for (at, candidate) in of_family {
            if taking.contains(at) {
                let server = Server {
                    weight: Weight(candidate.weight),
                    forwarding: settings::forwarding(&spec.forwarding),
                    entries_limit: settings::number(spec.limits.entries_per_server.unwrap_or_default()),
                };
                service.servers.insert(*at, server);
            } else if candidate.state != State::Ready {
                self.unready.insert((listener, *at), candidate.state);
            }
        }
    }
}

#[cfg(test)]
mod tests;
