//! Routes: what they say about segments, and where packets to an address go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol,
    RouteType,
};
use tracing::debug;

use super::{Error, name_of, open};
use crate::table::Family;

/// Asks clients for segments of at most so many bytes: the SYN-ACK of a connection carries what its route says.
pub async fn limit_mss(family: Family, mss: u32) -> Result<(), Error> {
    let handle = open()?;
    let routes: Vec<RouteMessage> = handle
        .route()
        .get(any(family))
        .execute()
        .try_collect()
        .await
        .map_err(Error::Ask)?;
    for route in routes.into_iter().filter(leads_to_clients) {
        let Some(limited) = limited(route, mss) else {
            continue;
        };
        debug!(?limited, "route");
        let changed = handle.route().add(limited).replace().execute().await;
        changed.map_err(|source| Error::Change {
            step: format!("limit the segments of the {family} routes"),
            source,
        })?;
    }
    Ok(())
}

/// The gateway to an address; none if it is on our own link, or here.
pub async fn gateway(address: IpAddr) -> Result<Option<IpAddr>, Error> {
    Ok(route_to(&open()?, address)
        .await?
        .and_then(|route| gateway_of(&route)))
}

/// The name of the device that packets to an address leave by.
pub async fn device(address: IpAddr) -> Result<Option<String>, Error> {
    let handle = open()?;
    let Some(route) = route_to(&handle, address).await? else {
        return Ok(None);
    };
    let index = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    let links = super::all(&handle).await?;
    let link = links.iter().find(|link| Some(link.header.index) == index);
    Ok(link.and_then(name_of).map(str::to_owned))
}

async fn route_to(handle: &rtnetlink::Handle, address: IpAddr) -> Result<Option<RouteMessage>, Error> {
    let question = match address {
        IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(v4, 32)
            .build(),
        IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(v6, 128)
            .build(),
    };
    let mut routes = handle.route().get(question).execute();
    routes.try_next().await.map_err(Error::Ask)
}

fn gateway_of(route: &RouteMessage) -> Option<IpAddr> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => Some(IpAddr::V4(*gateway)),
        RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) => Some(IpAddr::V6(*gateway)),
        _ => None,
    })
}

/// Asks for all routes of a family.
fn any(family: Family) -> RouteMessage {
    match family {
        Family::V4 => RouteMessageBuilder::<Ipv4Addr>::new().build(),
        Family::V6 => RouteMessageBuilder::<Ipv6Addr>::new().build(),
    }
}

fn leads_to_clients(route: &RouteMessage) -> bool {
    let header = &route.header;
    let is_link_local = route.attributes.iter().any(|attribute| {
        matches!(attribute, RouteAttribute::Destination(RouteAddress::Inet6(to)) if to.is_unicast_link_local())
    });
    header.table == RouteHeader::RT_TABLE_MAIN
        && header.kind == RouteType::Unicast
        && header.protocol != RouteProtocol::IcmpRedirect
        && !is_link_local
}

/// The route with the limit; nothing if it has it.
fn limited(mut route: RouteMessage, mss: u32) -> Option<RouteMessage> {
    let mut metrics = Vec::new();
    route.attributes.retain(|attribute| match attribute {
        RouteAttribute::Metrics(found) => {
            metrics.extend(found.iter().cloned());
            false
        }
        // Told by the kernel, and not to be told to it.
        RouteAttribute::CacheInfo(_) => false,
        _ => true,
    });
    let has_it =
        |metric: &RouteMetric| matches!(metric, RouteMetric::Advmss(found) if (1..=mss).contains(found));
    if metrics.iter().any(has_it) {
        return None;
    }
    metrics.retain(|metric| !matches!(metric, RouteMetric::Advmss(_)));
    metrics.push(RouteMetric::Advmss(mss));
    route.attributes.push(RouteAttribute::Metrics(metrics));
    route.header.flags &= RouteFlags::Onlink;
    Some(route)
}
