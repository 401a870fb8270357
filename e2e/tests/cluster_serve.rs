//! Promise: the examples work as they are, each backend on each node gets its share, and the kernel holds just
//! what it should.

use anyhow::{Context, Result, ensure};
use crd::{PortableLoadBalancer, ServiceType, condition, names};
use e2e::cluster::wait::NOTICE;
use e2e::cluster::{AGENTS, Agent, Space, fixtures, in_namespace, ipvs, request, until};
use e2e::pod::{client, field};
use k8s_openapi::api::core::v1::Service;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

const REQUESTS: usize = 300;
const EXAMPLES: [&str; 4] = [
    "load-balancer.yaml",
    "node-port.yaml",
    "pod-ip.yaml",
    "tcp-and-udp.yaml",
];

#[test]
fn the_examples_serve() -> Result<()> {
    in_namespace("serve", |space| {
        space.apply_example("web.yaml")?;
        space.wait_ready("web")?;
        let agents = space.wait_serving("web", "3/3")?;
        let servers = space.wait_servers("web", 3)?;
        for agent in &agents {
            kernel_is_as_expected(agent, &servers)?;
        }
        shares_are_equal_from_outside(&agents[0])?;
        shares_are_equal_from_a_pod(space, &agents)?;
        columns_tell_it_all(space)?;
        the_other_examples_serve_too(space)
    })
}

fn kernel_is_as_expected(agent: &Agent, servers: &[Ipv4Addr]) -> Result<()> {
    let table = agent.table()?;
    let expected = ipvs::expected(ipvs::tcp_mark(80), "rr", servers, 8080);
    ensure!(
        table == expected,
        "{} holds {table:#?}, expected {expected:#?}",
        agent.pod
    );
    let rules = agent.rules()?;
    let rules: BTreeSet<_> = rules
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("-A"))
        .collect();
    let expected = BTreeSet::from([
        "-A INPUT -j PLB-INPUT",
        "-A PLB-INPUT ! -i lo -m conntrack --ctstate INVALID -j DROP",
        "-A POSTROUTING -j PLB-MASQ",
        "-A PLB-MASQ -m mark --mark 0x40000000/0x40000000 -j MASQUERADE --random-fully",
        "-A PLB-INPUT -j PLB-MARK",
        "-A PLB-MARK -p tcp -m tcp --dport 80 -m conntrack --ctdir ORIGINAL -j MARK --set-xmark 0x40000050/0xffffffff",
    ]);
    ensure!(
        rules == expected,
        "{} has {rules:#?}, expected {expected:#?}",
        agent.pod
    );
    Ok(())
}

fn shares_are_equal_from_outside(agent: &Agent) -> Result<()> {
    let tally = request(agent.at(80), REQUESTS);
    ensure!(tally.failures.is_empty(), "from outside: {tally}");
    let nodes: BTreeSet<_> = tally
        .answers
        .keys()
        .filter_map(|line| field(line, "node"))
        .collect();
    ensure!(nodes.len() == 3, "servers on {nodes:?} answered:\n{tally}");
    ensure!(
        tally.answers.len() == 3 && spread(tally.answers.values()) <= 1,
        "rr is unfair:\n{tally}"
    );
    // The kernel counts every 2 s; what follows is counted from here.
    until("all requests are counted", NOTICE, || {
        let counted: u64 = agent.connections()?.values().sum();
        ensure!(counted == REQUESTS as u64, "{counted} connections are counted");
        Ok(())
    })
}

fn shares_are_equal_from_a_pod(space: &Space<'_>, agents: &[Agent]) -> Result<()> {
    let before = agents
        .iter()
        .map(Agent::connections)
        .collect::<Result<Vec<_>>>()?;
    let address = space.plb("web")?.status.context("no status")?.addresses;
    let address = &address.first().context("no address")?.value;
    space.apply(&fixtures::client(&format!("http://{address}:80/"), REQUESTS))?;
    let log = space.wait_log("client")?;
    ensure!(log.contains("\n0 failures"), "from a pod: {log}");
    let counts: Vec<usize> = log
        .lines()
        .filter(|line| line.contains("pod="))
        .filter_map(first_number)
        .collect();
    ensure!(
        counts.len() == 3 && counts.iter().sum::<usize>() == REQUESTS,
        "from a pod: {log}"
    );
    // Each agent takes turns by itself, from wherever it stands.
    ensure!(spread(&counts) <= agents.len(), "rr is unfair: {log}");
    until("all requests are counted, in turns", NOTICE, || {
        let mut all = 0;
        for (agent, before) in agents.iter().zip(&before) {
            let new: Vec<_> = agent
                .connections()?
                .iter()
                .map(|(server, now)| now - before.get(server).unwrap_or(&0))
                .collect();
            ensure!(spread(&new) <= 1, "rr is unfair on {}: {new:?}", agent.pod);
            all += new.iter().sum::<u64>();
        }
        ensure!(all == REQUESTS as u64, "{all} connections are counted");
        Ok(())
    })
}

