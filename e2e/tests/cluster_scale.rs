//! Promise: the table follows the backends as they come and go, at once and without a lost request.

use anyhow::{Result, ensure};
use e2e::cluster::wait::NOTICE;
use e2e::cluster::{Steady, fixtures, in_namespace, ipvs, until};
use e2e::pod::field;
use std::collections::BTreeSet;
use std::time::Duration;

const PLB: &str = "ports: [{name: http, port: 80, targetPort: 8080}], scheduler: {name: rr}, \
                   redundancy: {replicas: 1}, drainTimeoutSeconds: 10";

#[test]
fn the_table_follows_and_no_request_is_lost() -> Result<()> {
    in_namespace("scale", |space| {
        space.apply(fixtures::WEB)?;
        space.apply(&fixtures::plb("web", PLB))?;
        let agent = space.wait_serving("web", "3/3")?.remove(0);
        let client = Steady::start(agent.at(80), Duration::from_millis(20));
        let mut addresses = BTreeSet::new();
        for count in [1, 5] {
            let servers = space.scale("web", count)?;
            space.wait_table(&agent, &ipvs::expected(ipvs::tcp_mark(80), "rr", &servers, 8080))?;
            addresses = servers.iter().map(ToString::to_string).collect();
        }
        until("all five have answered", NOTICE, || {
            let tally = client.tally();
            let seen: BTreeSet<_> = tally
                .answers
                .keys()
                .filter_map(|line| field(line, "ip"))
                .map(str::to_owned)
                .collect();
            ensure!(
                seen.is_superset(&addresses),
                "{addresses:?} should have answered:\n{tally}"
            );
            Ok(())
        })?;
        let tally = client.finish_without_loss()?;
        println!("{} requests, none lost", tally.answered());
        tell_latency(&agent.metrics()?)
    })
}

/// Prints how long changes took from the `EndpointSlice` to the kernel, as the agent measured it.
fn tell_latency(metrics: &str) -> Result<()> {
    let value = |suffix: &str| {
        let name = format!("portable_lb_agent_programming_latency_seconds_{suffix} ");
        metrics
            .lines()
            .find_map(|line| line.strip_prefix(&name)?.trim().parse::<f64>().ok())
    };
    let (Some(sum), Some(count)) = (value("sum"), value("count")) else {
        anyhow::bail!("no programming latency among the agent's metrics:\n{metrics}");
    };
    ensure!(count > 0.0, "no change was measured:\n{metrics}");
    println!(
        "from EndpointSlice to kernel: {:.1} ms on average over {count} changes",
        sum / count * 1000.0
    );
    Ok(())
}
