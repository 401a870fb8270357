//! What the kernel should hold for a spec and its endpoints. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crd::target::{self, TargetError};
use crd::{PortableLoadBalancerSpec, SchedulerFlag, SchedulerName};
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
    pub slices: &'a [EndpointSlice],
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

/// Why a spec can't be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such port number, or the agent's own.
    #[error("spec.ports[{0}].port: {1} can't be listened on")]
    Port(usize, i32),
    /// Two ports are one.
    #[error("spec.ports[{0}]: another port has the same number and protocol")]
    Twice(usize),
}

/// The table that the spec and the endpoints ask for.
pub fn desired(inputs: &Inputs<'_>) -> Result<Desired, Error> {
    let mut desired = Desired::default();
    for family in inputs.families {
        desired.table.marked.insert(*family, BTreeSet::new());
    }
    let mut seen = BTreeSet::new();
    for (index, port) in inputs.spec.ports.iter().enumerate() {
        let number = listenable(port.port).ok_or(Error::Port(index, port.port))?;
        if !seen.insert((port.protocol, number)) {
            return Err(Error::Twice(index));
        }
        let servers = match target::resolve(port, inputs.service_ports) {
            Ok(target) => endpoints::servers(inputs.slices, inputs.trust, &target, port.protocol),
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
            add(&mut desired, listener, &servers, scheduler(inputs.spec));
        }
    }
    Ok(desired)
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
fn listenable(port: i32) -> Option<u16> {
    u16::try_from(port)
        .ok()
        .filter(|port| *port != 0 && *port != crd::names::ADMIN_PORT)
}

fn scheduler(spec: &PortableLoadBalancerSpec) -> Scheduler {
    let name = scheduler_name(spec.scheduler.name);
    let mut flags = 0;
    if matches!(spec.scheduler.name, SchedulerName::Sh | SchedulerName::Mh) {
        for flag in &spec.scheduler.flags {
            flags |= match flag {
                SchedulerFlag::Port => Scheduler::PORT,
                SchedulerFlag::Fallback => Scheduler::FALLBACK,
            };
        }
    }
    if spec.scheduler.name == SchedulerName::Mh {
        // Without it `mh` refuses the connections that hash to a draining server (kubernetes#138688).
        flags |= Scheduler::FALLBACK;
    }
    Scheduler {
        name: name.to_owned(),
        flags,
    }
}

/// The kernel's name of a scheduler, which is that of its module too: `ip_vs_<name>`.
#[must_use]
pub fn scheduler_name(name: SchedulerName) -> &'static str {
    match name {
        SchedulerName::Rr => "rr",
        SchedulerName::Wrr => "wrr",
        SchedulerName::Lc => "lc",
        SchedulerName::Wlc => "wlc",
        SchedulerName::Lblc => "lblc",
        SchedulerName::Lblcr => "lblcr",
        SchedulerName::Dh => "dh",
        SchedulerName::Sh => "sh",
        SchedulerName::Sed => "sed",
        SchedulerName::Nq => "nq",
        SchedulerName::Fo => "fo",
        SchedulerName::Ovf => "ovf",
        SchedulerName::Mh => "mh",
        SchedulerName::Twos => "twos",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::tests::{ready, slice};
    use crd::Protocol;
    use proptest::prelude::*;

    fn spec(yaml: &str) -> PortableLoadBalancerSpec {
        serde_yaml::from_str(yaml).expect("a spec")
    }

    fn http() -> PortableLoadBalancerSpec {
        spec("{backends: {service: {name: web}}, ports: [{name: http, port: 80, targetPort: http}]}")
    }

    fn read(spec: &PortableLoadBalancerSpec, slices: &[EndpointSlice]) -> Result<Desired, Error> {
        desired(&Inputs {
            spec,
            service_ports: None,
            slices,
            trust: &Trust::Pods("shop".into()),
            families: &BTreeSet::from([Family::V4]),
        })
    }

    #[test]
    fn every_listener_is_a_marked_service_with_its_ready_servers() {
        let found = read(&http(), &[slice("IPv4", 8080, ready(&["10.0.0.1", "10.0.0.2"]))]).expect("valid");
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
            slices: &[slice("IPv4", 8080, ready(&["10.0.0.1"]))],
            trust: &Trust::All,
            families: &BTreeSet::from([Family::V4]),
        })
        .expect("valid");
        assert_eq!((found.unresolved.len(), found.table.server_count()), (1, 0));
        assert_eq!(found.table.services.len(), 1);
    }

    #[test]
    fn impossible_ports_are_refused() {
        for port in [0, -1, 65536, 9913] {
            let mut spec = http();
            spec.ports[0].port = port;
            assert_eq!(read(&spec, &[]), Err(Error::Port(0, port)));
        }
        let mut spec = http();
        spec.ports.push(spec.ports[0].clone());
        assert_eq!(read(&spec, &[]), Err(Error::Twice(1)));
        spec.ports[1].protocol = Protocol::UDP;
        assert!(read(&spec, &[]).is_ok());
    }

    #[test]
    fn mh_always_falls_back_and_others_have_no_flags() {
        let mut spec = http();
        for (name, flags) in [("mh", Scheduler::FALLBACK), ("rr", 0), ("sh", 0)] {
            spec.scheduler = serde_yaml::from_str(&format!("name: {name}")).expect("a scheduler");
            assert_eq!(
                scheduler(&spec),
                Scheduler {
                    name: name.into(),
                    flags
                }
            );
        }
        spec.scheduler = serde_yaml::from_str("{name: mh, flags: [Port]}").expect("a scheduler");
        assert_eq!(scheduler(&spec).flags, Scheduler::FALLBACK | Scheduler::PORT);
        spec.scheduler.name = SchedulerName::Wlc;
        assert_eq!(scheduler(&spec).flags, 0);
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
