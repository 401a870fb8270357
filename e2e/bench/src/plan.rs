//! How much is measured.

use std::time::Duration;

/// A full run, one that takes the time that some things need, or a small one that only shows that everything works and
/// roughly where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// `make bench`.
    Full,
    /// `make bench-long`: as a full one, but for so long that what takes minutes is repeated as often as all else.
    Long(Duration),
    /// `make bench-quick`.
    Quick,
}

impl Plan {
    /// Whether there is time for more.
    #[must_use]
    pub fn has_time(self, since: Duration) -> bool {
        !matches!(self, Self::Long(longest) if since > longest)
    }

    /// One of two values.
    pub fn pick<T>(self, full: T, quick: T) -> T {
        match self {
            Self::Full | Self::Long(_) => full,
            Self::Quick => quick,
        }
    }
}
