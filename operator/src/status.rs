//! Tells users what is: folds what was observed into one status, and writes it when it has changed.

pub mod addresses;
mod backends;
mod differ;
mod drains;
pub mod malformed;
mod memory;
pub mod network;
mod patch;
mod permit;
pub mod pods;
mod refs;
mod summary;
pub mod truth;

use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Resource;
use std::time::{Duration, Instant};

use crate::causes::causes;
use crate::config::Agents;
use crate::controller::Context;
use crate::gather::Observed;
use crate::{apply, events};
use crd::condition::{self, reason};
use crd::{AgentStatus, PortableLoadBalancer, PortableLoadBalancerStatus, SchedulerName, shorten, validate};
pub(crate) use drains::Note;
pub(crate) use memory::Memory;
use pods::Agent;
use truth::{Finding, View};

/// Greatest length of a condition's message in characters.
const MESSAGE_MAX: usize = 1024;

/// What could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The balancer could not be read.
    #[error("could not read the balancer")]
    Read(#[source] kube::Error),
    /// The status was refused.
    #[error("could not write the status")]
    Write(#[source] kube::Error),
    /// The entry of an agent that is gone could not be removed.
    #[error("could not remove the entry of agent {0}")]
    Forget(String, #[source] kube::Error),
}

/// What there is to report on.
pub struct Facts<'a> {
    /// The balancer.
    pub lb: &'a PortableLoadBalancer,
    /// What there is of it.
    pub observed: &'a Observed,
    /// The administrator's settings.
    pub settings: &'a Agents,
    /// Why a child was not written.
    pub refused: Option<&'a apply::Error>,
}

/// Whether the spec can be served; with a warning where it can, but hardly should.
pub(crate) fn accept(lb: &PortableLoadBalancer, settings: &Agents) -> Result<Option<Finding>, Finding> {
    let problems: Vec<String> = validate::validate(lb).iter().map(ToString::to_string).collect();
    if !problems.is_empty() {
        return Err(Finding::new(reason::INVALID_SPEC, problems.join("; ")));
    }
    permit::check(&lb.spec, settings)?;
    let one_server = matches!(
        lb.spec.scheduler.name,
        SchedulerName::Dh | SchedulerName::Lblc | SchedulerName::Lblcr
    );
    let message = "the scheduler goes by the destination, which is always this balancer's own address: one server gets \
                   all connections; dh, lblc and lblcr are meant for transparent caches, wlc is the usual choice";
    Ok(one_server.then(|| Finding::new(reason::SCHEDULER_USES_ONE_SERVER, message)))
}

/// Writes the status if it has changed, tells transitions by Events, and removes the entries of agents that are gone.
/// Says when to look again, if no event will.
pub(crate) async fn report(context: &Context, facts: &Facts<'_>) -> Result<Option<Duration>, Error> {
    let lb = facts.lb;
    let live = lb.status.clone().unwrap_or_default();
    let mut remembered = context.memory.recall(lb);
    let before = remembered
        .conditions
        .take()
        .unwrap_or_else(|| live.conditions.clone());
    let behind = remembered.differ.look(&hashes(facts), Instant::now());
    let status = status(facts, &before, &behind);
    let about = lb.object_ref(&());
    if own_part(&live) != own_part(&status) {
        patch::status(&context.client, lb, &status)
            .await
            .map_err(Error::Write)?;
        events::publish(&context.teller, &about, &before, &status.conditions).await;
    }
    // What the store shows need not be kept twice.
    remembered.conditions = (status.conditions != live.conditions).then_some(status.conditions);
    remembered.drains.take(lb, context.memory.start());
    let notes = remembered.drains.due(lb, Instant::now());
    let again = [
        remembered.differ.wait(Instant::now()),
        remembered.drains.wait(Instant::now()),
    ];
    context.memory.keep(lb, remembered);
    events::note(&context.teller, &about, notes).await;
    patch::forget_vanished(context, facts).await?;
    Ok(again.into_iter().flatten().min())
}

/// The operator's part of a status, in an order that depends on nothing.
fn own_part(status: &PortableLoadBalancerStatus) -> PortableLoadBalancerStatus {
    let mut own = status.clone();
    own.agents.clear();
    own.conditions
        .retain(|it| condition::ALL.contains(&it.type_.as_str()));
    own.conditions.sort_by(|one, other| one.type_.cmp(&other.type_));
    own
}

/// The operator's part of the status. Pure but for the clock.
fn status(facts: &Facts<'_>, before: &[Condition], behind: &[String]) -> PortableLoadBalancerStatus {
    let Facts { lb, observed, .. } = facts;
    let agents = agents(facts);
    let entries = heard(&agents);
    let addresses = addresses::addresses(lb, observed);
    let view = view(facts, &agents, behind);
    let servers = view.servers;
    let mut conditions = before.to_vec();
    conditions.retain(|it| condition::ALL.contains(&it.type_.as_str()));
    for mut observed in view.conditions() {
        observed.message = shorten(&observed.message, MESSAGE_MAX);
        condition::set(&mut conditions, observed, lb.metadata.generation, &now());
    }
    let found = addresses.unwrap_or_default();
    let serving = agents.iter().filter(|agent| agent.programmed);
    let summary = summary::summary(summary::Columns {
        lb,
        addresses: &found,
        front: addresses::front(lb, observed),
        exposed: addresses::exposed(lb),
        servers,
        serving: serving
            .map(|agent| agent.entry.and_then(|entry| entry.node.clone()))
            .collect(),
        wanted: view.wanted,
    });
    PortableLoadBalancerStatus {
        observed_generation: lb.metadata.generation,
        conditions,
        addresses: found,
        summary: Some(summary),
        network: Some(network::network(&lb.spec, &observed.nodes, &entries)),
        agents: Vec::new(),
        endpoint_networks: permit::networks(&lb.spec, facts.settings),
        backends: backends::fold(&entries),
    }
}

fn view(facts: &Facts<'_>, agents: &[Agent<'_>], behind: &[String]) -> View {
    let Facts {
        lb,
        observed,
        settings,
        refused,
    } = facts;
    let refused = refused.map(|error| Finding::new(reason::CHILD_REFUSED, causes(error)));
    let found = addresses::addresses(lb, observed).map(|found| {
        let values: Vec<String> = found.into_iter().map(|address| address.value).collect();
        values.join(", ")
    });
    let first = |of: fn(&Agent<'_>) -> Option<Finding>| agents.iter().find_map(of);
    let broken = first(|agent| agent.wrong.clone().filter(|_| !agent.programmed));
    let serves_before = agents
        .iter()
        .any(|agent| agent.ready && agent.entry.is_some_and(|it| it.observed_generation.is_some()));
    View {
        generation: lb.metadata.generation.unwrap_or_default(),
        wanted: usize::try_from(lb.spec.redundancy.replicas).unwrap_or_default(),
        programmed: agents.iter().filter(|agent| agent.programmed).count(),
        accepted: accept(lb, settings).map_err(|finding| keeps_serving(&finding, serves_before)),
        refs: refs::resolve(lb, observed.backend.as_deref()),
        addresses: found.map_err(|pending| refused.clone().unwrap_or(pending)),
        blocker: broken
            .or_else(|| refused.clone())
            .or_else(|| observed.agents.as_deref().and_then(pods_refused))
            .or_else(|| first(|agent| agent.pending.clone())),
        trouble: refused
            .or_else(|| differ::finding(behind))
            .or_else(|| first(|agent| agent.wrong.clone())),
        servers: backends::counts(&heard(agents)),
    }
}

fn keeps_serving(finding: &Finding, serves: bool) -> Finding {
    let after = match finding.reason.as_str() {
        _ if !serves => "",
        reason::ENDPOINT_NOT_ALLOWED => {
            "; the previous configuration keeps serving, as far as its servers are inside these networks"
        }
        _ => "; the previous configuration keeps serving",
    };
    Finding::new(&finding.reason, format!("{}{after}", finding.message))
}

fn agents<'a>(facts: &'a Facts<'_>) -> Vec<Agent<'a>> {
    let Facts { lb, observed, .. } = facts;
    let generation = lb.metadata.generation.unwrap_or_default();
    let node_of = |pod: &Pod| {
        let name = pod.spec.as_ref()?.node_name.as_ref()?;
        observed
            .nodes
            .iter()
            .find(|node| node.metadata.name.as_ref() == Some(name))
    };
    let read = |pod: &'a std::sync::Arc<Pod>| {
        Agent::read(pod, entry(lb, pod), generation, node_of(pod).map(AsRef::as_ref))
    };
    observed.pods.iter().filter_map(read).collect()
}

