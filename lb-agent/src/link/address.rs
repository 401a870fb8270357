//! The balancer's addresses on an interface: what makes this machine take packets to them for its own.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeader, AddressHeaderFlags, AddressMessage, CacheInfo,
};
use tracing::info;

use super::{Error, address_of, by_name, open};

const FOREVER: u32 = u32::MAX;

/// What IPv4 addresses of ours are labelled with, after the interface. A label has at most 15 bytes.
const LABEL: &str = ":plb";

/// Puts the addresses on an interface, and leaves those that are there. Returns those that were not.
pub async fn hold(interface: &str, wanted: &[IpAddr]) -> Result<Vec<IpAddr>, Error> {
    let handle = open()?;
    let Some(link) = by_name(&handle, interface).await? else {
        return Err(Error::NoInterface(interface.to_owned()));
    };
    let index = link.header.index;
    let held: BTreeSet<IpAddr> = all(&handle)
        .await?
        .iter()
        .filter(|message| message.header.index == index)
        .filter_map(address_of)
        .collect();
    let missing: Vec<IpAddr> = wanted.iter().copied().filter(|it| !held.contains(it)).collect();
    for address in &missing {
        let mut request = handle.address().add(index, *address, bits(*address));
        *request.message_mut() = message(index, *address, &format!("{interface}{LABEL}"));
        request.execute().await.map_err(|source| Error::Change {
            step: format!("put {address} on {interface}"),
            source,
        })?;
        info!(%address, interface, "address taken");
    }
    Ok(missing)
}

/// Takes the agent's addresses off an interface, but for some.
pub async fn release(interface: &str, kept: &BTreeSet<IpAddr>) -> Result<(), Error> {
    let handle = open()?;
    let Some(link) = by_name(&handle, interface).await? else {
        return Ok(());
    };
    for message in all(&handle).await? {
        let Some(address) = address_of(&message).filter(|address| !kept.contains(address)) else {
            continue;
        };
        if message.header.index == link.header.index && is_held(&message) {
            let removed = handle.address().del(message).execute().await;
            removed.map_err(|source| Error::Change {
                step: format!("take {address} off {interface}"),
                source,
            })?;
            info!(%address, interface, "address released");
        }
    }
    Ok(())
}

/// All addresses of this machine.
pub(super) async fn all(handle: &rtnetlink::Handle) -> Result<Vec<AddressMessage>, Error> {
    let all = handle.address().get().execute();
    all.try_collect().await.map_err(Error::Ask)
}

/// Whether an address is held for a balancer. Those of IPv6 have no label; single ones that are never chosen as a
/// source are hardly made by others.
pub(super) fn is_held(message: &AddressMessage) -> bool {
    message.attributes.iter().any(|attribute| match attribute {
        AddressAttribute::Label(label) => label.ends_with(LABEL),
        AddressAttribute::CacheInfo(lifetime) => {
            message.header.family == AddressFamily::Inet6
                && message.header.prefix_len == 128
                && lifetime.ifa_preferred == 0
                && lifetime.ifa_valid == FOREVER
        }
        _ => false,
    })
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn message(index: u32, address: IpAddr, label: &str) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header = AddressHeader {
        family: if address.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        },
        prefix_len: bits(address),
        flags: AddressHeaderFlags::empty(),
        index,
        ..AddressHeader::default()
    };
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
    ];
    if address.is_ipv4() {
        message.attributes.push(AddressAttribute::Label(label.to_owned()));
    } else {
        // Others may hold it too, and no connection of this machine's own may come from it.
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_valid = FOREVER;
        let extra = [
            AddressAttribute::Flags(AddressFlags::Nodad),
            AddressAttribute::CacheInfo(lifetime),
        ];
        message.attributes.extend(extra);
    }
    message
}
