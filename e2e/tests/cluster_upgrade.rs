//! Promise: agents are killed, told to end, upgraded and downgraded, and nobody is cut off: the pod with its network
//! namespace, the table and the connections stays, and the next agent takes them up as they stand.
//!
//! The longest gap is told, not judged: a node of one processor stands still by itself while it starts a container.
//! Benchmarks compare it with that of traffic past the agents.

use anyhow::{Context, Result, ensure};
use e2e::cluster::wait::{CONTAINER, NOTICE};
use e2e::cluster::{AGENTS, Agent, Space, Steady, fixtures, in_namespace, install, until};
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeSet;
use std::time::Duration;

const PLB: &str = "ports: [{name: http, port: 80, targetPort: 8080}], scheduler: {name: rr}, \
                   redundancy: {replicas: 2}, drainTimeoutSeconds: 5";
const IMAGE: &str = "portable-lb/agent";
const NOW: &str = env!("CARGO_PKG_VERSION");
const NEXT: &str = "next";

#[test]
fn whatever_happens_to_agents_nobody_is_cut_off() -> Result<()> {
    in_namespace("upgrade", |space| {
        space.apply(fixtures::WEB)?;
        space.apply(&fixtures::plb("web", PLB))?;
        space.wait_serving("web", "3/3")?;
        let agents = space.agents_of("web")?;
        let clients = Clients::start(&agents)?;
        clients.answered()?;
        let tables = tables(&agents)?;

        // One is killed, the other is told to end: two ends of one container in a row would be held back by the kubelet.
        for (agent, signal) in agents.iter().zip(["SIGKILL", "SIGTERM"]) {
            let now = end(space, agent, signal)?;
            ensure!(
                tables.contains(&now.table()?),
                "{} holds another table after {signal}",
                now.pod
            );
        }
        for agent in &agents {
            tag(space, agent)?;
        }
        let outcome = change_image(space, &agents, NEXT);
        let back = change_image(space, &agents, NOW);
        outcome.and(back)?;
        clients.finish()
    })
}

/// Two clients of each agent: one with a connection that lasts, one with a new connection each time.
struct Clients(Vec<(String, Steady, Steady)>);

impl Clients {
    fn start(agents: &[Agent]) -> Result<Self> {
        let of = |agent: &Agent| {
            let lasting = Steady::stream(agent.at(80))?;
            let short = Steady::start(agent.at(80), Duration::from_millis(50));
            Ok((agent.pod.clone(), lasting, short))
        };
        agents.iter().map(of).collect::<Result<_>>().map(Self)
    }

    fn answered(&self) -> Result<()> {
        until("all clients are answered", NOTICE, || {
            let idle = |client: &Steady| client.tally().answered() == 0;
            ensure!(
                !self.0.iter().any(|(_, one, other)| idle(one) || idle(other)),
                "some are not"
            );
            Ok(())
        })
    }

    fn finish(self) -> Result<()> {
        for (agent, lasting, short) in self.0 {
            let lasting = lasting
                .finish_without_loss()
                .with_context(|| format!("the connection through {agent}"))?;
            let short = short
                .finish_without_loss()
                .with_context(|| format!("connections through {agent}"))?;
            println!(
                "{agent}: longest gap {:?} in a connection that lasts, {:?} between {} short ones",
                lasting.longest_gap,
                short.longest_gap,
                short.answered()
            );
            ensure!(
                lasting.answers.len() == 1,
                "the connection changed its server:\n{lasting}"
            );
        }
        Ok(())
    }
}

fn tables(agents: &[Agent]) -> Result<BTreeSet<BTreeSet<String>>> {
    agents.iter().map(Agent::table).collect()
}

/// Sends the agent's process a signal, and waits for the next one in the same pod.
fn end(space: &Space<'_>, agent: &Agent, signal: &str) -> Result<Agent> {
    let (node, container) = (&agent.node, &agent.container);
    space.lab(&format!(
        "node exec {node} -- ctr -n k8s.io tasks kill --signal {signal} {container}"
    ))?;
    until(&format!("the agent is back after {signal}"), CONTAINER, || {
        let now = same_pod(space, agent)?;
        ensure!(now.restarts == agent.restarts + 1, "{} restarts", now.restarts);
        Ok(now)
    })
}

fn same_pod(space: &Space<'_>, agent: &Agent) -> Result<Agent> {
    let now = space.agents_of("web")?.into_iter().find(|it| it.pod == agent.pod);
    let now = now.with_context(|| format!("{} is gone", agent.pod))?;
    ensure!(
        (&now.uid, now.ip) == (&agent.uid, agent.ip),
        "the pod was made anew"
    );
    Ok(now)
}

/// Gives the image a second name on the agent's node: for Kubernetes it is another version.
fn tag(space: &Space<'_>, agent: &Agent) -> Result<()> {
    let image = |tag| format!("docker.io/{IMAGE}:{tag}");
    let words = format!("ctr -n k8s.io images tag --force {} {}", image(NOW), image(NEXT));
    space
        .lab(&format!("node exec {} -- {words}", agent.node))
        .map(drop)
}

/// Upgrades the release to agents of this version, and waits until all of them run it, in the same pods.
fn change_image(space: &Space<'_>, agents: &[Agent], version: &str) -> Result<()> {
    let before = space.agents_of("web")?;
    install::install_with(&format!("--set agents.image.tag={version}"))?;
    for agent in agents {
        until(
            &format!("{} runs version {version}", agent.pod),
            CONTAINER,
            || {
                let now = same_pod(space, agent)?;
                let restarts = before
                    .iter()
                    .find(|it| it.pod == now.pod)
                    .map(|it| it.restarts + 1);
                ensure!(
                    Some(now.restarts) == restarts,
                    "{} restarts, expected {restarts:?}",
                    now.restarts
                );
                let runs = image(&space.get(AGENTS, &now.pod)?);
                ensure!(runs == format!("{IMAGE}:{version}"), "it runs {runs}");
                Ok(())
            },
        )?;
    }
    space.wait_serving("web", "3/3").map(drop)
}

fn image(pod: &Pod) -> String {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut images = containers.filter_map(|container| container.image.clone());
    images.next().unwrap_or_default()
}
