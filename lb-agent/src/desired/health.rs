//! Who is asked whether it serves, and who must not take new connections because of its answers.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{Desired, Inputs};
use crate::health::select::select;
use crate::health::{Check, Reason, Target};
use crate::table::{Family, Listener, Weight};

impl Desired {
    /// Asks the servers of a listener that take connections, also while they fail. The first number of the listener's
    /// ports is asked where servers have none of their own.
    pub(super) fn ask(
        &mut self,
        inputs: &Inputs<'_>,
        listener: Listener,
        (check, first): (&Arc<Check>, u16),
    ) {
        let Some(service) = self.table.services.get(&listener) else {
            return;
        };
        let taking = service
            .servers
            .iter()
            .filter(|(_, server)| server.weight != Weight::DRAINING);
        for (at, _) in taking {
            let port = if at.port() == 0 { first } else { at.port() };
            let direct = Target {
                is_doubted: inputs.held.is_put_out(listener, *at),
                ..Target::direct(SocketAddr::new(at.ip(), port), check.clone())
            };
            let found = if self.bypass.answers {
                self.by_path(inputs, &direct)
            } else {
                vec![direct]
            };
            let targets = self.targets.entry((listener, *at)).or_default();
            for target in found {
                if !targets.contains(&target) {
                    targets.push(target);
                }
            }
        }
    }

    /// The same question by the way that traffic goes: to each address of the balancer, from one of the agent's own.
    fn by_path(&self, inputs: &Inputs<'_>, direct: &Target) -> Vec<Target> {
        let server = direct.server.ip();
        let family = Family::of(server);
        let mark = self.table.paths.iter().find(|(_, path)| path.server == server);
        let Some((mark, _)) = mark else { return Vec::new() };
        let addresses = self
            .addresses
            .iter()
            .filter(|address| Family::of(**address) == family);
        let target = |address: &IpAddr| Target {
            to: SocketAddr::new(*address, direct.server.port()),
            mark: Some(mark.number()),
            source: inputs.addresses.of(family).next(),
            ..direct.clone()
        };
        addresses.map(target).collect()
    }

    /// Leaves the servers that fail out of the table, unless all of a listener do.
    pub(super) fn leave_out_failing(&mut self, inputs: &Inputs<'_>) {
        if self.targets.is_empty() {
            return;
        }
        if self.is_switching(inputs) {
            return self.keep_ways(inputs);
        }
        self.leave_out_unproven(inputs);
        let health = inputs.health;
        for (listener, service) in self.table.services.iter_mut() {
            let taking = service
                .servers
                .iter()
                .filter(|(_, server)| server.weight != Weight::DRAINING);
            let failure = |at: SocketAddr| -> Option<Reason> {
                let mut targets = self.targets.get(&(*listener, at))?.iter();
                targets.find_map(|target| health.failure(target))
            };
            let selection = select(taking.map(|(at, _)| *at), failure);
            if selection.is_panic {
                self.panicking.insert(*listener);
            } else {
                Arc::make_mut(service)
                    .servers
                    .retain(|at, _| !selection.failing.contains_key(at));
            }
            for (at, reason) in selection.failing {
                self.failing.insert((*listener, at), reason);
            }
        }
    }

