//! The pod network of a node: flannel's configuration, and the CNI plugins' made from what flannel answers.
//!
//! Flannel's own CNI plugin only hands such a configuration to `bridge`, so writing it down does the same.

use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};

use crate::lab::cluster::{Backend, POD_NETWORK};
use crate::lab::process;
use crate::lab::service::write_whole;

/// What flannel reads.
pub(super) const NETWORK: &str = "/run/plb/net-conf.json";
/// What flannel writes.
pub(super) const SUBNET: &str = "/run/flannel/subnet.env";
const PLUGINS: &str = "/etc/cni/net.d/10-flannel.conflist";
const BRIDGE: &str = "cni0";

/// A node's share of the pod network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subnet {
    /// The pods' network, such as `10.244.1.0/24`.
    network: String,
    mtu: u32,
}

pub(super) fn write_network(backend: Backend) -> Result<()> {
    let network = json!({"Network": POD_NETWORK, "Backend": {"Type": backend.name()}});
    write_whole(NETWORK.as_ref(), &network.to_string())
}

/// Reads what flannel has written, once it has.
pub(super) fn read_subnet() -> Result<Subnet> {
    parse_subnet(&fs::read_to_string(SUBNET).with_context(|| format!("could not read {SUBNET}"))?)
}

fn parse_subnet(text: &str) -> Result<Subnet> {
    let value = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.with_context(|| format!("{name} is not in {SUBNET}"))
    };
    let (gateway, length) = value("FLANNEL_SUBNET")?
        .split_once('/')
        .context("the subnet has no length")?;
    let length: u32 = length.parse()?;
    let mask = u32::MAX
        .checked_shl(32 - length)
        .ok_or_else(|| anyhow!("the subnet's length is wrong"))?;
    let network = Ipv4Addr::from(u32::from(gateway.parse::<Ipv4Addr>()?) & mask);
    Ok(Subnet {
        network: format!("{network}/{length}"),
        mtu: value("FLANNEL_MTU")?.parse()?,
    })
}

/// Writes the plugins' configuration: from now on the node is Ready.
pub(super) fn write_plugins(subnet: &Subnet) -> Result<()> {
    write_whole(PLUGINS.as_ref(), &format!("{:#}\n", plugins(subnet)))?;
    if fs::exists(format!("/sys/class/net/{BRIDGE}"))? {
        ip(&["link", "set", BRIDGE, "mtu", &subnet.mtu.to_string()])?;
    }
    Ok(())
}

fn plugins(subnet: &Subnet) -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "cbr0",
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE,
                "mtu": subnet.mtu,
                "isGateway": true,
                "isDefaultGateway": true,
                "hairpinMode": true,
                "ipMasq": false,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": subnet.network}]],
                    "routes": [{"dst": POD_NETWORK}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

/// Removes what the last backend left on the node: its devices, its routes and its answer.
pub(super) fn clear() -> Result<()> {
    for device in ["flannel.1", "flannel0"] {
        if fs::exists(format!("/sys/class/net/{device}"))? {
            ip(&["link", "delete", device])?;
        }
    }
    for destination in routes_to_other_nodes(&ip(&["route", "show"])?) {
        ip(&["route", "delete", &destination])?;
    }
    match fs::remove_file(SUBNET) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Pod networks that are reached through another node, in what `ip route show` prints.
fn routes_to_other_nodes(routes: &str) -> Vec<String> {
    let prefix = POD_NETWORK.split_inclusive('.').take(2).collect::<String>();
    let other = |line: &str| {
        let mut words = line.split_whitespace();
        let destination = words
            .next()
            .filter(|destination| destination.starts_with(&prefix))?;
        (words.next() == Some("via")).then(|| destination.to_owned())
    };
    routes.lines().filter_map(other).collect()
}

fn ip(arguments: &[&str]) -> Result<String> {
    process::run(Command::new("ip").args(arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flannels_answer_gives_the_bridge_its_network_and_mtu() {
        let text = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
        let subnet = parse_subnet(text).unwrap();
        assert_eq!(
            subnet,
            Subnet {
                network: "10.244.1.0/24".to_owned(),
                mtu: 1450
            }
        );
        let bridge = &plugins(&subnet)["plugins"][0];
        assert_eq!(bridge["mtu"], 1450);
        assert_eq!(bridge["ipam"]["ranges"][0][0]["subnet"], "10.244.1.0/24");
    }

    #[test]
    fn half_an_answer_is_an_error() {
        assert!(parse_subnet("FLANNEL_SUBNET=10.244.1.1/24\n").is_err());
        assert!(parse_subnet("").is_err());
    }

    #[test]
    fn only_routes_through_other_nodes_are_stale() {
        let routes = "default via 10.98.0.1 dev vec0\n\
                      10.98.0.0/24 dev vec0 proto kernel scope link src 10.98.0.11\n\
                      10.244.0.0/24 dev cni0 proto kernel scope link src 10.244.0.1\n\
                      10.244.1.0/24 via 10.98.0.12 dev vec0\n";
        assert_eq!(routes_to_other_nodes(routes), ["10.244.1.0/24"]);
    }
}
