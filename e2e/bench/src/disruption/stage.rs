//! Several balancers in front of the same servers, and a plain Service beside them.
#![allow(clippy::disallowed_methods, reason = "kube-proxy is given time")]

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use crd::names;
use e2e::cluster::agents::labels;
use e2e::cluster::wait::CONTAINER;
use e2e::cluster::{AGENTS, Agent, Space, fixtures, until};
use e2e::lab::cluster::Node;
use k8s_openapi::api::core::v1::Service;

/// Where clients outside come in: this node's kube-proxy serves the addresses of Services.
pub(super) const ENTRY: &str = "node1";
/// kube-proxy's first sync takes less.
const SYNC: Duration = Duration::from_secs(8);
const SERVERS: &str = "3/3";
const PORT: u16 = 80;

/// As users have it who want servers that vanish to be noticed soon.
const SPEC: &str = "ports: [{name: http, port: 80, targetPort: 8080}], scheduler: {name: rr}, \
                    redundancy: {replicas: 2}, drainTimeoutSeconds: 5, \
                    healthCheck: {type: TCP, intervalSeconds: 1, timeoutSeconds: 1, fall: 2}";

/// The balancers.
pub(super) struct Stage<'a, 'b> {
    /// Their namespace.
    pub(super) space: &'a Space<'b>,
    /// Their names.
    pub(super) names: Vec<String>,
    _routes: Vec<Route>,
    service: SocketAddr,
    services: Vec<SocketAddr>,
}

impl<'a, 'b> Stage<'a, 'b> {
    /// Makes so many.
    pub(super) fn make(space: &'a Space<'b>, count: usize) -> Result<Self> {
        space.apply(fixtures::WEB)?;
        let names: Vec<String> = (0..count).map(|number| format!("balancer-{number}")).collect();
        for name in &names {
            space.apply(&fixtures::plb(name, SPEC))?;
        }
        for name in &names {
            space.wait_serving(name, SERVERS)?;
        }
        let mut routes = Vec::new();
        let mut address = |service: &Service| {
            let route = Route::to(cluster_ip(service)?)?;
            let address = SocketAddr::from((route.0, PORT));
            routes.push(route);
            anyhow::Ok(address)
        };
        let service = address(&space.get(&space.name, "web")?)?;
        let mut services = Vec::new();
        for name in &names {
            let of: Vec<Service> = space.list(AGENTS, &labels(&space.name, name))?;
            services.push(address(of.first().context("a balancer without a Service")?)?);
        }
        Ok(Self {
            space,
            names,
            _routes: routes,
            service,
            services,
        })
    }

    /// The plain Service of the servers.
    pub(super) fn rival(&self) -> SocketAddr {
        self.service
    }

    /// The Service in front of a balancer's agents.
    pub(super) fn service(&self, balancer: usize) -> Result<SocketAddr> {
        self.services.get(balancer).copied().context("no such balancer")
    }

    /// The agents of all balancers, two each, in turns: the first half are those that something happens to.
    pub(super) fn agents(&self, round: usize) -> Result<Vec<[Agent; 2]>> {
        let of = |name: &String| {
            let mut agents = self.space.agents_of(name)?;
            ensure!(agents.len() == 2, "{name} has {} agents", agents.len());
            agents.rotate_left(round % 2);
            agents.try_into().ok().context("two agents")
        };
        self.names.iter().map(of).collect()
    }

    /// Waits until all balancers serve all servers with both agents.
    pub(super) fn wait_whole(&self) -> Result<()> {
        for name in &self.names {
            self.space.wait_serving(name, SERVERS)?;
        }
        until("each balancer has two agents", CONTAINER, || {
            self.agents(0).map(drop)
        })
    }

    /// Sends the kube-proxy of the entry a signal. Its node starts it again, and it is given time for its first sync: while
    /// it has not made that, it does not hear of agents that go, whose clients by a Service need it too.
    pub(super) fn signal_kube_proxy(&self, signal: &str) -> Result<()> {
        let pid = || self.space.lab(&format!("node exec {ENTRY} -- pidof kube-proxy"));
        let before = pid()?;
        self.space
            .lab(&format!("node exec {ENTRY} -- kill -{signal} {}", before.trim()))?;
        until("kube-proxy runs again", CONTAINER, || {
            ensure!(pid()? != before, "it has not ended");
            Ok(())
        })?;
        thread::sleep(SYNC);
        Ok(())
    }
}

fn cluster_ip(service: &Service) -> Result<Ipv4Addr> {
    let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
    let name = service
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(names::PLB_NAME_LABEL));
    Ok(address
        .with_context(|| format!("the Service of {name:?} has no address"))?
        .parse()?)
}

/// A route to a Service's address by the entry, in the lab's network. Removed when dropped.
struct Route(Ipv4Addr);

impl Route {
    fn to(address: Ipv4Addr) -> Result<Self> {
        let entry: Node = ENTRY.parse()?;
        ip(&[
            "route",
            "replace",
            &address.to_string(),
            "via",
            &entry.address().to_string(),
        ])?;
        Ok(Self(address))
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        if let Err(error) = ip(&["route", "delete", &self.0.to_string()]) {
            eprintln!("{error:#}");
        }
    }
}

fn ip(words: &[&str]) -> Result<()> {
    let status = Command::new("ip").args(words).status()?;
    ensure!(status.success(), "ip {}: {status}", words.join(" "));
    Ok(())
}
