//! Promise: a Deployment is rolled under load without a failed request, UDP flows move, and the end of each server is
//! told: which connections ended by themselves, and which were cut.

use anyhow::{Context, Result, ensure};
use e2e::cluster::wait::{CONTAINER, NOTICE};
use e2e::cluster::{Agent, Space, Steady, fixtures, in_namespace, until};
use e2e::pod::client::{Connection, Tally};
use e2e::pod::field;
use std::collections::BTreeSet;
use std::io::Read;
use std::time::Duration;

const PLB: &str = "ports: [{name: http, port: 80, targetPort: 8080}, {name: echo, port: 81, protocol: UDP, targetPort: 8081}], \
                   scheduler: {name: rr}, redundancy: {replicas: 1}, drainTimeoutSeconds: 20";
const IMPATIENT: &str = r#"patch plb web --type merge -p {"spec":{"drainTimeoutSeconds":2}}"#;
const INTERVAL: Duration = Duration::from_millis(20);
/// UDP flows stay for 5 s on a server that goes, and lose what is on its way when they move.
const MOVE: Duration = Duration::from_secs(8);

#[test]
fn a_deployment_is_rolled_without_a_failed_request() -> Result<()> {
    in_namespace("roll", |space| {
        space.apply(fixtures::ROLL)?;
        space.apply(&fixtures::plb("web", PLB))?;
        let agent = space.wait_serving("web", "4/4")?.remove(0);
        roll(space, &agent)?;
        ends_are_told(space, &agent)?;
        cut_connections_are_told(space, &agent)
    })
}

fn roll(space: &Space<'_>, agent: &Agent) -> Result<()> {
    let before = pods(space)?;
    let clients = [
        Steady::start(agent.at(80), INTERVAL),
        Steady::start(agent.at(80), INTERVAL),
        Steady::keep_alive(agent.at(80), INTERVAL),
        Steady::keep_alive(agent.at(80), INTERVAL),
        Steady::keep_alive(agent.at(80), Duration::from_secs(1)),
    ];
    let flow = Steady::udp(agent.at(81), INTERVAL)?;
    space.kubectl("rollout restart deployment/web")?;
    space.kubectl("rollout status deployment/web --timeout 120s")?;
    until("the pods from before are gone", CONTAINER, || {
        let left: Vec<_> = pods(space)?.intersection(&before).cloned().collect();
        ensure!(left.is_empty(), "left: {left:?}");
        Ok(())
    })?;
    space.wait_serving("web", "4/4")?;
    let mut answered = 0;
    for client in clients {
        let tally = client.finish_without_loss()?;
        answering(&tally, &before)?;
        answered += tally.answered();
    }
    println!(
        "{answered} requests while {} pods were replaced, none failed",
        before.len()
    );
    flow_moved(&flow.finish()?, &before)
}

/// The names of the pods that answered, of which some must be new.
fn answering(tally: &Tally, before: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let lines = tally.answers.keys();
    let names: BTreeSet<String> = lines
        .filter_map(|line| field(line, "pod").map(str::to_owned))
        .collect();
    ensure!(!names.is_subset(before), "no new pod answered:\n{tally}");
    Ok(names)
}

fn flow_moved(flow: &Tally, before: &BTreeSet<String>) -> Result<()> {
    let names = answering(flow, before)?;
    ensure!(
        flow.longest_gap < MOVE,
        "the flow stood still for {:?}:\n{flow}",
        flow.longest_gap
    );
    println!(
        "the UDP flow moved over {} pods: {} answers, {} lost, longest gap {:?}",
        names.len(),
        flow.answered(),
        flow.failures.len(),
        flow.longest_gap
    );
    Ok(())
}

fn ends_are_told(space: &Space<'_>, agent: &Agent) -> Result<()> {
    let metrics = agent.metrics()?;
    ensure!(
        counted(&metrics, "drains_total{outcome=\"Finished\"}") >= 2,
        "{metrics}"
    );
    ensure!(
        counted(&metrics, "drains_total{outcome=\"Moved\"}") >= 1,
        "{metrics}"
    );
    ensure!(counted(&metrics, "cut_connections_total") == 0, "{metrics}");
    let note = event(space, "DrainFinished")?;
    println!("{note}");
    ensure!(space.kubectl(&events("DrainCut"))?.is_empty(), "a cut is told");
    Ok(())
}

fn cut_connections_are_told(space: &Space<'_>, agent: &Agent) -> Result<()> {
    space.kubectl(IMPATIENT)?;
    space.wait_serving("web", "4/4")?;
    let mut first = Connection::open(agent.at(80))?;
    let server = first.get("/")?;
    let pod = field(&server, "pod").context("a pod's name")?.to_owned();
    first.start("/download?bytes=1000000&rate=50000")?;
    space.kubectl(&format!("delete pod {pod} --wait=false"))?;
    let broken = first.read_to_end(&mut Vec::new());
    ensure!(broken.is_err(), "the download was not cut: {broken:?}");
    let note = event(space, "DrainCut")?;
    println!("{note}");
    let ip = field(&server, "ip").context("an address")?;
    ensure!(
        note.contains(ip) && note.contains("drainTimeoutSeconds"),
        "{note}"
    );
    let metrics = agent.metrics()?;
    ensure!(
        counted(&metrics, "drains_total{outcome=\"Cut\"}") == 1,
        "{metrics}"
    );
    ensure!(counted(&metrics, "cut_connections_total") == 1, "{metrics}");
    Ok(())
}

fn pods(space: &Space<'_>) -> Result<BTreeSet<String>> {
    let names = space.kubectl("get pods -l app=web -o jsonpath={.items[*].metadata.name}")?;
    Ok(names.split_whitespace().map(str::to_owned).collect())
}

fn events(reason: &str) -> String {
    let of = format!("involvedObject.kind=PortableLoadBalancer,reason={reason}");
    format!("get events --field-selector {of} -o jsonpath={{.items[*].message}}")
}

fn event(space: &Space<'_>, reason: &str) -> Result<String> {
    until(&format!("the Event {reason} is there"), NOTICE, || {
        let note = space.kubectl(&events(reason))?;
        ensure!(!note.is_empty(), "there is none");
        Ok(note)
    })
}

fn counted(metrics: &str, series: &str) -> u64 {
    let value = |line: &str| {
        line.strip_prefix("portable_lb_agent_")?
            .strip_prefix(series)?
            .trim()
            .parse()
            .ok()
    };
    metrics.lines().find_map(value).unwrap_or_default()
}
