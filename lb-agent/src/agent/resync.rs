//! When to look at all that is in the kernel. Pure: the clock is given.
//!
//! Such a look starts programs and lists every server, and a change that comes meanwhile waits. So it is done when none
//! came for a moment, and in a long stream of them when it is late.

use std::time::Duration;

use tokio::time::Instant;

/// So long after a change the next one is not expected.
const QUIET: Duration = Duration::from_secs(1);

/// Looks at even distances, and a little later where changes come.
#[derive(Debug)]
pub(super) struct Resync {
    every: Duration,
    due: Instant,
    /// When the last change came.
    news: Option<Instant>,
}

impl Resync {
    /// The first look is at once.
    pub(super) fn new(every: Duration, now: Instant) -> Self {
        Self {
            every,
            due: now,
            news: None,
        }
    }

    /// A change came.
    pub(super) fn put_off(&mut self, now: Instant) {
        self.news = Some(now);
    }

    /// When to look.
    pub(super) fn next(&self) -> Instant {
        let quiet = self.news.map_or(self.due, |news| news + QUIET);
        self.due.max(quiet).min(self.due + self.every)
    }

    /// Whether to look now; then the next look is counted from here.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        let is_due = self.next() <= now;
        if is_due {
            self.due = now + self.every;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_mins(1);

    #[test]
    fn the_first_look_is_at_once_and_the_next_a_period_later() {
        let start = Instant::now();
        let mut resync = Resync::new(EVERY, start);
        assert!(resync.begin(start));
        assert!(!resync.begin(start));
        assert_eq!(resync.next(), start + EVERY);
        assert!(resync.begin(start + EVERY));
    }

    #[test]
    fn it_waits_for_a_moment_without_changes_but_not_for_ever() {
        let start = Instant::now();
        let mut resync = Resync::new(EVERY, start);
        assert!(resync.begin(start));
        resync.put_off(start + EVERY / 2);
        assert_eq!(resync.next(), start + EVERY, "that was long before");
        let mut now = start + EVERY;
        resync.put_off(now);
        assert!(!resync.begin(now));
        assert_eq!(resync.next(), now + QUIET);
        while !resync.begin(now) {
            resync.put_off(now);
            now += QUIET / 4;
        }
        assert_eq!(now, start + 2 * EVERY);
    }
}
