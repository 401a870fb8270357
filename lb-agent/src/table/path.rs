//! Ways to single servers, for the agent's own questions: what is asked goes the way that traffic goes.
//!
//! With DR and TUN a connection to a server's own address proves nothing of the way there. So each server has a service
//! of its own, known by a mark that only the agent's questions carry.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;

use super::{Family, Forwarding};

/// The bit of marks of ways; those of listeners have another.
const BIT: NonZeroU32 = NonZeroU32::new(0x2000_0000).expect("a bit is set");
const V6_BIT: u32 = 1 << 27;
const NUMBER: u32 = V6_BIT - 1;

/// The mark of a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathMark(NonZeroU32);

impl PathMark {
    fn new(family: Family, number: u32) -> Self {
        let family = match family {
            Family::V4 => 0,
            Family::V6 => V6_BIT,
        };
        Self(BIT | family | (number & NUMBER))
    }

    /// The number itself.
    #[must_use]
    pub fn number(self) -> NonZeroU32 {
        self.0
    }

    /// The family of the server.
    #[must_use]
    pub fn family(self) -> Family {
        if self.0.get() & V6_BIT == 0 {
            Family::V4
        } else {
            Family::V6
        }
    }

    /// The same, of a mark that was found; `None` for one that is not of a way.
    #[must_use]
    pub fn from_mark(mark: u32) -> Option<Self> {
        let family = if mark & V6_BIT == 0 {
            Family::V4
        } else {
            Family::V6
        };
        let found = Self::new(family, mark);
        (found.0.get() == mark).then_some(found)
    }
}

impl fmt::Display for PathMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// The way to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// The server.
    pub server: IpAddr,
    /// How packets reach it.
    pub forwarding: Forwarding,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.server, self.forwarding)
    }
}

/// A mark for each server. It is computed from the address, so an agent needs no memory of it; where two addresses
/// give the same, the larger takes the next that is free.
#[must_use]
pub fn path_marks(servers: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, PathMark> {
    let mut taken = BTreeSet::new();
    let mut marks = BTreeMap::new();
    for server in servers {
        let first = match server {
            IpAddr::V4(v4) => v4.to_bits(),
            IpAddr::V6(v6) => {
                let hash = crd::names::fnv1a(&v6.octets());
                u32::try_from(hash & u64::from(NUMBER)).unwrap_or_default()
            }
        };
        let mut candidates =
            (0..=NUMBER).map(|step| PathMark::new(Family::of(*server), first.wrapping_add(step)));
        if let Some(free) = candidates.find(|mark| !taken.contains(mark)) {
            taken.insert(free);
            marks.insert(*server, free);
        }
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Listener;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_server_has_a_mark_of_its_own(servers: BTreeSet<IpAddr>) {
            let marks = path_marks(&servers);
            let distinct: BTreeSet<PathMark> = marks.values().copied().collect();
            prop_assert_eq!(distinct.len(), servers.len());
            for (server, mark) in marks {
                prop_assert_eq!(mark.family(), Family::of(server));
                prop_assert_eq!(PathMark::from_mark(mark.number().get()), Some(mark));
                prop_assert_eq!(Listener::from_mark(mark.number().get()), None);
            }
        }

        #[test]
        fn a_mark_is_of_a_way_or_of_a_listener_or_foreign(mark: u32) {
            prop_assert!(PathMark::from_mark(mark).is_none() || Listener::from_mark(mark).is_none());
        }
    }

    #[test]
    fn marks_are_part_of_the_contract() {
        let server: IpAddr = "10.244.2.3".parse().expect("an address");
        let twin: IpAddr = "26.244.2.3".parse().expect("an address");
        let marks = path_marks(&BTreeSet::from([server, twin]));
        assert_eq!(marks[&server].number().get(), 0x22f4_0203);
        assert_eq!(marks[&twin].number().get(), 0x22f4_0204);
        for foreign in [80, 0x4000_0050, 0x6000_0001, 0x3000_0001] {
            assert_eq!(PathMark::from_mark(foreign), None, "{foreign:#x}");
        }
    }
}
