//! The device that unwraps what the balancer sends.

use std::net::IpAddr;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use rtnetlink::packet_route::IpProtocol;
use rtnetlink::packet_route::link::{
    InfoData, InfoGre, InfoGre6, InfoIpTunnel, LinkAttribute, LinkInfo, LinkMessage,
};
use rtnetlink::{LinkGre, LinkGre6, LinkIp6Tnl, LinkIpIp, LinkMessageBuilder, LinkUnspec};
use tracing::info;

use super::Mode;
use crate::link;

/// A tunnel's end. It takes packets from any sender: which agent serves may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Device {
    /// Its name.
    pub(super) name: &'static str,
    kind: Kind,
    local: IpAddr,
}

/// The kinds of devices; what comes by GUE is unwrapped to IP in IP before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    IpInIp,
    Gre,
}

impl Device {
    /// The device that a mode needs at an address.
    pub(super) fn of(mode: Mode, local: IpAddr) -> Option<Self> {
        let (kind, name, name_v6) = match mode {
            Mode::Direct => return None,
            Mode::Ipip | Mode::Gue => (Kind::IpInIp, "plb-ipip", "plb-ipip6"),
            Mode::Gre => (Kind::Gre, "plb-gre", "plb-gre6"),
        };
        let name = if local.is_ipv4() { name } else { name_v6 };
        Some(Self { name, kind, local })
    }

    /// The kernel module that brings it.
    fn module(self) -> &'static str {
        match (self.kind, self.local) {
            (Kind::IpInIp, IpAddr::V4(_)) => "ipip",
            (Kind::IpInIp, IpAddr::V6(_)) => "ip6_tunnel",
            (Kind::Gre, IpAddr::V4(_)) => "ip_gre",
            (Kind::Gre, IpAddr::V6(_)) => "ip6_gre",
        }
    }

    /// Makes it, unless it is there.
    pub(super) async fn make(self) -> anyhow::Result<()> {
        let handle = link::open()?;
        if let Some(found) = link::by_name(&handle, self.name).await? {
            if local_of(&found) == Some(self.local) {
                return up(&handle, found.header.index).await;
            }
            info!(device = self.name, "has another address; made anew");
            let removed = handle.link().del(found.header.index).execute().await;
            removed.with_context(|| format!("could not remove the old {}", self.name))?;
        }
        // Where the container sees the node's modules; elsewhere the kernel loads it by need.
        load(self.module());
        let made = handle.link().add(self.message()).execute().await;
        made.with_context(|| {
            let module = self.module();
            format!(
                "could not make the tunnel device {}: if the kernel module {module} is missing run `modprobe {module}` \
                 on the node, and write {module} into /etc/modules-load.d/portable-lb.conf",
                self.name
            )
        })?;
        let Some(made) = link::by_name(&handle, self.name).await? else {
            bail!("the kernel made no {}", self.name);
        };
        info!(device = self.name, local = %self.local, "made");
        up(&handle, made.header.index).await
    }

    fn message(self) -> LinkMessage {
        match (self.kind, self.local) {
            (Kind::IpInIp, IpAddr::V4(local)) => LinkIpIp::new(self.name).local(local).build(),
            (Kind::IpInIp, IpAddr::V6(local)) => LinkIp6Tnl::new(self.name)
                .local(local)
                .protocol(IpProtocol::Ipv6)
                .build(),
            (Kind::Gre, IpAddr::V4(local)) => LinkMessageBuilder::<LinkGre>::new_gre(self.name)
                .local(local)
                .build(),
            (Kind::Gre, IpAddr::V6(local)) => LinkMessageBuilder::<LinkGre6>::new_gre6(self.name)
                .local(local)
                .build(),
        }
    }
}

async fn up(handle: &rtnetlink::Handle, index: u32) -> anyhow::Result<()> {
    let up = LinkUnspec::new_with_index(index).up().build();
    let set = handle.link().set(up).execute().await;
    set.context("could not set the tunnel device up")
}

/// The end of a tunnel that is here.
fn local_of(link: &LinkMessage) -> Option<IpAddr> {
    let infos = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    })?;
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(data) => Some(data),
        _ => None,
    })?;
    match data {
        InfoData::IpTunnel(infos) => infos.iter().find_map(|info| match info {
            InfoIpTunnel::Local(local) => Some(*local),
            _ => None,
        }),
        InfoData::GreTun(infos) => infos.iter().find_map(|info| match info {
            InfoGre::Local(local) => Some(IpAddr::V4(*local)),
            _ => None,
        }),
        InfoData::GreTun6(infos) => infos.iter().find_map(|info| match info {
            InfoGre6::Local(local) => Some(IpAddr::V6(*local)),
            _ => None,
        }),
        _ => None,
    }
}

/// Loads a module, if this container can.
pub(super) fn load(module: &str) {
    let mut command = Command::new("modprobe");
    let quiet = command.args(["--quiet", module]).stdin(Stdio::null());
    let _ = quiet.stdout(Stdio::null()).stderr(Stdio::null()).status();
}
