//! What keeps an agent from serving, read from its pod and from its own entry in the status.
//!
//! Texts that change by themselves (back-off times, counts) are left out: each change would be a write.

use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod};
use kube::ResourceExt;

use super::truth::Finding;
use crd::AgentStatus;
use crd::condition::reason;

/// Where a pod is that has no node.
const NOWHERE: &str = "no node";

/// One agent: a pod that is not going, and what it says of itself.
pub(crate) struct Agent<'a> {
    /// Its entry in the status.
    pub(crate) entry: Option<&'a AgentStatus>,
    /// Whether it serves this generation.
    pub(crate) programmed: bool,
    /// Whether its pod is ready: some good table is in its kernel.
    pub(crate) ready: bool,
    /// What is wrong with it.
    pub(crate) wrong: Option<Finding>,
    /// What it still waits for, where nothing is wrong.
    pub(crate) pending: Option<Finding>,
}

impl<'a> Agent<'a> {
    /// Judges one. `None` for a pod that is going or has ended: it is no agent any more.
    pub(crate) fn read(
        pod: &Pod,
        entry: Option<&'a AgentStatus>,
        generation: i64,
        node: Option<&Node>,
    ) -> Option<Self> {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Failed" | "Succeeded")) {
            return None;
        }
        let ready = is_ready(pod);
        let held = entry.and_then(|entry| entry.observed_generation);
        let programmed = ready && held == Some(generation);
        Some(Self {
            entry,
            programmed,
            ready,
            wrong: wrong(pod, entry, node),
            pending: (!programmed).then(|| pending(pod, ready, held, generation)),
        })
    }
}

/// Whether the pod's condition says so.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    pod_condition(pod, "Ready").is_some_and(|(status, _)| status == "True")
}

fn wrong(pod: &Pod, entry: Option<&AgentStatus>, node: Option<&Node>) -> Option<Finding> {
    // It names its node itself.
    let told = || {
        let (reason, message) = (
            entry?.reason.as_ref()?,
            entry?.message.as_deref().unwrap_or_default(),
        );
        Some(Finding::new(reason, message))
    };
    unschedulable(pod)
        .or_else(|| node_away(pod, node))
        .or_else(|| containers(pod).find_map(|status| stuck(pod, status)))
        .or_else(told)
}

fn unschedulable(pod: &Pod) -> Option<Finding> {
    let (status, message) = pod_condition(pod, "PodScheduled")?;
    let message = format!(
        "no node takes an agent: {message}; look at spec.agent.nodeSelector and resources, and at the chart's tolerations"
    );
    (status == "False").then(|| Finding::new(reason::UNSCHEDULABLE, message))
}

fn node_away(pod: &Pod, node: Option<&Node>) -> Option<Finding> {
    let conditions = node?.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    let message = format!(
        "{} is not ready; its agent is replaced on another node",
        place(pod)
    );
    (ready.status != "True").then(|| Finding::new("NodeNotReady", message))
}

fn stuck(pod: &Pod, status: &ContainerStatus) -> Option<Finding> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let said = waiting.message.as_deref().unwrap_or_default();
    let (container, place) = (&status.name, place(pod));
    match waiting.reason.as_deref()? {
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName"
        | "ImageInspectError" => {
            let image = image(pod, container).unwrap_or(&status.image);
            let cause = cause(said);
            let message = format!("{place} can't get image {image}: {cause}; check the chart's image values");
            Some(Finding::new(reason::IMAGE_PULL_FAILED, message))
        }
        "CreateContainerError" | "CreateContainerConfigError" | "RunContainerError" => {
            let message = format!("{place} can't start container {container}: {said}");
            Some(Finding::new("ContainerNotStarted", message))
        }
        "CrashLoopBackOff" => Some(Finding::new(reason::AGENT_CRASHING, crashing(pod, status))),
        _ => None,
    }
}

/// The kubelet tells the cause at first, and then the cause wrapped in its back-off. Always the same is wanted.
fn cause(said: &str) -> &str {
    said.rsplit_once("ErrImagePull: ")
        .map_or(said, |(_, cause)| cause)
}

fn crashing(pod: &Pod, status: &ContainerStatus) -> String {
    let last = status
        .last_state
        .as_ref()
        .and_then(|last| last.terminated.as_ref());
    let how = last.map_or_else(String::new, |last| {
        format!(
            " with exit code {} ({})",
            last.exit_code,
            last.reason.as_deref().unwrap_or("Error")
        )
    });
    let (container, place) = (&status.name, place(pod));
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    format!(
        "container {container} on {place} ends again and again{how}; \
         see kubectl logs --namespace {namespace} --container {container} --previous {name}"
    )
}

