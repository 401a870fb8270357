//! What there is to know about a test that failed.

use super::command::kubectl;
use super::{AGENTS, Agent, OPERATOR, RELEASE, Space};
use k8s_openapi::api::core::v1::Pod;

/// Prints the namespace's balancers, their agents with logs and tables, and the operator's log.
pub fn print(space: &Space<'_>) {
    let mine = format!("{}={}", crd::names::NAMESPACE_LABEL, space.name);
    let name = &space.name;
    let commands = [
        format!("get plb -n {name} -o yaml"),
        format!("get pods,services,endpointslices -n {name} -o wide"),
        format!("get events -n {name} --sort-by=.lastTimestamp"),
        format!("get all -n {AGENTS} -l {mine} -o wide"),
        format!("get events -n {AGENTS} --sort-by=.lastTimestamp"),
        format!("logs -n {AGENTS} -l {mine} --all-containers --prefix --tail=60"),
        format!("logs -n {RELEASE} deployment/{OPERATOR} --tail=60"),
    ];
    for command in commands {
        let said = kubectl(&command).unwrap_or_else(|error| format!("{error:#}\n"));
        eprintln!("--- kubectl {command}\n{said}");
    }
    let pods: Vec<Pod> = space.list(AGENTS, &mine).unwrap_or_default();
    for agent in pods.iter().filter_map(|pod| Agent::from_pod(pod).ok()) {
        let table = agent.exec("ipvsadm -Ln --stats");
        let table = table.unwrap_or_else(|error| format!("{error:#}\n"));
        eprintln!("--- {} on {}\n{table}", agent.pod, agent.node);
    }
}
