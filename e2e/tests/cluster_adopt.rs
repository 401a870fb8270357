//! Promise: an agent that is killed cuts nobody off, and its successor takes up the table as it stands.

use anyhow::{Result, anyhow, ensure};
use e2e::cluster::wait::{CONTAINER, NOTICE};
use e2e::cluster::{Agent, Space, Steady, fixtures, in_namespace, until};
use e2e::pod::client::Connection;
use std::io::Read;
use std::net::SocketAddr;
use std::thread::{self, JoinHandle};
use std::time::Duration;

const PLB: &str =
    "ports: [{name: http, port: 80, targetPort: 8080}], scheduler: {name: rr}, redundancy: {replicas: 1}";
/// 40 s long, which is more than a container takes to come back.
const DOWNLOAD: &str = "/download?bytes=2000000&rate=50000";

#[test]
fn a_killed_agent_cuts_nobody_off() -> Result<()> {
    in_namespace("adopt", |space| {
        space.apply(fixtures::WEB)?;
        space.apply(&fixtures::plb("web", PLB))?;
        let agent = space.wait_serving("web", "3/3")?.remove(0);
        let download = start_download(agent.at(80))?;
        let steady = Steady::start(agent.at(80), Duration::from_millis(50));
        let counted = until("connections are counted", NOTICE, || {
            let counted: u64 = agent.connections()?.values().sum();
            ensure!(counted > 0, "none is counted");
            Ok(counted)
        })?;
        let table = agent.table()?;

        let restarted = kill(space, &agent)?;
        ensure!(
            !download.is_finished(),
            "the download was over before the agent was back"
        );
        ensure!(
            restarted.table()? == table,
            "the table changed from {table:#?} to {:#?}",
            restarted.table()
        );
        let answered = u64::try_from(steady.finish_without_loss()?.answered())?;
        until("the counters go on", NOTICE, || {
            let now: u64 = restarted.connections()?.values().sum();
            // The download, and all of the steady client's; a table made anew would have lost the first ones.
            ensure!(
                now == answered + 1,
                "{counted} connections before, {now} now, {answered} requests"
            );
            Ok(())
        })?;
        let length = download.join().map_err(|_| anyhow!("the download panicked"))??;
        ensure!(length == 2_000_000, "the download broke off after {length} bytes");
        Ok(())
    })
}

fn start_download(address: SocketAddr) -> Result<JoinHandle<std::io::Result<usize>>> {
    let mut connection = Connection::open(address)?;
    connection.start(DOWNLOAD)?;
    Ok(thread::spawn(move || connection.read_to_end(&mut Vec::new())))
}

fn kill(space: &Space<'_>, agent: &Agent) -> Result<Agent> {
    let container = &agent.container;
    space.lab(&format!(
        "node exec {} -- ctr -n k8s.io tasks kill --signal SIGKILL {container}",
        agent.node
    ))?;
    until("the agent is back", CONTAINER, || {
        let now = space.agents_of("web")?.remove(0);
        ensure!(now.uid == agent.uid, "the pod was replaced, not its container");
        ensure!(now.restarts == agent.restarts + 1, "{} restarts", now.restarts);
        Ok(now)
    })
}
