//! Promise: agents need neither the operator nor, for what they serve already, the API server.

use anyhow::{Result, ensure};
use e2e::cluster::command::kubectl;
use e2e::cluster::wait::CONTAINER;
use e2e::cluster::{Agent, Space, Steady, fixtures, in_namespace, install, ipvs, until};
use std::time::Duration;

const PLB: &str = "ports: [{name: http, port: 80, targetPort: 8080}], scheduler: {name: rr}, \
                   redundancy: {replicas: 1}, drainTimeoutSeconds: 5";
const INTERVAL: Duration = Duration::from_millis(100);
/// Requests of a client that pauses 100 ms between them: a minute's, roughly.
const A_MINUTE: usize = 550;

#[test]
fn agents_work_without_the_operator_and_the_api_server() -> Result<()> {
    in_namespace("independent", |space| {
        space.apply(fixtures::WEB)?;
        space.apply(&fixtures::plb("web", PLB))?;
        let agent = space.wait_serving("web", "3/3")?.remove(0);
        install::scale_operator(0)?;
        let outcome = without_operator(space, &agent);
        install::scale_operator(1)?;
        outcome?;
        without_api_server(space, &agent)
    })
}

fn without_operator(space: &Space<'_>, agent: &Agent) -> Result<()> {
    let client = Steady::start(agent.at(80), INTERVAL);
    for count in [4, 2] {
        let servers = space.scale("web", count)?;
        space.wait_table(agent, &ipvs::expected(ipvs::tcp_mark(80), "rr", &servers, 8080))?;
    }
    client.finish_without_loss().map(drop)
}

fn without_api_server(space: &Space<'_>, agent: &Agent) -> Result<()> {
    let client = Steady::start(agent.at(80), INTERVAL);
    space.lab("apiserver stop")?;
    let is_down = kubectl("get --raw /readyz").is_err();
    let passed = until("a minute's requests are made", CONTAINER, || {
        let made = client.tally().answered();
        ensure!(made >= A_MINUTE, "{made} requests");
        Ok(())
    });
    space.lab("apiserver start")?;
    until("the API server is back", CONTAINER, || {
        kubectl("get --raw /readyz")
    })?;
    ensure!(is_down, "the API server was not down");
    passed?;
    let servers = space.scale("web", 3)?;
    space.wait_table(agent, &ipvs::expected(ipvs::tcp_mark(80), "rr", &servers, 8080))?;
    let now = space.agents_of("web")?.remove(0);
    ensure!(now == *agent, "the agent was {agent:?} and is {now:?}");
    client.finish_without_loss().map(drop)
}
