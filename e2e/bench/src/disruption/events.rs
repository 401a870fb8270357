//! What happens: a list of events, each with a function of its own. Whatever else is to be measured, such as an address
//! that moves to another agent, is one more entry.
#![allow(clippy::disallowed_methods, reason = "some things are to last")]

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::command::kubectl;
use e2e::cluster::wait::CONTAINER;
use e2e::cluster::{AGENTS, Agent, install, until};
use k8s_openapi::api::core::v1::Pod;

use super::stage::Stage;
use crate::plan::Plan;
use crate::stage::node::NODES;

/// By which way clients of ours come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To the address of the agent that it happens to.
    Agent,
    /// By the Service in front of both agents.
    Service,
    /// To the address of an agent that does not run on the node that dies.
    Elsewhere,
}

/// What one event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// It happens to one agent of each balancer, after one another.
    Balancer,
    /// It happens to all agents, after one another.
    Agent,
    /// It happens to the cluster: to all balancers at once.
    Cluster,
}

impl Scope {
    /// How often it has happened when a round is over.
    pub(super) fn times(self, balancers: usize) -> usize {
        match self {
            Self::Balancer => balancers,
            Self::Agent => 2 * balancers,
            Self::Cluster => 1,
        }
    }

    /// Clients of a kind and way for each balancer: each notices another agent.
    pub(super) fn clients(self) -> usize {
        match self {
            Self::Balancer | Self::Cluster => 1,
            Self::Agent => 2,
        }
    }
}

/// Something that happens, and is noticed by clients of all balancers.
pub(super) struct Event {
    /// For the table.
    pub(super) name: &'static str,
    /// What happens to kube-proxy meanwhile, if it is not the same.
    pub(super) to_rival: &'static str,
    /// The ways of ours; the first is compared with the rival's.
    pub(super) ways: &'static [Way],
    /// To whom it happens.
    pub(super) scope: Scope,
    /// Whether it is short enough for a quick run.
    pub(super) is_quick: bool,
    /// Makes it happen, and waits until all is as before. Given the agents of each balancer.
    pub(super) run: fn(&Stage<'_, '_>, &[[Agent; 2]]) -> Result<()>,
}

/// How often each event is to happen.
const TIMES: usize = 20;
/// How often something can happen to the cluster, which takes a minute or more, within an hour for everything.
const AFFORDABLE: usize = 2;

impl Event {
    /// In how many of the first rounds it happens.
    pub(super) fn rounds(&self, plan: Plan, balancers: usize) -> usize {
        let wanted = TIMES.div_ceil(self.scope.times(balancers));
        match plan {
            Plan::Full if self.scope == Scope::Cluster => AFFORDABLE,
            Plan::Full | Plan::Long(_) => wanted,
            Plan::Quick => usize::from(self.is_quick),
        }
    }
}

/// All of them.
pub(super) const ALL: [Event; 6] = [
    Event {
        name: "agent's container killed",
        to_rival: "kube-proxy of the client's node killed",
        ways: &[Way::Agent, Way::Service],
        scope: Scope::Balancer,
        is_quick: true,
        run: kill_containers,
    },
    Event {
        name: "agent's pod deleted",
        to_rival: "kube-proxy of the client's node told to end",
        ways: &[Way::Service],
        scope: Scope::Balancer,
        is_quick: false,
        run: delete_pods,
    },
    Event {
        name: "agent's image changed",
        to_rival: "kube-proxy of the client's node told to end",
        ways: &[Way::Agent, Way::Service],
        scope: Scope::Agent,
        is_quick: false,
        run: change_image,
    },
    Event {
        name: "servers rolled",
        to_rival: "",
        ways: &[Way::Agent],
        scope: Scope::Cluster,
        is_quick: false,
        run: roll,
    },
    Event {
        name: "API server away",
        to_rival: "",
        ways: &[Way::Agent],
        scope: Scope::Cluster,
        is_quick: false,
        run: stop_api_server,
    },
    Event {
        name: "node of a server killed",
        to_rival: "",
        ways: &[Way::Elsewhere],
        scope: Scope::Cluster,
        is_quick: false,
        run: kill_node,
    },
];

/// How long the API server stays away.
const AWAY: Duration = Duration::from_mins(1);
/// The node that dies.
pub(super) const VICTIM: &str = "node3";
/// How long it is dead: longer than it takes the cluster to notice.
const DEAD: Duration = Duration::from_mins(1);

/// The first agent of each balancer, in groups with one on each node at most: containers that start at the same time
/// would share a node's only processor.
fn by_nodes(agents: &[[Agent; 2]]) -> Vec<Vec<&Agent>> {
    let mut groups: Vec<Vec<&Agent>> = Vec::new();
    for [agent, _] in agents {
        let is_free = |group: &&mut Vec<&Agent>| group.iter().all(|other| other.node != agent.node);
        match groups.iter_mut().find(is_free) {
            Some(group) => group.push(agent),
            None => groups.push(vec![agent]),
        }
    }
    groups
}

fn kill_containers(stage: &Stage<'_, '_>, agents: &[[Agent; 2]]) -> Result<()> {
    stage.signal_kube_proxy("KILL")?;
    for group in by_nodes(agents) {
        for Agent { node, container, .. } in &group {
            let words = format!("node exec {node} -- ctr -n k8s.io tasks kill --signal SIGKILL {container}");
            stage.space.lab(&words)?;
        }
        for agent in group {
            until(&format!("{} is back", agent.pod), CONTAINER, || {
                let now = Agent::from_pod(&stage.space.get(AGENTS, &agent.pod)?)?;
                ensure!(now.restarts > agent.restarts, "it was not started again");
                Ok(())
            })?;
        }
        stage.wait_whole()?;
    }
    Ok(())
}

