//! What neighbours are together in a block.

use std::net::{IpAddr, SocketAddr};

use super::Listener;

/// Addresses that are equal but for so many bits are of one block.
const ADDRESS_BITS: u32 = 6;
/// Ports likewise.
const PORT_BITS: u32 = 4;

/// By what something is in a block.
pub trait Key: Copy + Ord {
    /// The least key of the block that this one is in. Of two keys the lesser is not in a later block.
    #[must_use]
    fn block(self) -> Self;
}

impl Key for SocketAddr {
    fn block(self) -> Self {
        let ip = match self.ip() {
            IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() >> ADDRESS_BITS << ADDRESS_BITS).into()),
            IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> ADDRESS_BITS << ADDRESS_BITS).into()),
        };
        Self::new(ip, 0)
    }
}

impl Key for Listener {
    fn block(self) -> Self {
        Self {
            port: self.port >> PORT_BITS << PORT_BITS,
            ..self.anywhere()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::listeners;
    use proptest::prelude::*;

    /// Blocks are in the order of their keys.
    fn check<K: Key + std::fmt::Debug>(one: K, other: K) -> Result<(), TestCaseError> {
        let (less, more) = if one <= other { (one, other) } else { (other, one) };
        prop_assert!(less.block() <= more.block());
        prop_assert!(less.block() <= less);
        prop_assert_eq!(less.block().block(), less.block());
        Ok(())
    }

    /// Ports and last numbers that are near each other.
    const NEAR: std::ops::Range<u16> = 0..200;

    proptest! {
        #[test]
        fn addresses_are_in_order(one: SocketAddr, other: SocketAddr, near in (NEAR, NEAR)) {
            check(one, other)?;
            let at = |last: u16| SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, last], 300 - last));
            check(at(near.0), at(near.1))?;
        }

        #[test]
        fn listeners_are_in_order(
            one in (listeners(), NEAR, any::<Option<IpAddr>>()),
            other in (listeners(), NEAR, any::<Option<IpAddr>>()),
        ) {
            let at = |(it, port, address): (Listener, u16, Option<IpAddr>)| Listener { port, address, ..it };
            check(at(one), at(other))?;
            check(one.0, other.0)?;
        }
    }
}
