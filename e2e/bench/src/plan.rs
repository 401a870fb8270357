//! How much is measured.

/// A full run, one that takes the time that some things need, or a small one that only shows that everything works and
/// roughly where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// `make bench`.
    Full,
    /// `make bench-long`: as a full one, but what happens to a whole cluster happens as often as what happens to an agent.
    Long,
    /// `make bench-quick`.
    Quick,
}

impl Plan {
    /// One of two values.
    pub fn pick<T>(self, full: T, quick: T) -> T {
        match self {
            Self::Full | Self::Long => full,
            Self::Quick => quick,
        }
    }
}