fn pending(pod: &Pod, ready: bool, held: Option<i64>, generation: i64) -> Finding {
    let place = place(pod);
    let message = match (ready, held) {
        _ if place == NOWHERE => "an agent waits for a node".to_owned(),
        (false, _) => format!("the agent on {place} is not ready yet"),
        (true, Some(held)) => format!("the agent on {place} still holds generation {held}, not {generation}"),
        (true, None) => format!("the agent on {place} has not told yet what it holds"),
    };
    Finding::new(reason::PENDING, message)
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.as_ref();
    let init = status.and_then(|status| status.init_container_statuses.as_ref());
    let main = status.and_then(|status| status.container_statuses.as_ref());
    init.into_iter().chain(main).flatten()
}

fn image<'a>(pod: &'a Pod, container: &str) -> Option<&'a String> {
    let spec = pod.spec.as_ref()?;
    let mut all = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten());
    all.find(|it| it.name == container)?.image.as_ref()
}

fn place(pod: &Pod) -> String {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
    node.map_or_else(|| NOWHERE.to_owned(), |node| format!("node {node}"))
}

fn pod_condition<'a>(pod: &'a Pod, type_: &str) -> Option<(&'a str, &'a str)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == type_)?;
    Some((&found.status, found.message.as_deref().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(status: &Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "plb-web-1-x", "namespace": "agents"},
            "spec": {"nodeName": "node1", "containers": [{"name": "serve", "image": "agent:9"}]},
            "status": status,
        }))
        .expect("valid")
    }

    fn waiting(reason: &str, message: &str) -> Pod {
        pod(&json!({"containerStatuses": [{
            "name": "serve", "image": "", "imageID": "", "ready": false, "restartCount": 7,
            "state": {"waiting": {"reason": reason, "message": message}},
            "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
        }]}))
    }

    fn wrong_with(pod: &Pod) -> Finding {
        let agent = Agent::read(pod, None, 1, None).expect("an agent");
        agent.wrong.expect("something is wrong")
    }

    fn ready() -> Pod {
        pod(&json!({"conditions": [{"type": "Ready", "status": "True"}]}))
    }

    #[test]
    fn a_failed_pull_reads_the_same_during_back_off() {
        let first = wrong_with(&waiting("ErrImagePull", "failed to pull: not found"));
        let text = "Back-off pulling image \"agent:9\": ErrImagePull: failed to pull: not found";
        assert_eq!(wrong_with(&waiting("ImagePullBackOff", text)), first);
        assert_eq!(first.reason, reason::IMAGE_PULL_FAILED);
        assert!(
            first.message.contains("node1") && first.message.contains("agent:9"),
            "{}",
            first.message
        );
    }

    #[test]
    fn a_crash_loop_tells_how_it_ended_and_where_to_look() {
        let finding = wrong_with(&waiting(
            "CrashLoopBackOff",
            "back-off 40s restarting failed container",
        ));
        assert_eq!(finding.reason, reason::AGENT_CRASHING);
        assert!(finding.message.contains("137 (OOMKilled)") && !finding.message.contains("40s"));
    }

    #[test]
    fn a_pod_without_a_node_tells_what_the_scheduler_says() {
        let said = "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.";
        let pod = pod(&json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": said}]}));
        let finding = wrong_with(&pod);
        assert_eq!(finding.reason, reason::UNSCHEDULABLE);
        assert!(finding.message.contains(said));
    }

    #[test]
    fn what_an_agent_says_of_itself_is_passed_on() {
        let entry = AgentStatus {
            reason: Some(reason::KERNEL_MODULE_MISSING.into()),
            message: Some("node node1: module ip_vs is missing: install linux-modules-extra".into()),
            ..AgentStatus::default()
        };
        let agent = Agent::read(&ready(), Some(&entry), 1, None).expect("an agent");
        let wrong = agent.wrong.expect("the agent said so");
        assert_eq!(wrong.reason, reason::KERNEL_MODULE_MISSING);
        assert!(wrong.message.contains("node1") && wrong.message.contains("linux-modules-extra"));
    }

    #[test]
    fn an_agent_is_programmed_when_it_is_ready_and_holds_this_generation() {
        let entry = AgentStatus {
            observed_generation: Some(3),
            ..AgentStatus::default()
        };
        let read = |pod: &Pod, generation| {
            Agent::read(pod, Some(&entry), generation, None)
                .expect("an agent")
                .programmed
        };
        assert!(read(&ready(), 3));
        assert!(!read(&ready(), 4));
        assert!(!read(&pod(&json!({})), 3));
    }

    #[test]
    fn a_pod_that_is_going_is_no_agent() {
        let mut pod = ready();
        pod.metadata.deletion_timestamp = Some(super::super::now());
        assert!(Agent::read(&pod, None, 1, None).is_none());
    }
}
