//! How services differ, found in one walk along both.

use std::net::SocketAddr;

use crate::table::{Server, Servers, Service};

/// The servers that differ.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference<'a> {
    /// Only wanted.
    pub(crate) new: Vec<(&'a SocketAddr, &'a Server)>,
    /// Wanted in another way than they are there.
    pub(crate) changed: Vec<(&'a SocketAddr, &'a Server)>,
    /// Only there.
    pub(crate) gone: Vec<(&'a SocketAddr, &'a Server)>,
}

impl<'a> Difference<'a> {
    /// From one service to the other, either of which may not exist.
    pub(crate) fn between(current: Option<&'a Service>, wanted: Option<&'a Service>) -> Self {
        static NONE: Servers = Servers::new();
        let servers = |service: Option<&'a Service>| service.map_or(&NONE, |service| &service.servers);
        let mut difference = Self::default();
        for (at, is, shall) in servers(current).beside(servers(wanted)) {
            match (is, shall) {
                (Some(is), None) => difference.gone.push((at, is)),
                (None, Some(shall)) => difference.new.push((at, shall)),
                (Some(is), Some(shall)) if is != shall => difference.changed.push((at, shall)),
                _ => {}
            }
        }
        difference
    }

    /// Whether none differs.
    pub(crate) fn is_empty(&self) -> bool {
        self.new.is_empty() && self.changed.is_empty() && self.gone.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Scheduling, Weight};

    fn service(servers: &[(u8, u32)]) -> Service {
        let at = |(octet, weight): &(u8, u32)| {
            let at = SocketAddr::from(([10, 0, 0, *octet], 80));
            (at, Server::nat(Weight(*weight)))
        };
        Service {
            scheduling: Scheduling::plain("rr"),
            servers: servers.iter().map(at).collect(),
        }
    }

    fn octets(servers: &[(&SocketAddr, &Server)]) -> Vec<String> {
        let text = |(at, server): &(&SocketAddr, &Server)| format!("{at} {}", server.weight.0);
        servers.iter().map(text).collect()
    }

    #[test]
    fn new_changed_and_gone_are_told_apart() {
        let (current, wanted) = (
            service(&[(1, 1), (2, 1), (4, 1)]),
            service(&[(2, 3), (3, 1), (4, 1), (5, 1)]),
        );
        let found = Difference::between(Some(&current), Some(&wanted));
        assert_eq!(octets(&found.new), ["10.0.0.3:80 1", "10.0.0.5:80 1"]);
        assert_eq!(octets(&found.changed), ["10.0.0.2:80 3"]);
        assert_eq!(octets(&found.gone), ["10.0.0.1:80 1"]);
        assert_eq!(Difference::between(None, Some(&wanted)).new.len(), 4);
        assert_eq!(Difference::between(Some(&current), None).gone.len(), 3);
        assert_eq!(
            Difference::between(Some(&current), Some(&current)),
            Difference::default()
        );
    }
}
