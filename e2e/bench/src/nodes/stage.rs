//! All contenders beside each other in the cluster: one is loaded, the others are idle.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use e2e::cluster::command::{kubectl, kubectl_with};
use e2e::cluster::wait::{CONTAINER, NOTICE};
use e2e::cluster::{Agent, Space, request, until};

use super::pods;
use super::processor::Meter;
use super::rival::{self, PORT, Rival};
use crate::record::OURS;

/// The rules that Kubernetes itself makes for a Service, on the node.
pub const KUBE_PROXY: &str = "kube-proxy";

/// The contenders in the cluster.
pub struct Stage<'a> {
    space: &'a Space<'a>,
    /// Reads the processor time of its nodes.
    pub meter: Meter,
    node: String,
    servers: usize,
    agent: Option<Agent>,
    rivals: Vec<(Rival, SocketAddr)>,
}

/// A contender, and where it answers.
#[derive(Clone, Copy, Debug)]
pub struct Contender {
    /// Its name in the values.
    pub name: &'static str,
    /// Its address.
    pub address: SocketAddr,
    /// Whether it is a program that passes on what it reads, and not the kernel.
    pub is_proxy: bool,
}

impl Contender {
    /// Whether it takes part in a round. Those that are close to each other take part in all: proxies are so far behind
    /// that less tells as much.
    #[must_use]
    pub fn is_due(&self, round: u32) -> bool {
        !self.is_proxy || round.is_multiple_of(3)
    }
}

impl<'a> Stage<'a> {
    /// Starts the pods: balancers on the first node, web servers on the others.
    pub fn set(space: &'a Space<'a>, sizes: &[usize]) -> Result<Self> {
        let names = space.kubectl("get nodes -o jsonpath={.items[*].metadata.name}")?;
        let mut names = names.split_whitespace();
        let node = names.next().context("no nodes")?;
        let others: Vec<&str> = names.collect();
        ensure!(!others.is_empty(), "web servers need another node than {node}");
        // The lab allows no pod to see a node's folders or to change its kernel, where nobody says so.
        let allowed =
            "pod-security.kubernetes.io/enforce=privileged pod-security.kubernetes.io/warn=privileged";
        kubectl(&format!("label namespace {} {allowed}", space.name))?;
        space.apply(&pods::web(&others, sizes))?;
        space.apply(&pods::rivals(node))?;
        let first = sizes.first().context("no web servers")?;
        space.apply(&pods::ours(node, *first))?;
        let patience = CONTAINER.as_secs();
        space.kubectl(&format!(
            "wait pod --all --for=condition=Ready --timeout={patience}s"
        ))?;
        let mut stage = Self {
            space,
            meter: Meter::new(node, &others)?,
            node: node.to_owned(),
            servers: 0,
            agent: None,
            rivals: Vec::new(),
        };
        for rival in Rival::ALL {
            let path = "jsonpath={.status.podIP}";
            let address: Ipv4Addr = space
                .kubectl(&format!("get pod {} -o {path}", rival.name()))?
                .parse()?;
            stage.rivals.push((rival, (address, PORT).into()));
        }
        Ok(stage)
    }

    /// Makes all contenders balance to just so many servers.
    pub fn direct(&mut self, count: usize) -> Result<()> {
        if self.servers == count {
            return Ok(());
        }
        let servers = self.addresses(count)?;
        self.space.apply(&pods::ours(&self.node, count))?;
        for (rival, _) in &self.rivals {
            self.run(rival.name(), &rival.script(&servers))?;
        }
        let mut agents = self.space.wait_serving("ours", &format!("{count}/{count}"))?;
        self.agent = agents.pop();
        self.servers = count;
        Ok(())
    }

    /// Starts all web servers anew, each of which answers at most so many requests a second.
    pub fn serve(&self, limit: Option<u32>) -> Result<()> {
        let path = r#"jsonpath={range.items[*]}{.metadata.name},{.status.podIP}{"\n"}{end}"#;
        for line in self
            .space
            .kubectl(&format!("get pods -l app=web -o {path}"))?
            .lines()
        {
            let (pod, address) = line.split_once(',').context("a web pod without an address")?;
            self.run(pod, &rival::server(address.parse()?, limit))?;
        }
        Ok(())
    }

    /// Runs a shell script in a pod.
    fn run(&self, pod: &str, script: &str) -> Result<()> {
        let words = format!("--namespace {} exec -i {pod} -- sh -eu", self.space.name);
        kubectl_with(script, &words)
            .map(drop)
            .with_context(|| pod.to_owned())
    }

    /// How many servers there are now.
    #[must_use]
    pub fn servers(&self) -> usize {
        self.servers
    }

    /// Waits until each contender gives answers of all its servers, and of no other.
    pub fn check(&self) -> Result<()> {
        let servers: BTreeSet<String> = self
            .addresses(self.servers)?
            .iter()
            .map(ToString::to_string)
            .collect();
        for Contender { name, address, .. } in self.contenders()? {
            until(&format!("{name} balances"), NOTICE, || {
                let tally = request(address, 4 * servers.len());
                let answers: BTreeSet<String> = tally.answers.keys().cloned().collect();
                ensure!(tally.failures.is_empty() && answers == servers, "{name}: {tally}");
                Ok(())
            })?;
        }
        Ok(())
    }

    /// All contenders, ours first.
    pub fn contenders(&self) -> Result<Vec<Contender>> {
        let agent = self.agent.as_ref().context("no agent")?;
        let service = pods::service(self.servers);
        let path = "jsonpath={.spec.ports[0].nodePort}";
        let port: u16 = self
            .space
            .kubectl(&format!("get service {service} -o {path}"))?
            .parse()?;
        let mut contenders = vec![
            Contender {
                name: OURS,
                address: agent.at(PORT),
                is_proxy: false,
            },
            Contender {
                name: KUBE_PROXY,
                address: (agent.node_ip, port).into(),
                is_proxy: false,
            },
        ];
        let rivals = self.rivals.iter().map(|(rival, address)| Contender {
            name: rival.name(),
            address: *address,
            is_proxy: rival.is_proxy(),
        });
        contenders.extend(rivals);
        Ok(contenders)
    }

    /// The addresses of the servers, by the pods' names.
    fn addresses(&self, count: usize) -> Result<Vec<Ipv4Addr>> {
        let service = pods::service(count);
        let words = format!("get pods -l {service}=member -o jsonpath={{.items[*].status.podIP}}");
        let printed = self.space.kubectl(&words)?;
        let addresses: Vec<Ipv4Addr> = printed
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        ensure!(addresses.len() == count, "{service} has {addresses:?}");
        Ok(addresses)
    }
}
