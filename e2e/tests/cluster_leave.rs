//! Promise: an agent whose pod goes serves those who are connected to the end, and goes then.

use anyhow::{Context, Result, ensure};
use e2e::cluster::command::kubectl;
use e2e::cluster::wait::CONTAINER;
use e2e::cluster::{AGENTS, Steady, fixtures, in_namespace, until};
use std::time::{Duration, Instant};

const PLB: &str = "ports: [{name: http, port: 80, targetPort: 8080}], scheduler: {name: rr}, \
                   redundancy: {replicas: 1}, drainTimeoutSeconds: 120";
const INTERVAL: Duration = Duration::from_millis(50);
/// An agent stays 5 s in any case.
const LONGER: Duration = Duration::from_secs(9);
/// Long before its drain time is over.
const SOON: Duration = Duration::from_secs(80);

#[test]
fn who_is_connected_is_served_to_the_end() -> Result<()> {
    in_namespace("leave", |space| {
        space.apply(fixtures::WEB)?;
        space.apply(&fixtures::plb("web", PLB))?;
        let agent = space.wait_serving("web", "3/3")?.remove(0);
        // Its connections are younger than the agent's last look at all.
        let client = Steady::keep_alive(agent.at(80), INTERVAL);
        until("the client is answered", CONTAINER, || {
            ensure!(client.tally().answered() > 0, "not yet");
            Ok(())
        })?;
        kubectl(&format!("delete pod {} -n {AGENTS} --wait=false", agent.pod))?;
        let told = Instant::now();
        until("it has stayed longer than it always does", CONTAINER, || {
            ensure!(told.elapsed() > LONGER, "not yet");
            Ok(())
        })?;
        client.finish_without_loss().context("while the agent leaves")?;
        until("its pod is gone", CONTAINER, || {
            let pods = kubectl(&format!("get pods -n {AGENTS} -o name"))?;
            ensure!(!pods.contains(&agent.pod), "it is there");
            Ok(())
        })?;
        ensure!(told.elapsed() < SOON, "it took {:?}", told.elapsed());
        Ok(())
    })
}
