//! What the kernel should hold for a spec and its endpoints. Pure.

mod fronts;
mod health;
mod held;
mod settings;
mod switch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crd::PortableLoadBalancerSpec;
use crd::target::TargetError;
use ipnetwork::IpNetwork;
use k8s_openapi::api::core::v1::ServicePort;

use crate::addresses::Addresses;
use crate::endpoints::{self, Candidate, Candidates, Slice, State};
use crate::health::{Checks, Health, Reason, Targets};
use crate::sysctl::Bypass;
use crate::table::{Family, Forwarding, Listener, Path, Server, Servers, Service, Table, Weight, path_marks};
use crate::trust::Trust;
use crate::ways::Ways;

pub use held::Held;

/// Everything that the wanted table is made of.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// What the user asks for.
    pub spec: &'a PortableLoadBalancerSpec,
    /// The Service's ports; `None` where there is no Service.
    pub service_ports: Option<&'a [ServicePort]>,
    /// Its slices.
    pub slices: &'a [Arc<Slice>],
    /// Whose addresses are taken.
    pub trust: &'a Trust,
    /// The agent's own addresses.
    pub addresses: &'a Addresses,
    /// Which servers are on its link.
    pub ways: &'a Ways,
    /// What servers are asked.
    pub checks: &'a Checks,
    /// What they answered.
    pub health: &'a Health,
    /// What the kernel holds.
    pub held: &'a Held,
    /// The networks that servers by address have to be in; `None`: any.
    pub networks: Option<&'a [IpNetwork]>,
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
    /// Servers that DR does not reach, and the gateway that is between.
    pub off_link: BTreeMap<IpAddr, IpAddr>,
    /// Addresses that the agent takes for its own.
    pub addresses: BTreeSet<IpAddr>,
    /// What it means that answers go past the agent, if they do.
    pub bypass: Bypass,
    /// The addresses of servers that traffic may go to.
    pub servers: BTreeSet<IpAddr>,
}

/// The table that the spec and the endpoints ask for. The spec was validated before; what still is wrong is left out.
#[must_use]
pub fn desired(inputs: &Inputs<'_>) -> Desired {
    let mut desired = Desired {
        bypass: settings::bypass(inputs.spec),
        ..Desired::default()
    };
    desired.table.timeouts = Some(settings::timeouts(&inputs.spec.timeouts));
    let families = inputs.addresses.families();
    for family in &families {
        let rules = settings::rules(inputs.spec, *family);
        desired.table.rules.insert(*family, rules);
        desired.addresses.extend(fronts::own(inputs.spec, *family));
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
                desired.add(inputs, listener, &candidates);
                asked.extend(inputs.checks.of(index).map(|check| (listener, check, span.0)));
            }
        }
    }
    if desired.bypass.answers {
        desired.add_paths(settings::forwarding(&inputs.spec.forwarding));
    }
    for (listener, check, first) in asked {
        desired.ask(inputs, listener, (check, first));
    }
    desired.leave_out_failing(inputs);
    desired
}

impl Desired {
    fn add(&mut self, inputs: &Inputs<'_>, listener: Listener, candidates: &[(SocketAddr, Candidate)]) {
        let spec = inputs.spec;
        let forwarding = settings::forwarding(&spec.forwarding);
        let service = self.table.services.get_or_insert_with(listener, || {
            Arc::new(Service {
                scheduling: settings::scheduling(spec, listener.family),
                servers: Servers::new(),
            })
        });
        let taking = endpoints::taking(candidates, listener.family);
        let of_family = candidates
            .iter()
            .filter(|(at, _)| Family::of(at.ip()) == listener.family);
        let (mut servers, mut addresses) = (Vec::new(), Vec::new());
        for (at, candidate) in of_family {
            let gateway = inputs
                .ways
                .gateway(at.ip())
                .filter(|_| forwarding == Forwarding::Direct);
            if let Some(gateway) = gateway {
                self.off_link.insert(at.ip(), gateway);
                self.failing.insert((listener, *at), Reason::NotOnLink);
            } else if candidate.state == taking {
                addresses.push(at.ip());
                let server = Server {
                    weight: Weight(candidate.weight),
                    forwarding,
                    entries_limit: settings::number(spec.limits.entries_per_server.unwrap_or_default()),
                };
                servers.push((*at, server));
            } else if candidate.state != State::Ready {
                self.unready.insert((listener, *at), candidate.state);
            }
        }
        Arc::make_mut(service).servers.extend(servers);
        // Built as a whole, a set is dense.
        self.servers.append(&mut addresses.into_iter().collect());
    }

    fn add_paths(&mut self, forwarding: Forwarding) {
        let marks = path_marks(&self.servers);
        let path = |(server, mark)| (mark, Path { server, forwarding });
        self.table.paths = marks.into_iter().map(path).collect();
    }

    /// The servers that must be on the agent's link.
    pub fn on_link(&self) -> impl Iterator<Item = IpAddr> {
        let paths = self.table.paths.values();
        let direct = paths.filter(|path| path.forwarding == Forwarding::Direct);
        direct
            .map(|path| path.server)
            .chain(self.off_link.keys().copied())
    }
}

#[cfg(test)]
mod tests;