fn delete_pods(stage: &Stage<'_, '_>, agents: &[[Agent; 2]]) -> Result<()> {
    stage.signal_kube_proxy("TERM")?;
    for group in by_nodes(agents) {
        let pods: Vec<&str> = group.iter().map(|agent| agent.pod.as_str()).collect();
        let pods = pods.join(" ");
        kubectl(&format!("--namespace {AGENTS} delete pod {pods} --timeout=120s"))?;
        stage.wait_whole()?;
    }
    Ok(())
}

const IMAGE: &str = "portable-lb/agent";
const NOW: &str = env!("CARGO_PKG_VERSION");
const NEXT: &str = "next";

/// Gives the image its other name on a node.
fn name_next(stage: &Stage<'_, '_>, node: &str) -> Result<()> {
    let image = |tag| format!("docker.io/{IMAGE}:{tag}");
    let words = format!("ctr -n k8s.io images tag --force {} {}", image(NOW), image(NEXT));
    stage.space.lab(&format!("node exec {node} -- {words}")).map(drop)
}

/// The image that an agent's pod is to run.
fn image(pod: &Pod) -> Option<&str> {
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.find_map(|it| it.image.as_deref())
}

/// To the other name of the image. For Kubernetes that is another version.
fn change_image(stage: &Stage<'_, '_>, agents: &[[Agent; 2]]) -> Result<()> {
    // A pod that is made anew may come to any of them.
    NODES.iter().try_for_each(|node| name_next(stage, node))?;
    let [first, _] = agents.first().context("no balancer")?;
    let pod = stage.space.get(AGENTS, &first.pod)?;
    let is_next = image(&pod).is_some_and(|image| image.ends_with(NEXT));
    let version = if is_next { NOW } else { NEXT };
    stage.signal_kube_proxy("TERM")?;
    install::install_with(&format!("--set agents.image.tag={version}"))?;
    for agent in agents.iter().flatten() {
        until(
            &format!("{} runs version {version}", agent.pod),
            CONTAINER,
            || {
                let pod = stage.space.get(AGENTS, &agent.pod)?;
                let image = image(&pod);
                ensure!(image == Some(&format!("{IMAGE}:{version}")), "it runs {image:?}");
                let now = Agent::from_pod(&pod)?;
                ensure!(
                    now.restarts > agent.restarts,
                    "its container was not started again"
                );
                Ok(())
            },
        )?;
    }
    stage.wait_whole()
}

fn roll(stage: &Stage<'_, '_>, _: &[[Agent; 2]]) -> Result<()> {
    let space = stage.space;
    let before = pods(stage)?;
    space.kubectl("rollout restart deployment/web")?;
    space.kubectl("rollout status deployment/web --timeout 180s")?;
    until("the servers from before are gone", CONTAINER, || {
        let left = pods(stage)?.intersection(&before).count();
        ensure!(left == 0, "{left} are left");
        Ok(())
    })?;
    stage.wait_whole()
}

fn pods(stage: &Stage<'_, '_>) -> Result<BTreeSet<String>> {
    let names = stage
        .space
        .kubectl("get pods -l app=web -o jsonpath={.items[*].metadata.name}")?;
    Ok(names.split_whitespace().map(str::to_owned).collect())
}

fn stop_api_server(stage: &Stage<'_, '_>, _: &[[Agent; 2]]) -> Result<()> {
    stage.space.lab("apiserver stop")?;
    let is_down = kubectl("get --raw /readyz").is_err();
    thread::sleep(AWAY);
    stage.space.lab("apiserver start")?;
    ensure!(is_down, "the API server was not down");
    until("the API server is back", CONTAINER, || {
        kubectl("get --raw /readyz")
    })?;
    stage.wait_whole()
}

fn kill_node(stage: &Stage<'_, '_>, _: &[[Agent; 2]]) -> Result<()> {
    stage.space.lab(&format!("node stop {VICTIM}"))?;
    thread::sleep(DEAD);
    stage
        .space
        .lab(&format!("node start {VICTIM}"))
        .context("the node is to be started again")?;
    // Its images are those of the archives again, and agents may run by the other name.
    name_next(stage, VICTIM)?;
    stage.wait_whole()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn each_event_happens_twenty_times_if_there_is_time() {
        const BALANCERS: usize = 5;
        for event in &ALL {
            let times = |plan| event.rounds(plan, BALANCERS) * event.scope.times(BALANCERS);
            let within_an_hour = if event.scope == Scope::Cluster { 2 } else { 20 };
            assert_eq!(
                (times(Plan::Long(DEAD)), times(Plan::Full)),
                (20, within_an_hour),
                "{}",
                event.name
            );
        }
    }

    #[test]
    fn no_node_has_two_at_a_time() {
        let agent = |pod: &str, node: &str| Agent {
            pod: pod.to_owned(),
            uid: String::new(),
            ip: Ipv4Addr::LOCALHOST,
            node: node.to_owned(),
            node_ip: Ipv4Addr::LOCALHOST,
            restarts: 0,
            container: String::new(),
        };
        let pairs = [("a", "1"), ("b", "1"), ("c", "2"), ("d", "1")];
        let pairs = pairs.map(|(pod, node)| [agent(pod, node), agent("other", "3")]);
        let groups: Vec<Vec<&str>> = by_nodes(&pairs)
            .iter()
            .map(|group| group.iter().map(|agent| agent.pod.as_str()).collect())
            .collect();
        assert_eq!(groups, [vec!["a", "c"], vec!["b"], vec!["d"]]);
    }
}
