//! The lab's wires: a network namespace with a bridge, a tap device a node, and routes to the nodes' pods.

use std::process::Command;

use anyhow::Result;

use super::cluster::{HOST, Node};
use super::process;
use crate::netns::{LAB, Namespace};

const BRIDGE: &str = "br0";

/// Makes the namespace with its bridge, as far as they are missing.
pub fn create() -> Result<()> {
    Namespace::named(LAB).create()?;
    ip("link set lo up")?;
    if !has(BRIDGE) {
        // Of its own, or it would change with the devices and nodes would keep the old one.
        ip(&format!(
            "link add {BRIDGE} address 52:54:00:98:00:01 type bridge"
        ))?;
    }
    ip(&format!("addr replace {HOST}/24 dev {BRIDGE}"))?;
    ip(&format!("link set {BRIDGE} up"))
}

/// Makes a node's device, unless it is there.
pub fn plug(node: Node) -> Result<()> {
    let tap = node.tap();
    if !has(&tap) {
        ip(&format!("tuntap add {tap} mode tap"))?;
    }
    ip(&format!("link set {tap} master {BRIDGE} up"))
}

/// Removes a node's device.
pub fn unplug(node: Node) -> Result<()> {
    if has(&node.tap()) {
        ip(&format!("link delete {}", node.tap()))
    } else {
        Ok(())
    }
}

/// Lets clients outside the cluster reach a node's pods by their own addresses.
pub fn route(node: Node, pods: &str) -> Result<()> {
    ip(&format!("route replace {pods} via {}", node.address()))
}

fn has(device: &str) -> bool {
    command(&format!("link show {device}"))
        .output()
        .is_ok_and(|output| output.status.success())
}

fn ip(arguments: &str) -> Result<()> {
    process::run(&mut command(arguments)).map(drop)
}

fn command(arguments: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["-n", LAB]).args(arguments.split(' '));
    command
}
