//! Asks the kernel about the pod's interface.

use std::net::IpAddr;

use futures::TryStreamExt;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use crate::addresses::Addresses;

pub mod address;
pub mod route;

/// Where addresses are put that only this machine is to know of.
pub const LOOPBACK: &str = "lo";

/// Why the kernel could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No netlink socket.
    #[error("could not open rtnetlink")]
    Open(#[source] std::io::Error),
    /// It did not answer.
    #[error("could not ask rtnetlink")]
    Ask(#[source] rtnetlink::Error),
    /// It did not do what it was told.
    #[error("could not {step}")]
    Change {
        /// What.
        step: String,
        /// Why not.
        #[source]
        source: rtnetlink::Error,
    },
    /// The interface is not there.
    #[error("there is no interface {0}")]
    NoInterface(String),
}

/// The pod's interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The largest packet that it sends.
    pub mtu: u32,
    /// Its addresses that others can reach.
    pub addresses: Vec<IpAddr>,
}

/// The pod's interface: `eth0`, or where there is none, the first that is up and no loopback.
pub async fn interface() -> Result<Option<Interface>, Error> {
    let handle = open()?;
    let mut links = all(&handle).await?;
    links.retain(|link| {
        link.header.flags.contains(LinkFlags::Up) && !link.header.flags.contains(LinkFlags::Loopback)
    });
    links.sort_by_key(|link| (name_of(link) != Some("eth0"), link.header.index));
    let Some(link) = links.first() else {
        return Ok(None);
    };
    let mut addresses = address::all(&handle).await?;
    addresses.retain(|address| address.header.index == link.header.index);
    Ok(Some(Interface {
        name: name_of(link).unwrap_or_default().to_owned(),
        mtu: mtu_of(link).unwrap_or_default(),
        addresses: addresses
            .iter()
            .filter_map(address_of)
            .filter(can_be_reached)
            .collect(),
    }))
}

/// The MTU of the pod's interface.
pub async fn mtu() -> Result<Option<u32>, Error> {
    Ok(interface().await?.map(|interface| interface.mtu))
}

/// This machine's own addresses that others can reach, without those that it holds for a balancer.
pub async fn addresses() -> Result<Addresses, Error> {
    let all = address::all(&open()?).await?;
    let own = all.iter().filter(|message| !address::is_held(message));
    Ok(own.filter_map(address_of).filter(can_be_reached).collect())
}

/// The link of a name.
pub(crate) async fn by_name(handle: &rtnetlink::Handle, name: &str) -> Result<Option<LinkMessage>, Error> {
    let links = all(handle).await?;
    Ok(links.into_iter().find(|link| name_of(link) == Some(name)))
}

/// All links. Asked for by name, one that is not there would be an error.
async fn all(handle: &rtnetlink::Handle) -> Result<Vec<LinkMessage>, Error> {
    let links = handle.link().get().execute();
    links.try_collect().await.map_err(Error::Ask)
}

pub(crate) fn open() -> Result<rtnetlink::Handle, Error> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Open)?;
    // It ends when the handle is dropped.
    tokio::spawn(connection);
    Ok(handle)
}

fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    })
}

fn can_be_reached(address: &IpAddr) -> bool {
    let is_link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    !address.is_loopback() && !is_link_local
}

fn mtu_of(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    })
}

fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}
