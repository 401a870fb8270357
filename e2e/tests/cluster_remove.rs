//! Promise: a deleted balancer leaves nothing; an uninstalled operator leaves balancers serving; and neither ever
//! holds up the deletion of a namespace.

use anyhow::{Result, ensure};
use crd::names;
use e2e::cluster::command::{helm, kubectl};
use e2e::cluster::wait::CONTAINER;
use e2e::cluster::{AGENTS, RELEASE, Space, Steady, fixtures, in_namespace, install, ipvs, until};
use std::time::Duration;

const PLB: &str = "ports: [{name: http, port: 80, targetPort: 8080}], scheduler: {name: rr}, \
                   redundancy: {replicas: 1}, drainTimeoutSeconds: 5";
const MORE: &str = "ports: [{name: http, port: 80, targetPort: 8080}, {name: more, port: 81, targetPort: 8080}], \
                    scheduler: {name: rr}, redundancy: {replicas: 1}, drainTimeoutSeconds: 5";

#[test]
fn nothing_is_left_and_nothing_hangs() -> Result<()> {
    in_namespace("remove", |space| {
        a_deleted_balancer_leaves_nothing(space)?;
        a_namespace_goes_with_its_balancer(space)?;
        let outcome = without_a_release(space);
        install::ensure_installed()?;
        let orphan = outcome?;
        the_release_takes_over(space)?;
        nothing_is_left(&orphan)?;
        helm(&format!("test {RELEASE} --namespace {RELEASE} --timeout 4m")).map(drop)
    })
}

fn a_deleted_balancer_leaves_nothing(space: &Space<'_>) -> Result<()> {
    space.apply(fixtures::WEB)?;
    space.apply(&fixtures::plb("web", PLB))?;
    space.wait_serving("web", "3/3")?;
    space.kubectl("delete plb web --timeout=20s")?;
    nothing_is_left(space)?;
    until("its role binding is gone", CONTAINER, || {
        let left = space.kubectl("get rolebindings -o name")?;
        ensure!(left.is_empty(), "left: {left}");
        Ok(())
    })
}

fn a_namespace_goes_with_its_balancer(space: &Space<'_>) -> Result<()> {
    let other = space.another("going")?;
    other.apply(&fixtures::plb("web", PLB))?;
    until("it has an agent", CONTAINER, || other.agents_of("web"))?;
    kubectl(&format!("delete namespace {} --timeout=60s", other.name))?;
    nothing_is_left(&other)
}

/// Uninstalls; returns a namespace that was deleted meanwhile, with a balancer in it.
fn without_a_release<'a>(space: &Space<'a>) -> Result<Space<'a>> {
    space.apply(&fixtures::plb("web", PLB))?;
    let orphan = space.another("orphan")?;
    orphan.apply(&fixtures::plb("web", PLB))?;
    let agents = space.wait_serving("web", "3/3")?;
    until("the other has an agent", CONTAINER, || orphan.agents_of("web"))?;
    let client = Steady::start(agents[0].at(80), Duration::from_millis(50));
    install::uninstall()?;
    kubectl(&format!("delete namespace {} --timeout=60s", orphan.name))?;
    let now = space.agents_of("web")?;
    ensure!(now == agents, "the agents were {agents:?} and are {now:?}");
    client.finish_without_loss()?;
    Ok(orphan)
}

fn the_release_takes_over(space: &Space<'_>) -> Result<()> {
    let before = space.agents_of("web")?;
    let client = Steady::start(before[0].at(80), Duration::from_millis(50));
    space.apply(&fixtures::plb("web", MORE))?;
    let now = space.wait_serving("web", "6/6")?;
    ensure!(now == before, "the agents were {before:?} and are {now:?}");
    let servers = space.wait_servers("web", 3)?;
    let mut expected = ipvs::expected(ipvs::tcp_mark(80), "rr", &servers, 8080);
    expected.extend(ipvs::expected(ipvs::tcp_mark(81), "rr", &servers, 8080));
    space.wait_table(&now[0], &expected)?;
    client.finish_without_loss().map(drop)
}

fn nothing_is_left(space: &Space<'_>) -> Result<()> {
    let labels = format!("{}={}", names::NAMESPACE_LABEL, space.name);
    let kinds = "pods,replicasets,services,endpointslices,poddisruptionbudgets,serviceaccounts";
    until("nothing is left in the agents' namespace", CONTAINER, || {
        let left = kubectl(&format!("get {kinds} -n {AGENTS} -l {labels} -o name"))?;
        ensure!(left.is_empty(), "left: {left}");
        Ok(())
    })
}
