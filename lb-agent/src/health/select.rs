//! Which of the servers that are ready take new connections. Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::Reason;

/// Who takes new connections, and who fails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Those that take new connections.
    pub taking: Vec<SocketAddr>,
    /// Those that fail.
    pub failing: BTreeMap<SocketAddr, Reason>,
    /// All fail, so all stay: it is likelier that the check is wrong, or that the way to it is, than that none serves.
    /// And if none does, nothing is lost.
    pub is_panic: bool,
}

/// Chooses among the candidates of one listener. `failure` tells why one fails.
#[must_use]
pub fn select(
    candidates: impl IntoIterator<Item = SocketAddr>,
    failure: impl Fn(SocketAddr) -> Option<Reason>,
) -> Selection {
    let mut selection = Selection::default();
    for server in candidates {
        match failure(server) {
            Some(reason) => drop(selection.failing.insert(server, reason)),
            None => selection.taking.push(server),
        }
    }
    selection.is_panic = selection.taking.is_empty() && !selection.failing.is_empty();
    if selection.is_panic {
        selection.taking = selection.failing.keys().copied().collect();
    }
    selection
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(octet: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, octet], 80))
    }

    fn among(count: u8, failing: &[u8]) -> Selection {
        select((1..=count).map(at), |server| {
            failing
                .iter()
                .any(|octet| at(*octet) == server)
                .then_some(Reason::Timeout)
        })
    }

    #[test]
    fn who_fails_is_left_out() {
        let found = among(3, &[2]);
        assert_eq!(found.taking, [at(1), at(3)]);
        assert_eq!(found.failing, BTreeMap::from([(at(2), Reason::Timeout)]));
        assert!(!found.is_panic);
    }

    #[test]
    fn if_all_fail_all_stay() {
        for count in [1, 3] {
            let found = among(count, &[1, 2, 3]);
            assert_eq!(found.taking, (1..=count).map(at).collect::<Vec<_>>());
            assert_eq!((found.is_panic, found.failing.len()), (true, usize::from(count)));
        }
    }

    #[test]
    fn no_server_is_no_panic() {
        assert_eq!(among(0, &[]), Selection::default());
    }
}
