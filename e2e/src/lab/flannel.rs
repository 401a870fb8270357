//! Changes the pod network's backend while the lab runs. The caller is inside the lab's network namespace.

use std::time::Duration;

use anyhow::{Result, bail};

use super::cluster::{Backend, Cluster};
use super::kubectl::{nodes, wait_for};
use super::machine;
use super::paths::Paths;
use super::progress::Progress;
use super::queue::Request;

const PATIENCE: Duration = Duration::from_mins(2);

/// Changes the backend on all nodes. Pods keep their addresses, but only new ones get the new MTU.
pub fn change(paths: &Paths, backend: Backend) -> Result<()> {
    let progress = Progress::start();
    let mut cluster = Cluster::running(paths)?;
    cluster.flannel = backend;
    cluster.store(paths)?;
    machine::ask_all(paths, &cluster.nodes, &Request::ChangeFlannel)?;
    wait_for(&format!("every node says {backend}"), PATIENCE, || {
        agrees(paths, &cluster)
    })?;
    progress.say(&format!(
        "flannel uses {backend} on {} nodes; recreate pods to give them its MTU",
        cluster.nodes.len()
    ));
    Ok(())
}

fn agrees(paths: &Paths, cluster: &Cluster) -> Result<()> {
    let wanted = Some(cluster.flannel.annotation());
    let ours = |name: &str| cluster.nodes.iter().any(|node| node.name() == name);
    match nodes(paths)?
        .iter()
        .find(|node| ours(&node.name) && node.backend.as_deref() != wanted)
    {
        Some(node) => bail!("{} says {:?}", node.name, node.backend),
        None => Ok(()),
    }
}
