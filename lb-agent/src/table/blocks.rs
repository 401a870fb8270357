//! Sorted maps in blocks that copies share: of ten thousand entries one changes, and only the block that it is in is
//! copied and compared.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use super::Key;
use crate::along::{along, are_one};

/// Sorted by key, and never empty.
type Block<K, V> = Vec<(K, V)>;

/// Something of each of many, in the order of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks<K, V> {
    /// By the least key that each may have.
    blocks: BTreeMap<K, Arc<Block<K, V>>>,
}

impl<K: Key, V> Default for Blocks<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Key, V> Blocks<K, V> {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            blocks: BTreeMap::new(),
        }
    }

    /// How many there are.
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
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.blocks.values().flat_map(|block| pairs(block))
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All without their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The greatest key.
    #[must_use]
    pub fn last(&self) -> Option<&K> {
        let (_, block) = self.blocks.last_key_value()?;
        block.last().map(|(key, _)| key)
    }

    /// What is at a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        find(self.blocks.get(&key.block())?, key)
    }

    /// Whether there is anything at a key.
    #[must_use]
    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Each key in order, with what either has there, except of blocks that both share.
    pub(crate) fn beside<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (&'a K, Option<&'a V>, Option<&'a V>)> {
        let all = |block: Option<&'a Arc<Block<K, V>>>| block.into_iter().flat_map(|block| pairs(block));
        let blocks = along(self.blocks.iter(), other.blocks.iter());
        let blocks = blocks.filter(|(_, is, shall)| !are_one(*is, *shall));
        blocks.flat_map(move |(_, is, shall)| along(all(is), all(shall)))
    }
}

impl<K: Key, V> Blocks<K, Arc<V>> {
    /// Each key in order, with what either has there, except of what both share.
    pub(crate) fn apart<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (&'a K, Option<&'a V>, Option<&'a V>)> {
        let pairs = self.beside(other);
        let pairs = pairs.filter(|(_, is, shall)| !are_one(*is, *shall));
        pairs.map(|(key, is, shall)| (key, is.map(Arc::as_ref), shall.map(Arc::as_ref)))
    }
}

impl<K: Key, V: Clone> Blocks<K, V> {
    /// All, to be changed. All are copied that others share.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        let blocks = self.blocks.values_mut();
        blocks.flat_map(|block| Arc::make_mut(block).iter_mut().map(|(key, value)| (&*key, value)))
    }

    /// What is at a key, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let block = self.blocks.get_mut(&key.block())?;
        let found = place(block, key).ok()?;
        Arc::make_mut(block).get_mut(found).map(|(_, value)| value)
    }

    /// The same, made first where there is nothing.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let block = Arc::make_mut(self.blocks.entry(key.block()).or_default());
        let found = place(block, &key).unwrap_or_else(|between| {
            block.insert(between, (key, make()));
            between
        });
        &mut block[found].1
    }

    /// Puts something at a key, and tells what was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let block = Arc::make_mut(self.blocks.entry(key.block()).or_default());
        match place(block, &key) {
            Ok(found) => block.get_mut(found).map(|(_, old)| std::mem::replace(old, value)),
            Err(between) => {
                block.insert(between, (key, value));
                None
            }
        }
    }

    /// Removes what is at a key, and tells what it was.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let first = key.block();
        let block = self.blocks.get_mut(&first)?;
        let found = place(block, key).ok()?;
        let (_, value) = Arc::make_mut(block).remove(found);
        if block.is_empty() {
            self.blocks.remove(&first);
        }
        Some(value)
    }

    /// Keeps only those.
    pub fn retain(&mut self, keeps: impl Fn(&K, &V) -> bool) {
        self.blocks.retain(|_, block| {
            if !pairs(block).all(|(key, value)| keeps(key, value)) {
                Arc::make_mut(block).retain(|(key, value)| keeps(key, value));
            }
            !block.is_empty()
        });
    }

    /// Puts in a part of a block, in order and without doubles.
    fn put(&mut self, first: K, part: Block<K, V>) {
        match self.blocks.entry(first) {
            Entry::Vacant(vacant) => drop(vacant.insert(Arc::new(part))),
            Entry::Occupied(_) => {
                for (key, value) in part {
                    self.insert(key, value);
                }
            }
        }
    }
}

impl<K: Key, V: Clone + PartialEq> Blocks<K, V> {
    /// Shares with `other` the blocks that are equal there. In the others `share` is called with what both have.
    pub(super) fn share(&mut self, other: &Self, share: impl Fn(&mut V, &V)) {
        for (first, block) in &mut self.blocks {
            if let Some(same) = other.blocks.get(first) {
                share_block(block, same, &share);
            }
        }
    }

    /// The same of the block that this key is in.
    pub(super) fn share_at(&mut self, key: K, other: &Self, share: impl Fn(&mut V, &V)) {
        let first = key.block();
        if let (Some(block), Some(same)) = (self.blocks.get_mut(&first), other.blocks.get(&first)) {
            share_block(block, same, &share);
        }
    }
}

fn share_block<K: Key, V: Clone + PartialEq>(
    block: &mut Arc<Block<K, V>>,
    same: &Arc<Block<K, V>>,
    share: &impl Fn(&mut V, &V),
) {
    if Arc::ptr_eq(block, same) {
        return;
    }
    if block == same {
        block.clone_from(same);
        return;
    }
    for (key, value) in Arc::make_mut(block) {
        if let Some(other) = find(same, key) {
            share(value, other);
        }
    }
}

fn pairs<K, V>(block: &Block<K, V>) -> impl Iterator<Item = (&K, &V)> {
    block.iter().map(|(key, value)| (key, value))
}

/// What a block has at a key.
fn find<'a, K: Key, V>(block: &'a Block<K, V>, key: &K) -> Option<&'a V> {
    let found = place(block, key).ok()?;
    block.get(found).map(|(_, value)| value)
}

/// Where in its block a key is, or would be.
fn place<K: Key, V>(block: &Block<K, V>, key: &K) -> Result<usize, usize> {
    block.binary_search_by(|(other, _)| other.cmp(key))
}

/// Of a list that is sorted whole blocks are taken at once.
impl<K: Key, V: Clone> Extend<(K, V)> for Blocks<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, all: I) {
        let mut all = all.into_iter().peekable();
        while let Some((key, value)) = all.next() {
            let (first, mut last) = (key.block(), key);
            let mut part = vec![(key, value)];
            while let Some(next) = all.next_if(|(key, _)| last < *key && key.block() == first) {
                last = next.0;
                part.push(next);
            }
            self.put(first, part);
        }
    }
}

impl<K: Key, V: Clone> FromIterator<(K, V)> for Blocks<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(all: I) -> Self {
        let mut blocks = Self::new();
        blocks.extend(all);
        blocks
    }
}

impl<K: Key, V: Clone, const N: usize> From<[(K, V); N]> for Blocks<K, V> {
    fn from(all: [(K, V); N]) -> Self {
        all.into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
