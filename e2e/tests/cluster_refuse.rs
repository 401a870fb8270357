//! Promise: what can't be meant is refused with its place in the object; what can't work yet says so, and harms
//! nobody else.

use anyhow::{Result, bail, ensure};
use crd::condition::{self, reason};
use e2e::cluster::wait::CONTAINER;
use e2e::cluster::{Space, Steady, fixtures, in_namespace, install, ipvs, request, until};
use std::time::Duration;

const GOOD: &str = "ports: [{name: http, port: 80, targetPort: 8080}], redundancy: {replicas: 1}";
/// A spec beside its backends, and the field that is named in the refusal.
const BAD: [(&str, &str); 8] = [
    ("ports: []", "spec.ports"),
    ("ports: [{name: http, port: 70000}]", "spec.ports[0].port"),
    ("ports: [{name: http, port: 9913}]", "spec.ports[0].port"),
    ("ports: [{name: a, port: 80}, {name: b, port: 80}]", "spec.ports"),
    (
        "ports: [{name: http, port: 80}], scheduler: {name: fastest}",
        "spec.scheduler.name",
    ),
    (
        "ports: [{name: http, port: 80}], redundancy: {replicas: 9}",
        "spec.redundancy.replicas",
    ),
    (
        "ports: [{name: http, port: 80}], exposure: {type: PodIP, service: {}}",
        "spec.exposure.service",
    ),
    (
        "ports: [{name: http, port: 80}], sheduler: {name: rr}",
        "spec.sheduler",
    ),
];
const NO_SERVICE: &str = "
apiVersion: portablelb.io/v1alpha1
kind: PortableLoadBalancer
metadata: {name: no-service}
spec: {backends: {service: {name: missing}}, ports: [{name: http, port: 80}], redundancy: {replicas: 1}}
";
const THE_SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: missing}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
";

#[test]
fn bad_specs_are_refused_and_impossible_ones_say_so() -> Result<()> {
    in_namespace("refuse", |space| {
        space.apply(fixtures::WEB)?;
        space.apply(&fixtures::plb("web", GOOD))?;
        let agents = space.wait_serving("web", "3/3")?;
        let client = Steady::start(agents[0].at(80), Duration::from_millis(50));
        for (spec, field) in BAD {
            refused(space, "bad", spec, field)?;
        }
        refused(
            space,
            "web",
            &format!("className: other, {GOOD}"),
            "spec.className",
        )?;

        space.apply(NO_SERVICE)?;
        let no_port = "ports: [{name: http, port: 80, targetPort: nowhere}], redundancy: {replicas: 1}";
        space.apply(&fixtures::plb("no-port", no_port))?;
        unresolved(space, "no-service", reason::SERVICE_NOT_FOUND, "missing")?;
        unresolved(space, "no-port", reason::PORT_NOT_FOUND, "nowhere")?;

        let now = space.wait_serving("web", "3/3")?;
        ensure!(now == agents, "the agents of web were {agents:?} and are {now:?}");
        client.finish_without_loss()?;
        space.apply(THE_SERVICE)?;
        space.wait_serving("no-service", "3/3")?;
        given_servers_need_the_administrators_word(space)
    })
}

fn given_servers_need_the_administrators_word(space: &Space<'_>) -> Result<()> {
    let servers = space.wait_servers("web", 3)?;
    let given: Vec<_> = servers
        .iter()
        .map(|server| format!("{{address: {server}, weight: 1}}"))
        .collect();
    let given = given.join(", ");
    space.apply(&format!(
        "apiVersion: portablelb.io/v1alpha1\nkind: PortableLoadBalancer\nmetadata: {{name: given}}\n\
         spec: {{backends: {{type: Endpoints, endpoints: [{given}]}}, scheduler: {{name: rr}}, {GOOD}}}\n"
    ))?;
    until("its servers are refused", CONTAINER, || {
        let accepted = space.condition("given", condition::ACCEPTED)?;
        ensure!(accepted.reason == reason::ENDPOINT_NOT_ALLOWED, "{accepted:?}");
        let server = servers[0].to_string();
        ensure!(accepted.message.contains(&server), "{}", accepted.message);
        Ok(())
    })?;
    install::install_with("--set agents.allowedEndpointCIDRs={10.244.0.0/16}")?;
    let agent = space.wait_serving("given", "3/3")?.remove(0);
    let expected = ipvs::expected(ipvs::tcp_mark(80), "rr", &servers, 8080);
    space.wait_table(&agent, &expected)?;
    let tally = request(agent.at(80), 3);
    ensure!(tally.failures.is_empty() && tally.answers.len() == 3, "{tally}");
    Ok(())
}

fn refused(space: &Space<'_>, name: &str, spec: &str, field: &str) -> Result<()> {
    match space.apply(&fixtures::plb(name, spec)) {
        Ok(()) => bail!("{spec} was accepted"),
        Err(error) => {
            let said = format!("{error:#}");
            ensure!(
                said.contains(&format!("{field}: ")),
                "{spec} was refused without naming {field}: {said}"
            );
            Ok(())
        }
    }
}

fn unresolved(space: &Space<'_>, plb: &str, reason: &str, names: &str) -> Result<()> {
    until(&format!("{plb} says {reason}"), CONTAINER, || {
        let resolved = space.condition(plb, condition::RESOLVED_REFS)?;
        ensure!(
            resolved.status == "False" && resolved.reason == reason,
            "{resolved:?}"
        );
        ensure!(
            resolved.message.contains(names),
            "the message does not name {names}: {}",
            resolved.message
        );
        let available = space.condition(plb, condition::BACKENDS_AVAILABLE)?;
        ensure!(available.status == "False", "{available:?}");
        Ok(())
    })
}
