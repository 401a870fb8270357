//! The agents of a balancer, and what their kernels hold.

use super::command::kubectl;
use super::{AGENTS, Cluster, ipvs};
use crate::pod::client;
use anyhow::{Context, Result, ensure};
use crd::names;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};

/// One agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its pod's name.
    pub pod: String,
    /// Its pod's UID, which changes when the pod is replaced.
    pub uid: String,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its node.
    pub node: String,
    /// Its node's address.
    pub node_ip: Ipv4Addr,
    /// How often its container was restarted.
    pub restarts: i32,
    /// The container that runs now.
    pub container: String,
}

impl Agent {
    /// An agent from its pod, as soon as that has an address.
    pub fn from_pod(pod: &Pod) -> Result<Self> {
        let status = pod.status.as_ref().context("a pod without status")?;
        let serve = serve(pod).context("its container has not been started")?;
        let id = serve.container_id.clone().unwrap_or_default();
        Ok(Self {
            pod: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            ip: status
                .pod_ip
                .as_deref()
                .context("a pod without address")?
                .parse()?,
            node: pod
                .spec
                .as_ref()
                .and_then(|spec| spec.node_name.clone())
                .unwrap_or_default(),
            node_ip: status
                .host_ip
                .as_deref()
                .context("a pod without a node")?
                .parse()?,
            restarts: serve.restart_count,
            container: id.rsplit('/').next().unwrap_or_default().to_owned(),
        })
    }

    /// Where it answers on a port.
    #[must_use]
    pub fn at(&self, port: u16) -> SocketAddr {
        (self.ip, port).into()
    }

    /// Runs a program in its container.
    pub fn exec(&self, words: &str) -> Result<String> {
        kubectl(&format!("exec -n {AGENTS} {} -c serve -- {words}", self.pod))
    }

    /// What `ipvsadm -Sn` prints, as a set of lines.
    pub fn table(&self) -> Result<BTreeSet<String>> {
        Ok(ipvs::lines(&self.exec("ipvsadm -Sn")?))
    }

    /// Connections by mark and server, as the kernel counts them (it does so every 2 s).
    pub fn connections(&self) -> Result<BTreeMap<(u32, String), u64>> {
        ipvs::connections(&self.exec("ipvsadm -Ln --stats --exact")?)
    }

    /// The rules, by the one of the two variants of iptables that the agent chose.
    pub fn rules(&self) -> Result<String> {
        let legacy = self.exec("iptables-legacy-save");
        if legacy.as_ref().is_ok_and(|rules| rules.contains("PLB-")) {
            return legacy;
        }
        self.exec("iptables-nft-save")
    }

    /// Its metrics, as text.
    pub fn metrics(&self) -> Result<String> {
        Ok(client::get(self.at(names::ADMIN_PORT), "/metrics")?)
    }
}

/// The labels of a balancer's children.
#[must_use]
pub fn labels(namespace: &str, name: &str) -> String {
    format!(
        "{}={namespace},{}={name}",
        names::NAMESPACE_LABEL,
        names::PLB_NAME_LABEL
    )
}

impl Cluster {
    /// The pods of a balancer's agents that are not going away.
    pub fn agent_pods(&self, namespace: &str, name: &str) -> Result<Vec<Pod>> {
        let mut pods: Vec<Pod> = self.list(AGENTS, &labels(namespace, name))?;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        Ok(pods)
    }

    /// The agents of a balancer, by name; all of them must be ready.
    pub fn agents(&self, namespace: &str, name: &str) -> Result<Vec<Agent>> {
        let pods = self.agent_pods(namespace, name)?;
        ensure!(!pods.is_empty(), "{name} has no agents");
        ensure!(
            pods.iter().all(|pod| serve(pod).is_some_and(|serve| serve.ready)),
            "not all agents of {name} are ready"
        );
        let mut agents: Vec<_> = pods.iter().map(Agent::from_pod).collect::<Result<_>>()?;
        agents.sort_by(|a, b| a.pod.cmp(&b.pod));
        Ok(agents)
    }
}

fn serve(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status
        .as_ref()?
        .container_statuses
        .as_ref()?
        .iter()
        .find(|container| container.name == "serve")
}
