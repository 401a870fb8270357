//! Asks the kernel about the pod's interface.

use std::net::IpAddr;

use futures::TryStreamExt;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use crate::addresses::Addresses;

/// Why the kernel could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No netlink socket.
    #[error("could not open rtnetlink")]
    Open(#[source] std::io::Error),
    /// It did not answer.
    #[error("could not ask rtnetlink")]
    Ask(#[source] rtnetlink::Error),
}

/// The MTU of the pod's interface: of `eth0`, or where there is none, of the first that is up and no loopback.
pub async fn mtu() -> Result<Option<u32>, Error> {
    let handle = open()?;
    let mut links: Vec<LinkMessage> = handle
        .link()
        .get()
        .execute()
        .try_collect()
        .await
        .map_err(Error::Ask)?;
    links.retain(|link| {
        link.header.flags.contains(LinkFlags::Up) && !link.header.flags.contains(LinkFlags::Loopback)
    });
    links.sort_by_key(|link| (!has_name(link, "eth0"), link.header.index));
    Ok(links.first().and_then(|link| {
        link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        })
    }))
}

/// This machine's addresses that others can reach.
pub async fn addresses() -> Result<Addresses, Error> {
    let handle = open()?;
    let mut messages = handle.address().get().execute();
    let mut found = Vec::new();
    while let Some(message) = messages.try_next().await.map_err(Error::Ask)? {
        for attribute in &message.attributes {
            let AddressAttribute::Address(address) = attribute else {
                continue;
            };
            let is_inner =
                address.is_loopback() || matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
            if !is_inner {
                found.push(*address);
            }
        }
    }
    Ok(found.into_iter().collect())
}

fn open() -> Result<rtnetlink::Handle, Error> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Open)?;
    // It ends when the handle is dropped.
    tokio::spawn(connection);
    Ok(handle)
}

fn has_name(link: &LinkMessage, wanted: &str) -> bool {
    link.attributes
        .iter()
        .any(|attribute| matches!(attribute, LinkAttribute::IfName(name) if name == wanted))
}
