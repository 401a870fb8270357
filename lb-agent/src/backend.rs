//! The backend half of DR and TUN: makes a server's network namespace take packets that were sent to the balancer's
//! address, and answer from it. Runs privileged, as an init container of the server's pod, and can run again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use tracing::info;

use crate::link::address::hold;
use crate::link::route::limit_mss;
use crate::link::{self, Interface};
use crate::table::Family;

mod fou;
mod node;
mod settings;
mod tunnel;

/// How packets come from the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
pub enum Mode {
    /// Unchanged, from the same link.
    #[value(name = "DR")]
    Direct,
    /// In IP.
    Ipip,
    /// In UDP.
    Gue,
    /// In GRE.
    Gre,
}

impl Mode {
    /// Bytes that the wrapping adds to a packet.
    #[must_use]
    pub fn overhead(self, family: Family) -> u32 {
        let outer = match family {
            Family::V4 => 20,
            Family::V6 => 40,
        };
        match self {
            Self::Direct => 0,
            Self::Ipip => outer,
            Self::Gre => outer + 4,
            // UDP has 8, and GUE 4.
            Self::Gue => outer + 12,
        }
    }
}

/// Headers of IP and TCP, without options.
fn headers(family: Family) -> u32 {
    match family {
        Family::V4 => 40,
        Family::V6 => 60,
    }
}

/// The largest segment that passes the tunnel whole.
fn largest_segment(mode: Mode, family: Family, mtu: u32) -> u32 {
    mtu.saturating_sub(mode.overhead(family) + headers(family))
        .max(88)
}

/// Arguments of `backend`.
#[derive(Debug, Args)]
pub struct BackendArgs {
    /// How the balancer sends packets here: DR, or the type of its tunnel.
    #[arg(long, env = "PLB_MODE", ignore_case = true)]
    pub mode: Mode,
    /// The balancer's addresses.
    #[arg(long = "vip", env = "PLB_VIPS", value_delimiter = ',', required = true)]
    pub addresses: Vec<IpAddr>,
    /// The UDP port of GUE, as in the object.
    #[arg(long, env = "PLB_TUNNEL_PORT", default_value_t = 6080, value_parser = clap::value_parser!(u16).range(1..))]
    pub port: u16,
    /// The largest packet that comes through from the balancer; without it the interface's.
    #[arg(long, env = "PLB_MTU")]
    pub mtu: Option<u32>,
    /// The pod's addresses; without them those of its interface.
    #[arg(long, env = "POD_IPS", value_delimiter = ',')]
    pub pod_ips: Vec<IpAddr>,
    /// The node's network namespace (/proc/1/ns/net of the node): its firewall is told to let the answers pass.
    #[arg(long, env = "PLB_NODE_NAMESPACE")]
    pub node_namespace: Option<PathBuf>,
}

/// Prepares this network namespace.
pub async fn run(arguments: BackendArgs) -> anyhow::Result<()> {
    let interface = link::interface()
        .await?
        .context("this network namespace has no interface that is up: run this in the server's pod")?;
    settings::answer_for_own_addresses_only()?;
    let mut families: BTreeMap<Family, Vec<IpAddr>> = BTreeMap::new();
    for address in &arguments.addresses {
        families.entry(Family::of(*address)).or_default().push(*address);
    }
    for (family, addresses) in &families {
        let own = own_address(&arguments, &interface, *family)?;
        prepare(&arguments, own, addresses)
            .await
            .with_context(|| format!("{family} is not prepared"))?;
        if arguments.mode != Mode::Direct {
            let mtu = arguments.mtu.unwrap_or(interface.mtu);
            let mss = largest_segment(arguments.mode, *family, mtu);
            limit_mss(*family, mss).await?;
            info!(%family, mtu, mss, "clients are asked for segments that pass the tunnel");
        }
    }
    if let Some(namespace) = &arguments.node_namespace {
        let pod: Vec<IpAddr> = families
            .keys()
            .map(|family| own_address(&arguments, &interface, *family))
            .collect::<Result<_, _>>()?;
        node::prepare(namespace, &arguments.addresses, &pod).await?;
    }
    info!(mode = ?arguments.mode, addresses = ?arguments.addresses, "prepared");
    Ok(())
}

/// The device, and the addresses on it.
async fn prepare(arguments: &BackendArgs, own: IpAddr, addresses: &[IpAddr]) -> anyhow::Result<()> {
    if arguments.mode == Mode::Gue {
        fou::listen(Family::of(own), arguments.port)?;
    }
    let device = match tunnel::Device::of(arguments.mode, own) {
        None => link::LOOPBACK.to_owned(),
        Some(device) => {
            device.make().await?;
            settings::take_from_anywhere(device.name)?;
            device.name.to_owned()
        }
    };
    hold(&device, addresses).await?;
    Ok(())
}

/// Where the balancer sends its packets.
fn own_address(arguments: &BackendArgs, interface: &Interface, family: Family) -> anyhow::Result<IpAddr> {
    let given = arguments.pod_ips.iter().copied();
    let own = given.chain(interface.addresses.iter().copied());
    let mut of_family = own.filter(|own| Family::of(*own) == family && !arguments.addresses.contains(own));
    match of_family.next() {
        Some(own) => Ok(own),
        None => bail!(
            "{} has no {family} address, so no {family} packet can come",
            interface.name
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_leave_room_for_the_tunnel() {
        let cells = [
            (Mode::Direct, Family::V4, 1500, 1460),
            (Mode::Ipip, Family::V4, 1500, 1440),
            (Mode::Ipip, Family::V4, 1450, 1390),
            (Mode::Gre, Family::V4, 1472, 1408),
            (Mode::Gue, Family::V4, 1450, 1378),
            (Mode::Ipip, Family::V6, 1500, 1400),
            (Mode::Gre, Family::V6, 1500, 1396),
            (Mode::Gue, Family::V6, 1450, 1338),
        ];
        for (mode, family, mtu, mss) in cells {
            assert_eq!(largest_segment(mode, family, mtu), mss, "{mode:?} {family} {mtu}");
        }
        assert_eq!(largest_segment(Mode::Gue, Family::V6, 0), 88);
    }
}
