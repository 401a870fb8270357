//! Promise: a changed spec is applied by difference; what did not change is not touched.

use anyhow::{Context, Result, ensure};
use e2e::cluster::wait::NOTICE;
use e2e::cluster::{Agent, Steady, fixtures, in_namespace, ipvs, until};
use e2e::pod::client::{self, Connection};
use std::time::Duration;

const BEFORE: &str = "ports: [{name: a, port: 80, targetPort: 8080}, {name: b, port: 81, targetPort: 8080}], \
                      scheduler: {name: rr}, redundancy: {replicas: 1}, drainTimeoutSeconds: 5";
const AFTER: &str = "ports: [{name: b, port: 81, targetPort: 8080}, {name: c, port: 82, targetPort: 8080}], \
                     scheduler: {name: lc}, redundancy: {replicas: 1}, drainTimeoutSeconds: 5";

#[test]
fn other_ports_keep_their_connections() -> Result<()> {
    in_namespace("change", |space| {
        space.apply(fixtures::WEB)?;
        space.apply(&fixtures::plb("web", BEFORE))?;
        let agent = space.wait_serving("web", "6/6")?.remove(0);
        let servers = space.wait_servers("web", 3)?;
        let mut kept = Connection::open(agent.at(81))?;
        let server = kept.get("/")?;
        let client = Steady::start(agent.at(81), Duration::from_millis(20));
        client::get(agent.at(80), "/").context("port 80 before the change")?;
        let counted = until("connections are counted", NOTICE, || {
            let counted = counted_on_81(&agent)?;
            ensure!(counted > 0, "none is counted");
            Ok(counted)
        })?;

        space.apply(&fixtures::plb("web", AFTER))?;
        let mut expected = ipvs::expected(ipvs::tcp_mark(81), "lc", &servers, 8080);
        expected.extend(ipvs::expected(ipvs::tcp_mark(82), "lc", &servers, 8080));
        space.wait_table(&agent, &expected)?;
        space.wait_serving("web", "6/6")?;

        ensure!(
            kept.get("/").context("the connection that was open before")? == server,
            "another server"
        );
        client.finish_without_loss()?;
        client::get(agent.at(82), "/").context("the added port")?;
        ensure!(
            client::get(agent.at(80), "/").is_err(),
            "the removed port still answers"
        );
        let now = counted_on_81(&agent)?;
        ensure!(
            now >= counted,
            "port 81 was made anew: {counted} connections before, {now} now"
        );
        let same = space.agents_of("web")?.remove(0);
        ensure!(same == agent, "the agent was {agent:?} and is {same:?}");
        Ok(())
    })
}

fn counted_on_81(agent: &Agent) -> Result<u64> {
    let all = agent.connections()?;
    Ok(all
        .iter()
        .filter(|((mark, _), _)| *mark == ipvs::tcp_mark(81))
        .map(|(_, count)| count)
        .sum())
}
