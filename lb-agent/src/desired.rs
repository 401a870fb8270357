//! What the kernel should hold for a spec and its endpoints. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use crd::target::{self, TargetError};
use crd::{Port, PortableLoadBalancerSpec, Protocol, SchedulerName};
use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::endpoints::{self, Servers, State, Trust};
use crate::table::{Family, Listener, Scheduler, Server, Service, Table, Weight};

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
    /// The families that this agent has addresses of.
    pub families: &'a BTreeSet<Family>,
}

/// The wanted table and what is to be told of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// The table, without servers that drain.
    pub table: Table,
    /// Servers that the slices name and that are not ready.
    pub unready: BTreeMap<(Listener, SocketAddr), State>,
    /// Ports that lead nowhere.
    pub unresolved: Vec<TargetError>,
}

/// The table that the spec and the endpoints ask for. The spec was validated before; what still is wrong is left out.
#[must_use]
pub fn desired(inputs: &Inputs<'_>) -> Desired {
    let mut desired = Desired::default();
    for family in inputs.families {
        desired.table.marked.insert(*family, BTreeSet::new());
    }
    for port in &inputs.spec.ports {
        let Some(number) = listenable(port) else { continue };
        let servers = match target::resolve(port, inputs.service_ports) {
            Ok(target) => {
                let slices = inputs.slices.iter().map(AsRef::as_ref);
                endpoints::servers(slices, inputs.trust, &target, port.protocol)
            }
            Err(error) => {
                desired.unresolved.push(error);
                Servers::new()
            }
        };
        for family in inputs.families {
            let listener = Listener {
                family: *family,
                protocol: port.protocol,
                port: number,
            };
            add(
                &mut desired,
                listener,
                &servers,
                scheduler(&inputs.spec.scheduler),
            );
        }
    }
    desired
}

fn add(desired: &mut Desired, listener: Listener, servers: &Servers, scheduler: Scheduler) {
    let taking = endpoints::taking(servers, listener.family);
    let taking: BTreeMap<_, _> = taking
        .into_iter()
        .map(|at| (at, Server::nat(Weight::NORMAL)))
        .collect();
    for (at, state) in servers
        .iter()
        .filter(|(at, _)| Family::of(at.ip()) == listener.family)
    {
        if *state != State::Ready && !taking.contains_key(at) {
            desired.unready.insert((listener, *at), *state);
        }
    }
    desired.table.services.insert(
        listener,
        Service {
            scheduler,
            servers: taking,
        },
    );
    desired
        .table
        .marked
        .entry(listener.family)
        .or_default()
        .insert(listener);
}

/// The agent's own port must stay reachable for the kubelet, or the agent is never ready.
fn listenable(port: &Port) -> Option<u16> {
    let is_ours = |number: &u16| port.protocol == Protocol::TCP && *number == crd::names::ADMIN_PORT;
    port.number().filter(|number| !is_ours(number))
}

fn scheduler(wanted: &crd::Scheduler) -> Scheduler {
    let mut flags = 0;
    if matches!(wanted.name, SchedulerName::Sh | SchedulerName::Mh) {
        // `mh` without fallback refuses the connections that hash to a draining server (kubernetes#138688).
        if wanted.falls_back() {
            flags |= Scheduler::FALLBACK;
        }
        if wanted.hashes_port() {
            flags |= Scheduler::PORT;
        }
    }
    Scheduler {
        name: wanted.name.as_str().to_owned(),
        flags,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::tests::{ready, slice};
    use proptest::prelude::*;

    fn spec(yaml: &str) -> PortableLoadBalancerSpec {
        serde_yaml::from_str(yaml).expect("a spec")
    }

    fn http() -> PortableLoadBalancerSpec {
        spec("{backends: {service: {name: web}}, ports: [{name: http, port: 80, targetPort: http}]}")
    }

    fn read(spec: &PortableLoadBalancerSpec, slices: &[EndpointSlice]) -> Desired {
        let slices: Vec<_> = slices.iter().cloned().map(Arc::new).collect();
        desired(&Inputs {
            spec,
            service_ports: None,
            slices: &slices,
            trust: &Trust::Pods("shop".into()),
            families: &BTreeSet::from([Family::V4]),
        })
    }

    #[test]
    fn every_listener_is_a_marked_service_with_its_ready_servers() {
        let found = read(&http(), &[slice("IPv4", 8080, ready(&["10.0.0.1", "10.0.0.2"]))]);
        let text = found.table.to_string();
        assert_eq!(
            text,
            "80/TCP IPv4 0x40000050 wlc\n  10.0.0.1:8080 weight 1\n  10.0.0.2:8080 weight 1\nIPv4 marks 0x40000050\n"
        );
    }

    #[test]
    fn a_port_that_leads_nowhere_is_told_and_listens_without_servers() {
        let ports: Vec<ServicePort> = vec![];
        let found = desired(&Inputs {
            spec: &http(),
            service_ports: Some(&ports),
            slices: &[Arc::new(slice("IPv4", 8080, ready(&["10.0.0.1"])))],
            trust: &Trust::All,
            families: &BTreeSet::from([Family::V4]),
        });
        assert_eq!((found.unresolved.len(), found.table.server_count()), (1, 0));
        assert_eq!(found.table.services.len(), 1);
    }

    #[test]
    fn impossible_ports_and_the_agents_own_are_left_out() {
        for port in [0, -1, 65536, 9913] {
            let mut spec = http();
            spec.ports[0].port = port;
            assert!(read(&spec, &[]).table.services.is_empty(), "{port}");
        }
        let mut spec = http();
        spec.ports[0].port = 9913;
        spec.ports[0].protocol = Protocol::UDP;
        assert_eq!(read(&spec, &[]).table.services.len(), 1);
    }

    #[test]
    fn mh_always_falls_back_and_others_have_no_flags() {
        let mut spec = http();
        for (name, flags) in [("mh", Scheduler::FALLBACK), ("rr", 0), ("sh", 0)] {
            spec.scheduler = serde_yaml::from_str(&format!("name: {name}")).expect("a scheduler");
            assert_eq!(
                scheduler(&spec.scheduler),
                Scheduler {
                    name: name.into(),
                    flags
                }
            );
        }
        spec.scheduler = serde_yaml::from_str("{name: mh, flags: [Port]}").expect("a scheduler");
        assert_eq!(
            scheduler(&spec.scheduler).flags,
            Scheduler::FALLBACK | Scheduler::PORT
        );
        spec.scheduler.name = SchedulerName::Wlc;
        assert_eq!(scheduler(&spec.scheduler).flags, 0);
    }

    proptest! {
        #[test]
        fn no_port_number_makes_it_panic(port: i32, target: i32, slice_port: i32) {
            let mut spec = http();
            spec.ports[0].port = port;
            spec.ports[0].target_port = Some(crd_int(target));
            let _ = read(&spec, &[slice("IPv4", slice_port, ready(&["10.0.0.1"]))]);
        }
    }

    fn crd_int(number: i32) -> k8s_openapi::apimachinery::pkg::util::intstr::IntOrString {
        k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(number)
    }
}
