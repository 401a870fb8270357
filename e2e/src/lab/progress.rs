//! Tells how far a command is and how long it has taken.

use std::time::Instant;

/// A command's clock.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    begin: Instant,
}

impl Progress {
    /// Starts the clock.
    #[must_use]
    pub fn start() -> Self {
        Self {
            begin: Instant::now(),
        }
    }

    /// Says what is true now.
    pub fn say(&self, text: &str) {
        eprintln!("[{:5.1} s] {text}", self.begin.elapsed().as_secs_f64());
    }
}