fn entry<'a>(lb: &'a PortableLoadBalancer, pod: &Pod) -> Option<&'a AgentStatus> {
    let entries = &lb.status.as_ref()?.agents;
    entries
        .iter()
        .find(|entry| Some(&entry.name) == pod.metadata.name.as_ref())
}

/// The entries to believe: of agents that serve this generation, else of all that are ready.
fn heard<'a>(agents: &[Agent<'a>]) -> Vec<&'a AgentStatus> {
    let of = |wanted: fn(&&Agent<'_>) -> bool| -> Vec<&'a AgentStatus> {
        agents
            .iter()
            .filter(wanted)
            .filter_map(|agent| agent.entry)
            .collect()
    };
    let programmed = of(|agent| agent.programmed);
    if programmed.is_empty() {
        of(|agent| agent.ready)
    } else {
        programmed
    }
}

/// Why the `ReplicaSet` can't make pods: a quota, say, or pod security.
fn pods_refused(agents: &ReplicaSet) -> Option<Finding> {
    let conditions = agents.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions
        .iter()
        .find(|it| it.type_ == "ReplicaFailure" && it.status == "True")?;
    let said = failure.message.as_deref().unwrap_or_default();
    Some(Finding::new(
        reason::CHILD_REFUSED,
        format!("the agents' pods are refused: {said}"),
    ))
}

/// The tables of the agents that serve this generation.
fn hashes(facts: &Facts<'_>) -> differ::Hashes {
    let agents = agents(facts);
    let serving = agents.iter().filter(|agent| agent.programmed);
    let hash = |entry: &AgentStatus| Some((entry.name.clone(), entry.table_hash.clone()?));
    serving.filter_map(|agent| hash(agent.entry?)).collect()
}

/// Whole seconds, as objects have them.
pub(crate) fn now() -> Time {
    let seconds = Timestamp::now().as_second();
    Time(Timestamp::from_second(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests;