    /// Leaves the servers out that no answer came from by the way that traffic goes, even if these are all. Where the
    /// kernel sends traffic by that way, it was proven before.
    fn leave_out_unproven(&mut self, inputs: &Inputs<'_>) {
        for ((listener, at), targets) in &self.targets {
            let Some(service) = self.table.services.get_mut(listener) else {
                continue;
            };
            let forwarding = service.servers.get(at).map(|server| server.forwarding);
            if forwarding.is_some() && inputs.held.way(*listener, *at) == forwarding {
                continue;
            }
            if let Some(reason) = targets.iter().find_map(|target| inputs.health.doubt(target)) {
                Arc::make_mut(service).servers.remove(at);
                self.failing.insert((*listener, *at), reason);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::addresses::Addresses;
    use crate::desired::{Held, desired};
    use crate::health::{Change, Checks, Health};
    use crate::trust::Trust;
    use crate::ways::Ways;
    use crd::PortableLoadBalancerSpec;

    /// What is wanted of three servers when the given addresses fail.
    fn read(yaml: &str, failing: &[&str]) -> Desired {
        let text = format!(
            "{{backends: {{type: Endpoints, endpoints: [{{address: 10.0.0.1}}, {{address: 10.0.0.2}}, \
             {{address: 10.0.0.3, weight: 0}}]}}, exposure: {{type: PodIP}}, {yaml}}}"
        );
        let spec: PortableLoadBalancerSpec = serde_yaml::from_str(&text).expect("a spec");
        let checks = Checks::new(&spec);
        let wanted = |health: &Health| {
            desired(&Inputs {
                spec: &spec,
                service_ports: None,
                slices: &[],
                trust: &Trust::All,
                addresses: &Addresses::default(),
                checks: &checks,
                health,
                ways: &Ways::default(),
                held: &Held::default(),
                networks: None,
            })
        };
        let mut health = Health::default();
        for target in wanted(&health).targets.into_values().flatten() {
            let failure = failing
                .contains(&target.server.to_string().as_str())
                .then_some(Reason::Timeout);
            health.take(Change { target, failure });
        }
        wanted(&health)
    }

    fn taking(desired: &Desired) -> Vec<String> {
        let servers = desired
            .table
            .services
            .values()
            .flat_map(|service| service.servers.iter());
        let line = |(at, server): (&SocketAddr, &crate::table::Server)| format!("{at} {}", server.weight.0);
        servers.map(line).collect()
    }

    fn asked(desired: &Desired) -> Vec<String> {
        let targets = desired.targets.values().flatten();
        targets.map(|target| target.server.to_string()).collect()
    }

    const TCP: &str = "healthCheck: {type: TCP}, ports: [{name: a, port: 80}]";

    #[test]
    fn a_server_that_fails_is_left_out_and_still_asked() {
        let found = read(TCP, &["10.0.0.1:80"]);
        assert_eq!(taking(&found), ["10.0.0.2:80 1", "10.0.0.3:80 0"]);
        assert_eq!(asked(&found), ["10.0.0.1:80", "10.0.0.2:80"]);
        assert_eq!(found.failing.len(), 1);
        assert!(found.panicking.is_empty());
    }

    #[test]
    fn if_all_that_take_connections_fail_all_stay() {
        let found = read(TCP, &["10.0.0.1:80", "10.0.0.2:80"]);
        assert_eq!(
            taking(&found),
            ["10.0.0.1:80 1", "10.0.0.2:80 1", "10.0.0.3:80 0"]
        );
        assert_eq!(found.panicking, found.table.services.keys().copied().collect());
    }

    #[test]
    fn panic_is_each_listeners_own() {
        let ports = "healthCheck: {type: TCP}, ports: [{name: a, port: 80}, {name: b, port: 81}]";
        let found = read(ports, &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.1:81"]);
        let panicking: BTreeSet<u16> = found.panicking.iter().map(|it| it.port).collect();
        assert_eq!(panicking, BTreeSet::from([80]));
        assert_eq!(found.failing.len(), 3);
    }

    #[test]
    fn of_a_range_the_first_port_is_asked_or_the_one_that_is_named() {
        let range = |check: &str| {
            let yaml = format!(
                "ports: [{{name: a, port: 80, endPort: 89, healthCheck: {{type: TCP{check}}}}}, {{name: b, port: 90}}]"
            );
            asked(&read(&yaml, &[]))
        };
        assert_eq!(range(""), ["10.0.0.1:80", "10.0.0.2:80"]);
        assert_eq!(range(", port: 9000"), ["10.0.0.1:9000", "10.0.0.2:9000"]);
    }

    #[test]
    fn where_all_ports_are_one_a_server_fails_if_one_of_them_does() {
        let yaml = "persistence: {scope: All}, ports: [{name: a, port: 80, healthCheck: {type: TCP}}, \
                    {name: b, port: 443, healthCheck: {type: TCP, fall: 1}}]";
        let found = read(yaml, &["10.0.0.1:443"]);
        assert_eq!(asked(&found).len(), 4);
        assert_eq!(taking(&found), ["10.0.0.2:0 1", "10.0.0.3:0 0"]);
    }

    #[test]
    fn nobody_is_asked_without_a_check() {
        let found = read("ports: [{name: a, port: 80}]", &[]);
        assert!(found.targets.is_empty());
        assert_eq!(taking(&found).len(), 3);
    }
}
