//! What the lab is asked to be: its nodes and its pod network. Also the fixed addresses of all labs.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::paths::Paths;
use super::service::write_whole;

/// The control plane, the bridge, and every client outside the cluster.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);
/// Where pods get their addresses.
pub const POD_NETWORK: &str = "10.244.0.0/16";
/// Where Services get theirs.
pub const SERVICE_NETWORK: &str = "10.96.0.0/16";
/// The Service `kubernetes`.
pub const API_SERVICE: &str = "10.96.0.1";
/// The cluster's DNS server.
pub const DNS_SERVICE: &str = "10.96.0.10";
/// The cluster's DNS domain.
pub const DOMAIN: &str = "cluster.local";

/// The API server as everybody reaches it.
#[must_use]
pub fn api_server() -> String {
    format!("https://{HOST}:6443")
}

/// A backend of flannel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// Routes between nodes of one link; the full MTU.
    HostGw,
    /// VXLAN in the kernel, what flannel's own manifest chooses.
    #[default]
    Vxlan,
    /// UDP through a daemon, for kernels without VXLAN.
    Udp,
}

impl Backend {
    /// Its name in flannel's configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::HostGw => "host-gw",
            Self::Vxlan => "vxlan",
            Self::Udp => "udp",
        }
    }

    /// What flannel writes on nodes: the name, but for udp, which says nothing.
    #[must_use]
    pub fn annotation(self) -> &'static str {
        match self {
            Self::Udp => "",
            other => other.name(),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a node's kernel can load IPVS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ipvs {
    /// It loads when it is asked for, as on most machines.
    Available,
    /// It cannot be had.
    Missing,
}

/// A node, which is a machine called `nodeNUMBER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// 1 to 99.
    pub number: u8,
    /// What its kernel can do.
    pub ipvs: Ipvs,
}

impl Node {
    /// A node like any other.
    #[must_use]
    pub fn ordinary(number: u8) -> Self {
        Self {
            number,
            ipvs: Ipvs::Available,
        }
    }

    /// Its name in the cluster.
    #[must_use]
    pub fn name(self) -> String {
        format!("node{}", self.number)
    }

    /// Its address on the lab's bridge.
    #[must_use]
    pub fn address(self) -> Ipv4Addr {
        let [a, b, c, _] = HOST.octets();
        Ipv4Addr::new(a, b, c, 10 + self.number)
    }

    /// Its hardware address: fixed, or neighbours would keep the old one after it booted again.
    #[must_use]
    pub fn hardware_address(self) -> String {
        format!("52:54:00:98:00:{:02x}", 10 + self.number)
    }

    /// Its device in the lab's network namespace.
    #[must_use]
    pub fn tap(self) -> String {
        format!("tap-{}", self.name())
    }
}

impl FromStr for Node {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let number = name.strip_prefix("node").and_then(|number| number.parse().ok());
        match number {
            Some(number @ 1..=99) => Ok(Self::ordinary(number)),
            _ => bail!("a node is called node1 to node99, not {name:?}"),
        }
    }
}

/// What the lab is asked to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// The pod network's backend.
    pub flannel: Backend,
    /// The machines that should run.
    pub nodes: Vec<Node>,
}

impl Cluster {
    /// A new cluster of `count` ordinary nodes.
    #[must_use]
    pub fn new(count: u8, flannel: Backend) -> Self {
        Self {
            flannel,
            nodes: (1..=count).map(Node::ordinary).collect(),
        }
    }

    /// Adds a node, or changes the one of this number.
    pub fn put(&mut self, node: Node) {
        self.nodes.retain(|other| other.number != node.number);
        self.nodes.push(node);
        self.nodes.sort_by_key(|node| node.number);
    }

    /// Reads what the last `up` was asked for, if there is a lab.
    pub fn load(paths: &Paths) -> Result<Option<Self>> {
        let path = paths.cluster();
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                let cluster = serde_json::from_str(&text);
                cluster
                    .with_context(|| format!("{} is damaged; `lab down` removes it", path.display()))
                    .map(Some)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("could not read {}", path.display())),
        }
    }

    /// Reads what the running lab was asked for.
    pub fn running(paths: &Paths) -> Result<Self> {
        Self::load(paths)?.context("there is no lab; `lab up` starts one")
    }

    /// Writes it down, for the machines and for the next command.
    pub fn store(&self, paths: &Paths) -> Result<()> {
        write_whole(&paths.cluster(), &serde_json::to_string_pretty(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_known_by_its_number() {
        let node: Node = "node2".parse().unwrap();
        assert_eq!(node.address().to_string(), "10.98.0.12");
        assert_eq!(node.hardware_address(), "52:54:00:98:00:0c");
        assert_eq!(node.name(), "node2");
        for wrong in ["node0", "node100", "node", "worker1", "node-1"] {
            assert!(wrong.parse::<Node>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn putting_a_node_replaces_the_one_of_its_number() {
        let mut cluster = Cluster::new(2, Backend::Udp);
        cluster.put(Node {
            number: 1,
            ipvs: Ipvs::Missing,
        });
        let kernels: Vec<_> = cluster
            .nodes
            .iter()
            .map(|node| (node.number, node.ipvs))
            .collect();
        assert_eq!(kernels, [(1, Ipvs::Missing), (2, Ipvs::Available)]);
    }
}
