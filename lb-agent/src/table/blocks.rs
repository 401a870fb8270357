//! What is known of the servers of a service, in blocks that copies share: of ten thousand servers one changes, and only
//! the block that it is in is copied and compared.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::along::{along, apart};

/// Addresses that are equal but for so many bits are of one block.
const BITS: u32 = 6;

/// Sorted by address, and never empty.
type Block<V> = Vec<(SocketAddr, V)>;

/// Something of each server of a service, in the order of their addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks<V> {
    /// By the least address that each may have.
    blocks: BTreeMap<IpAddr, Arc<Block<V>>>,
}

impl<V> Default for Blocks<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> Blocks<V> {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            blocks: BTreeMap::new(),
        }
    }

    /// The number of servers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.values().map(|block| block.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&SocketAddr, &V)> {
        self.blocks.values().flat_map(|block| pairs(block))
    }

    /// The addresses.
    pub fn keys(&self) -> impl Iterator<Item = &SocketAddr> {
        self.iter().map(|(at, _)| at)
    }

    /// All without their addresses.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The greatest address.
    #[must_use]
    pub fn last(&self) -> Option<&SocketAddr> {
        let (_, block) = self.blocks.last_key_value()?;
        block.last().map(|(at, _)| at)
    }

    /// That of the server at an address.
    #[must_use]
    pub fn get(&self, at: &SocketAddr) -> Option<&V> {
        let block = self.blocks.get(&block_of(at))?;
        let found = place(block, at).ok()?;
        block.get(found).map(|(_, value)| value)
    }

    /// Whether there is one at the address.
    #[must_use]
    pub fn contains_key(&self, at: &SocketAddr) -> bool {
        self.get(at).is_some()
    }

    /// Each address in order, with what either has there, except of blocks that both share.
    pub(crate) fn beside<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (&'a SocketAddr, Option<&'a V>, Option<&'a V>)> {
        let all = |block: Option<&'a Block<V>>| block.into_iter().flat_map(pairs);
        let blocks = apart(&self.blocks, &other.blocks);
        blocks.flat_map(move |(_, is, shall)| along(all(is), all(shall)))
    }
}

impl<V: Clone> Blocks<V> {
    /// All, to be changed. All are copied that others share.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&SocketAddr, &mut V)> {
        let blocks = self.blocks.values_mut();
        blocks.flat_map(|block| Arc::make_mut(block).iter_mut().map(|(at, value)| (&*at, value)))
    }

    /// That of the server at an address, to be changed.
    pub fn get_mut(&mut self, at: &SocketAddr) -> Option<&mut V> {
        let block = self.blocks.get_mut(&block_of(at))?;
        let found = place(block, at).ok()?;
        Arc::make_mut(block).get_mut(found).map(|(_, value)| value)
    }

    /// Puts it at an address, and tells what was there.
    pub fn insert(&mut self, at: SocketAddr, value: V) -> Option<V> {
        let block = Arc::make_mut(self.blocks.entry(block_of(&at)).or_default());
        match place(block, &at) {
            Ok(found) => block.get_mut(found).map(|(_, old)| std::mem::replace(old, value)),
            Err(between) => {
                block.insert(between, (at, value));
                None
            }
        }
    }

    /// Removes what is at an address, and tells what it was.
    pub fn remove(&mut self, at: &SocketAddr) -> Option<V> {
        let first = block_of(at);
        let block = self.blocks.get_mut(&first)?;
        let found = place(block, at).ok()?;
        let (_, value) = Arc::make_mut(block).remove(found);
        if block.is_empty() {
            self.blocks.remove(&first);
        }
        Some(value)
    }

    /// Keeps only those.
    pub fn retain(&mut self, keeps: impl Fn(&SocketAddr, &V) -> bool) {
        self.blocks.retain(|_, block| {
            if !pairs(block).all(|(at, value)| keeps(at, value)) {
                Arc::make_mut(block).retain(|(at, value)| keeps(at, value));
            }
            !block.is_empty()
        });
    }

    /// Puts in a part of a block, in order and without doubles.
    fn put(&mut self, first: IpAddr, part: Block<V>) {
        match self.blocks.entry(first) {
            Entry::Vacant(vacant) => drop(vacant.insert(Arc::new(part))),
            Entry::Occupied(_) => {
                for (at, value) in part {
                    self.insert(at, value);
                }
            }
        }
    }
}

impl<V: PartialEq> Blocks<V> {
    /// Shares with `other` the blocks that are equal there.
    pub(super) fn share(&mut self, other: &Self) {
        for (first, block) in &mut self.blocks {
            let same = other.blocks.get(first).filter(|same| *same == block);
            if let Some(same) = same {
                block.clone_from(same);
            }
        }
    }
}

fn pairs<V>(block: &Block<V>) -> impl Iterator<Item = (&SocketAddr, &V)> {
    block.iter().map(|(at, value)| (at, value))
}

