//! Promise: where a node lacks what IPVS needs, the balancer says what, where, and what to do; nothing crashes; and once
//! that is done, it serves.

use anyhow::{Result, ensure};
use crd::condition::{self, reason};
use e2e::cluster::wait::CONTAINER;
use e2e::cluster::{Agent, Space, fixtures, in_namespace, until};

const NODE: &str = "node4";
const PLB: &str = "ports: [{name: http, port: 80, targetPort: 8080}], redundancy: {replicas: 1}, \
                   agent: {nodeSelector: {kubernetes.io/hostname: node4}}";

#[test]
fn a_missing_module_is_told_and_crashes_nothing() -> Result<()> {
    in_namespace("preflight", |space| {
        let outcome = space
            .lab(&format!("node start {NODE} --without-ipvs"))
            .and_then(|_| told(space))
            .and_then(|()| heals(space));
        let stopped = space.lab(&format!("node stop {NODE} --delete"));
        outcome.and(stopped).map(drop)
    })
}

fn told(space: &Space<'_>) -> Result<()> {
    space.apply(fixtures::WEB)?;
    space.apply(&fixtures::plb("web", PLB))?;
    until("the balancer says what is missing", CONTAINER, || {
        let ready = space.condition("web", condition::READY)?;
        ensure!(
            ready.status == "False" && ready.reason == reason::KERNEL_MODULE_MISSING,
            "{ready:?}"
        );
        for word in ["ip_vs", NODE, "modprobe"] {
            ensure!(
                ready.message.contains(word),
                "{word} is missing in: {}",
                ready.message
            );
        }
        println!("Ready says: {}", ready.message);
        Ok(())
    })?;
    let agents = space.agent_pods(&space.name, "web")?;
    ensure!(agents.len() == 1, "{} agents", agents.len());
    let agent = Agent::from_pod(&agents[0])?;
    ensure!(
        agent.restarts == 0,
        "its container restarted {} times",
        agent.restarts
    );
    let status = space.plb("web")?.status.unwrap_or_default();
    let entry = status.agents.iter().find(|entry| entry.name == agent.pod);
    let told = entry.and_then(|entry| entry.reason.as_deref());
    ensure!(
        told == Some(reason::KERNEL_MODULE_MISSING),
        "the agent's entry is {entry:?}"
    );
    Ok(())
}

/// Does what the message says.
fn heals(space: &Space<'_>) -> Result<()> {
    space.lab(&format!("node exec {NODE} -- modprobe --ignore-install ip_vs"))?;
    space.wait_serving("web", "3/3").map(drop)
}
