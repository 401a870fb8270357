//! The agent's own addresses, and the families that it serves by them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::table::Family;

/// The agent's own addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses(BTreeSet<IpAddr>);

impl Addresses {
    /// Those of a family.
    pub fn of(&self, family: Family) -> impl Iterator<Item = IpAddr> {
        let all = self.0.iter().copied();
        all.filter(move |address| Family::of(*address) == family)
    }

    /// The families that there are addresses of; IPv4 if there are none at all.
    #[must_use]
    pub fn families(&self) -> BTreeSet<Family> {
        let families: BTreeSet<Family> = self.0.iter().copied().map(Family::of).collect();
        if families.is_empty() {
            BTreeSet::from([Family::V4])
        } else {
            families
        }
    }
}

impl FromIterator<IpAddr> for Addresses {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        Self(addresses.into_iter().collect())
    }
}