/// Where in its block an address is, or would be.
fn place<V>(block: &Block<V>, at: &SocketAddr) -> Result<usize, usize> {
    block.binary_search_by(|(other, _)| other.cmp(at))
}

/// The least address of the block that this one is in.
fn block_of(at: &SocketAddr) -> IpAddr {
    match at.ip() {
        IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() >> BITS << BITS).into()),
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> BITS << BITS).into()),
    }
}

/// Of a list that is sorted whole blocks are taken at once.
impl<V: Clone> Extend<(SocketAddr, V)> for Blocks<V> {
    fn extend<I: IntoIterator<Item = (SocketAddr, V)>>(&mut self, all: I) {
        let mut all = all.into_iter().peekable();
        while let Some((at, value)) = all.next() {
            let (first, mut last) = (block_of(&at), at);
            let mut part = vec![(at, value)];
            while let Some(next) = all.next_if(|(at, _)| last < *at && block_of(at) == first) {
                last = next.0;
                part.push(next);
            }
            self.put(first, part);
        }
    }
}

impl<V: Clone> FromIterator<(SocketAddr, V)> for Blocks<V> {
    fn from_iter<I: IntoIterator<Item = (SocketAddr, V)>>(all: I) -> Self {
        let mut blocks = Self::new();
        blocks.extend(all);
        blocks
    }
}

impl<V: Clone, const N: usize> From<[(SocketAddr, V); N]> for Blocks<V> {
    fn from(all: [(SocketAddr, V); N]) -> Self {
        all.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Server, Servers, Weight};
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Of a few blocks, in both families.
    fn addresses() -> impl Strategy<Value = SocketAddr> {
        (any::<bool>(), 0..200_u8, 1..3_u16).prop_map(|(is_v6, last, port)| {
            let six = [0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)];
            if is_v6 {
                SocketAddr::from((six, port))
            } else {
                SocketAddr::from(([10, 0, 0, last], port))
            }
        })
    }

    /// Sets the server at an address, or removes it.
    fn changes() -> impl Strategy<Value = Vec<(SocketAddr, Option<u32>)>> {
        vec((addresses(), proptest::option::of(0..3_u32)), 0..60)
    }

    type Model = BTreeMap<SocketAddr, Server>;

    fn change((servers, model): &mut (Servers, Model), changes: Vec<(SocketAddr, Option<u32>)>) {
        for (at, weight) in changes {
            match weight.map(|weight| Server::nat(Weight(weight))) {
                Some(server) => assert_eq!(servers.insert(at, server), model.insert(at, server)),
                None => assert_eq!(servers.remove(&at), model.remove(&at)),
            }
        }
    }

    fn all(servers: &Servers) -> Model {
        servers.iter().map(|(at, server)| (*at, *server)).collect()
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_map(first in changes(), second in changes()) {
            let mut both = Default::default();
            change(&mut both, first);
            let before = both.0.clone();
            let held = all(&before);
            change(&mut both, second);
            let (mut servers, mut model) = both;
            prop_assert!(servers.iter().eq(model.iter()));
            prop_assert_eq!((servers.len(), servers.is_empty()), (model.len(), model.is_empty()));
            prop_assert_eq!(servers.last(), model.keys().next_back());
            prop_assert!(model.iter().all(|(at, server)| servers.get(at) == Some(server)));
            servers.retain(|_, server| server.weight != Weight::DRAINING);
            model.retain(|_, server| server.weight != Weight::DRAINING);
            for server in servers.iter_mut().map(|(_, server)| server).chain(model.values_mut()) {
                server.entries_limit = 7;
            }
            prop_assert!(servers.iter().eq(model.iter()));
            prop_assert_eq!(&servers, &model.into_iter().collect());
            prop_assert_eq!(all(&before), held, "what is shared stays");
        }

        #[test]
        fn what_is_beside_each_other_is_all_that_differs(first in changes(), second in changes()) {
            let mut both = Default::default();
            change(&mut both, first);
            let before = both.0.clone();
            change(&mut both, second);
            let alone: Servers = both.1.into_iter().collect();
            let mut shared = alone.clone();
            shared.share(&before);
            prop_assert_eq!(&shared, &alone);
            let differs = |now: &Servers| {
                let pairs = before.beside(now).filter(|(_, is, shall)| is != shall);
                pairs.map(|(at, is, shall)| (*at, is.copied(), shall.copied())).collect::<Vec<_>>()
            };
            prop_assert_eq!(differs(&both.0), differs(&alone));
            prop_assert_eq!(differs(&shared), differs(&alone));
            prop_assert_eq!(before.beside(&before).count(), 0);
        }
    }

    #[test]
    fn one_change_copies_one_block() {
        let at = |n: u16| SocketAddr::from(([10, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]], 80));
        let before: Servers = (0..1000).map(|n| (at(n), Server::nat(Weight::NORMAL))).collect();
        let mut after = before.clone();
        after.remove(&at(500));
        assert_eq!(before.beside(&after).count(), 64);
    }
}
