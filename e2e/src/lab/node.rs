//! Starting and stopping single nodes. The caller is inside the lab's network namespace.

use std::time::Duration;

use anyhow::{Result, bail};

use super::cluster::{Cluster, Node};
use super::kubectl::{kubectl, ready_node, wait_for};
use super::paths::Paths;
use super::progress::Progress;
use super::{certificates, machine, network};
use crate::uml::Kernel;

const PATIENCE: Duration = Duration::from_mins(3);

/// Asks for a node's machine; one that runs already is left alone.
pub fn launch(paths: &Paths, node: Node, kernel: &Kernel) -> Result<()> {
    certificates::issue_node(paths, node)?;
    network::plug(node)?;
    let services = paths.services();
    let running = services
        .state(&node.name())
        .is_some_and(|state| state.process.is_some_and(|p| p.alive()));
    let service = machine::service(paths, node, kernel);
    if !running || !services.wanted()?.contains(&service) {
        machine::prepare(paths, node)?;
    }
    services.put(&service)
}

/// Waits until a node is Ready, and lets clients outside the cluster reach its pods.
pub fn settle(paths: &Paths, node: Node) -> Result<()> {
    let name = node.name();
    wait_for(&format!("{name} is Ready"), PATIENCE, || {
        // A node that was here before looks Ready for a while after it went.
        let phase = machine::phase(paths, node);
        if phase != "ready" {
            bail!(
                "{name}: {phase}; see {}",
                paths.logs().join(format!("{name}-agent.log")).display()
            );
        }
        let view = ready_node(paths, &name)?;
        network::route(node, view.pods.as_deref().unwrap_or_default())
    })
}

/// Starts one node and waits for it.
pub fn start(paths: &Paths, node: Node) -> Result<()> {
    let progress = Progress::start();
    let mut cluster = Cluster::running(paths)?;
    cluster.put(node);
    cluster.store(paths)?;
    launch(paths, node, &Kernel::find()?)?;
    settle(paths, node)?;
    progress.say(&format!("{} is Ready", node.name()));
    Ok(())
}

/// What remains of a stopped node in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remains {
    /// Its Node object stays, as after a crash.
    Keep,
    /// Its Node object is deleted, as after an orderly removal.
    Delete,
}

/// Ends a node's machine, as pulling its plug would.
pub fn stop(paths: &Paths, node: Node, remains: Remains) -> Result<()> {
    let name = node.name();
    let mut cluster = Cluster::running(paths)?;
    cluster.nodes.retain(|other| other.number != node.number);
    cluster.store(paths)?;
    paths.services().remove(&name)?;
    wait_for(&format!("{name} ends"), PATIENCE, || {
        match paths.services().state(&name) {
            Some(_) => bail!("the supervisor still has it"),
            None => Ok(()),
        }
    })?;
    network::unplug(node)?;
    if remains == Remains::Delete {
        kubectl(paths, &["delete", "node", &name, "--ignore-not-found"])?;
    }
    Ok(())
}
