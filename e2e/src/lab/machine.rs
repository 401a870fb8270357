//! Nodes as machines: what the host's supervisor runs for each of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::cluster::{HOST, Ipvs, Node};
use super::paths::Paths;
use super::queue::{Queue, Request};
use super::service::{Service, write_whole};
use crate::uml::{Kernel, Machine, ROOT_SCRIPT};

const INIT: &str = include_str!("../../guest/node.sh");

/// The longest that a request to a machine takes.
const PATIENCE: Duration = Duration::from_mins(2);

/// Memory a node has; it takes from the host what it uses.
const MEMORY_MIB: u32 = 2048;

/// Writes the scripts that machines start with.
pub fn write_scripts(paths: &Paths) -> Result<()> {
    write_whole(&paths.guest().join("root.sh"), ROOT_SCRIPT)?;
    let init = paths.guest().join("node.sh");
    write_whole(&init, INIT)?;
    Ok(fs::set_permissions(init, fs::Permissions::from_mode(0o755))?)
}

/// Prepares the folder that the host and a new machine share.
pub fn prepare(paths: &Paths, node: Node) -> Result<()> {
    fs::create_dir_all(paths.node(node))?;
    queue(paths, node).clear();
    set_phase(paths, node, "booting")?;
    write_whole(
        &paths.node(node).join("agent.json"),
        &serde_json::to_string_pretty(&agent(paths, node))?,
    )
}

/// How a machine is asked for things.
#[must_use]
pub fn queue(paths: &Paths, node: Node) -> Queue {
    Queue::new(paths.node(node).join("queue"))
}

/// Asks several machines for the same at once, and waits for all of them.
pub fn ask_all(paths: &Paths, nodes: &[Node], request: &Request) -> Result<()> {
    let tickets = nodes.iter().map(|&node| queue(paths, node).ask(request));
    for (ticket, node) in tickets.collect::<Result<Vec<_>>>()?.into_iter().zip(nodes) {
        let answer = ticket.wait(PATIENCE)?.into_output();
        answer.with_context(|| format!("{} failed", node.name()))?;
    }
    Ok(())
}

/// Notes how far a machine's start is.
pub fn set_phase(paths: &Paths, node: Node, phase: &str) -> Result<()> {
    write_whole(&paths.node(node).join("phase"), phase)
}

/// How far a machine's start is; `ready` is the last phase.
#[must_use]
pub fn phase(paths: &Paths, node: Node) -> String {
    let written = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    let path = paths.node(node).join("phase");
    // What an earlier machine wrote before the supervisor started this one says nothing.
    if written(&path) < paths.services().state_written_at(&node.name()) {
        return "booting".to_owned();
    }
    fs::read_to_string(path).unwrap_or_default()
}

/// The machine itself.
#[must_use]
pub fn service(paths: &Paths, node: Node, kernel: &Kernel) -> Service {
    let name = node.name();
    let tap = node.tap();
    let lab = paths.state().display().to_string();
    let (address, gateway, hardware) = (
        node.address().to_string(),
        HOST.to_string(),
        node.hardware_address(),
    );
    let machine = Machine {
        name: &name,
        folder: &paths.machines(),
        memory_mib: MEMORY_MIB,
        init: &paths.guest().join("node.sh"),
        tap: Some(&tap),
        environment: &[
            ("PLB_LAB", &lab),
            ("PLB_NODE", &name),
            ("PLB_ADDRESS", &address),
            ("PLB_GATEWAY", &gateway),
            ("PLB_HARDWARE", &hardware),
            (
                "PLB_IPVS",
                if node.ipvs == Ipvs::Missing {
                    "missing"
                } else {
                    "available"
                },
            ),
        ],
    };
    let (variable, value) = Machine::ENVIRONMENT;
    let (program, args) = machine.invocation(kernel);
    Service {
        args,
        program,
        env: BTreeMap::from([(variable.to_owned(), value.to_owned())]),
        log: paths.logs().join(format!("{name}.log")),
        name,
    }
}

/// The program that turns a booted machine into a node; see [`super::guest`].
fn agent(paths: &Paths, node: Node) -> Service {
    Service {
        name: "agent".to_owned(),
        program: paths.bin().join("lab"),
        args: [
            "agent",
            "--state",
            &paths.state().display().to_string(),
            "--node",
            &node.name(),
        ]
        .map(str::to_owned)
        .to_vec(),
        env: BTreeMap::new(),
        log: paths.logs().join(format!("{}-agent.log", node.name())),
    }
}
