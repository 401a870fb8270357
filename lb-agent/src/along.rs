//! Two sorted maps, side by side.

use std::cmp::Ordering;
use std::mem;
use std::sync::Arc;

/// Whether both are there, and are one in memory.
pub(crate) fn are_one<V>(is: Option<&Arc<V>>, shall: Option<&Arc<V>>) -> bool {
    is.zip(shall).is_some_and(|(is, shall)| Arc::ptr_eq(is, shall))
}

/// Each key of two lists that are sorted by it, in order, with what either has of it.
pub(crate) fn along<'a, K: Ord + 'a, V: 'a>(
    mut old: impl Iterator<Item = (&'a K, &'a V)>,
    mut new: impl Iterator<Item = (&'a K, &'a V)>,
) -> impl Iterator<Item = (&'a K, Option<&'a V>, Option<&'a V>)> {
    let (mut left, mut right) = (old.next(), new.next());
    std::iter::from_fn(move || {
        let order = match (left, right) {
            // Mostly they are equal, which is found out sooner than which is less.
            (Some((one, _)), Some((other, _))) if one == other => Ordering::Equal,
            (Some((one, _)), Some((other, _))) => one.cmp(other),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        let is = (order != Ordering::Greater).then(|| mem::replace(&mut left, old.next()));
        let shall = (order != Ordering::Less).then(|| mem::replace(&mut right, new.next()));
        let (is, shall) = (is.flatten(), shall.flatten());
        let (key, _) = is.or(shall)?;
        Some((key, is.map(|(_, value)| value), shall.map(|(_, value)| value)))
    })
}
