//! How much is measured.

/// A full run, or a small one that only shows that everything works and roughly where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// `make bench`.
    Full,
    /// `make bench-quick`.
    Quick,
}

impl Plan {
    /// One of two values.
    pub fn pick<T>(self, full: T, quick: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}
