//! Promise: it works on each of flannel's backends, and says which one it found.

use anyhow::{Context, Result, ensure};
use crd::{FlannelBackend, ForwardingType, Network};
use e2e::cluster::command::kubectl;
use e2e::cluster::wait::NOTICE;
use e2e::cluster::{Space, fixtures, in_namespace, request, until};
use e2e::pod::client;

const PLB: &str = "ports: [{name: http, port: 80, targetPort: 8080}], scheduler: {name: rr}";
const BACKENDS: [(&str, FlannelBackend, i32); 3] = [
    ("host-gw", FlannelBackend::HostGW, 1500),
    ("vxlan", FlannelBackend::VXLAN, 1450),
    ("udp", FlannelBackend::UDP, 1472),
];

#[test]
fn it_serves_on_every_backend() -> Result<()> {
    in_namespace("flannel", |space| {
        let begin = present()?;
        let outcome = BACKENDS.iter().try_for_each(|(name, backend, mtu)| {
            space.lab(&format!("flannel {name}"))?;
            smoke(space, *backend, *mtu).with_context(|| format!("on {name}"))
        });
        space.lab(&format!("flannel {begin}"))?;
        outcome
    })
}

fn smoke(space: &Space<'_>, backend: FlannelBackend, mtu: i32) -> Result<()> {
    let space = space.another("smoke")?;
    space.apply(fixtures::WEB)?;
    space.apply(&fixtures::plb("web", PLB))?;
    for agent in space.wait_serving("web", "3/3")? {
        let tally = request(agent.at(80), 30);
        ensure!(
            tally.failures.is_empty() && tally.answers.len() == 3,
            "{} on {}: {tally}",
            agent.pod,
            agent.node
        );
        // Full-size packets, from servers on this node and on others.
        for _ in 0..3 {
            let body = client::get(agent.at(80), "/download?bytes=300000&rate=3000000")?;
            ensure!(body.len() == 300_000, "{} bytes of 300000 came", body.len());
        }
    }
    let address = space.plb("web")?.status.unwrap_or_default().addresses;
    let address = &address.first().context("no address")?.value;
    space.apply(&fixtures::client(&format!("http://{address}:80/"), 30))?;
    let log = space.wait_log("client")?;
    ensure!(log.contains("\n0 failures"), "from a pod: {log}");
    network_is_told(&space, backend, mtu)?;
    kubectl(&format!("delete namespace {} --wait=false", space.name)).map(drop)
}

fn network_is_told(space: &Space<'_>, backend: FlannelBackend, mtu: i32) -> Result<()> {
    until("status.network is right", NOTICE, || {
        let network = space
            .plb("web")?
            .status
            .and_then(|status| status.network)
            .context("no network")?;
        let told = Network {
            reason: None,
            ..network
        };
        let right = Network {
            flannel_backend: backend,
            mtu: Some(mtu),
            forwarding: ForwardingType::NAT,
            reason: None,
        };
        ensure!(told == right, "it is {told:?}");
        Ok(())
    })
}

/// The backend in use, by flannel's own word on the nodes.
fn present() -> Result<String> {
    let path = r"jsonpath={.items[0].metadata.annotations.flannel\.alpha\.coreos\.com/backend-type}";
    kubectl(&format!("get nodes -o {path}"))
}