fn columns_tell_it_all(space: &Space<'_>) -> Result<()> {
    let printed = space.kubectl("get plb web -o wide")?;
    let mut lines = printed
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let (head, row) = (lines.next().context("no head")?, lines.next().context("no row")?);
    let expected =
        "NAME CLASS ADDRESS PORTS READY BACKENDS AGENTS AGE SCHEDULER FORWARDING FLANNEL NODE REASON";
    ensure!(head.join(" ") == expected, "{printed}");
    ensure!(
        row[..2] == ["web", "portable-lb"] && row[3..7] == ["80/TCP", "True", "3/3", "2/2"],
        "{printed}"
    );
    ensure!(row[8..10] == ["rr", "NAT"], "{printed}");
    let narrow = space.kubectl("get plb web")?;
    let head: Vec<_> = narrow
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    ensure!(
        head.join(" ") == "NAME CLASS ADDRESS PORTS READY BACKENDS AGENTS AGE",
        "{narrow}"
    );
    Ok(())
}

fn the_other_examples_serve_too(space: &Space<'_>) -> Result<()> {
    let folder = std::fs::read_dir(e2e::cluster::root().join("examples"))?;
    let files: BTreeSet<_> = folder
        .filter_map(Result::ok)
        // Those in folders need no cluster.
        .filter(|entry| entry.path().is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let known: BTreeSet<_> = EXAMPLES
        .iter()
        .chain(&["web.yaml"])
        .map(ToString::to_string)
        .collect();
    ensure!(files == known, "the folder examples holds {files:?}");
    for file in EXAMPLES {
        space.apply_example(file)?;
    }
    for plb in space.list::<PortableLoadBalancer>(&space.name, "")? {
        let name = plb.metadata.name.clone().unwrap_or_default();
        if plb.spec.exposure.service_type() == Some(ServiceType::LoadBalancer) {
            nobody_gives_it_an_address(space, &name)?;
        } else {
            space.wait_ready(&name)?;
        }
    }
    let agents = space.wait_serving("pod-ip", "3/3")?;
    let addresses = space.plb("pod-ip")?.status.unwrap_or_default().addresses;
    let addresses: BTreeSet<_> = addresses.into_iter().map(|address| address.value).collect();
    let pods: BTreeSet<_> = agents.iter().map(|agent| agent.ip.to_string()).collect();
    ensure!(addresses == pods, "pod-ip has {addresses:?}, its agents {pods:?}");
    node_port_answers(space)?;
    tcp_and_udp_answer(space)
}

fn nobody_gives_it_an_address(space: &Space<'_>, plb: &str) -> Result<()> {
    until("it says that it has no address", NOTICE, || {
        let assigned = space.condition(plb, condition::ADDRESS_ASSIGNED)?;
        ensure!(
            assigned.status == "False" && !assigned.message.is_empty(),
            "{assigned:?}"
        );
        let ready = space.condition(plb, condition::READY)?;
        ensure!(ready.status == "False", "{ready:?}");
        Ok(())
    })
}

fn node_port_answers(space: &Space<'_>) -> Result<()> {
    let agents = space.wait_serving("node-port", "3/3")?;
    let service: Service = space.get(AGENTS, &names::child_name(&space.name, "node-port"))?;
    let ports = service.spec.context("no spec")?.ports.unwrap_or_default();
    let port = ports
        .first()
        .and_then(|port| port.node_port)
        .context("no node port")?;
    let shown = space
        .plb("node-port")?
        .status
        .and_then(|status| status.summary?.ports);
    ensure!(shown == Some(format!("80:{port}/TCP")), "PORTS shows {shown:?}");
    let address = SocketAddr::from((agents[0].node_ip, u16::try_from(port)?));
    until("the node port answers", NOTICE, || Ok(client::get(address, "/")?)).map(drop)
}

fn tcp_and_udp_answer(space: &Space<'_>) -> Result<()> {
    let agents = space.wait_serving("tcp-and-udp", "4/4")?;
    let tally = request(agents[0].at(5353), 10);
    ensure!(tally.failures.is_empty() && tally.answers.len() == 2, "{tally}");
    let mut answers = BTreeMap::<String, usize>::new();
    for _ in 0..10 {
        *answers.entry(ask(agents[0].at(5353))?).or_default() += 1;
    }
    ensure!(answers.len() == 2, "by UDP: {answers:?}");
    Ok(())
}

/// One datagram from a port of its own, so that each is balanced.
fn ask(address: SocketAddr) -> Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    socket.send_to(b"?", address)?;
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer).context("no answer by UDP")?;
    Ok(String::from_utf8(buffer[..length].to_vec())?)
}

fn first_number(line: &str) -> Option<usize> {
    line.split_whitespace().next()?.parse().ok()
}

fn spread<'a, T: Copy + Ord + std::ops::Sub<Output = T> + Default + 'a>(
    counts: impl IntoIterator<Item = &'a T> + Clone,
) -> T {
    let most = counts.clone().into_iter().copied().max().unwrap_or_default();
    most - counts.into_iter().copied().min().unwrap_or_default()
}
