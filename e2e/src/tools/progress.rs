//! Says which group is being built, for how long, and how long the rest may take.

use std::io::{IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};

use super::{Group, Tool};

/// The cores of the machine that typical durations were taken on.
const CORES: f64 = 2.0;

/// Progress of one call that builds several groups.
pub(super) struct Progress {
    total: usize,
    done: usize,
    estimate: Estimate,
    started: Instant,
    group: Option<(Group, Instant)>,
    terminal: bool,
}

impl Progress {
    pub(super) fn new(groups: &[Group]) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let seconds = |group: &Group| group.typical_seconds();
        let estimate = Estimate {
            slowness: CORES / f64::from(u32::try_from(cores).unwrap_or(1)),
            done: 0,
            left: groups.iter().map(seconds).sum(),
        };
        let terminal = std::io::stderr().is_terminal();
        Self {
            total: groups.len(),
            done: 0,
            estimate,
            started: Instant::now(),
            group: None,
            terminal,
        }
    }

    /// How often [`Self::tell`] should be called: often on a terminal, where its line is written over.
    pub(super) fn interval(&self) -> Duration {
        Duration::from_secs(if self.terminal { 1 } else { 30 })
    }

    pub(super) fn start(&mut self, group: Group) {
        self.group = Some((group, Instant::now()));
        let tools: Vec<_> = group.tools().map(Tool::name).collect();
        eprintln!(
            "tools: building {} ({} of {}): {}",
            group.name(),
            self.done + 1,
            self.total,
            tools.join(", ")
        );
        self.tell();
    }

    pub(super) fn tell(&self) {
        let Some((group, since)) = self.group else { return };
        let left = self
            .estimate
            .left(self.started.elapsed(), since.elapsed(), group.typical_seconds());
        let line = format!(
            "tools: {}, {} so far, about {} left",
            group.name(),
            clock(since.elapsed()),
            clock(left)
        );
        if self.terminal {
            eprint!("\r\x1b[K{line}");
            drop(std::io::stderr().flush());
        } else {
            eprintln!("{line}");
        }
    }

    pub(super) fn finish(&mut self, group: Group) {
        let took = self
            .group
            .take()
            .map_or(Duration::ZERO, |(_, since)| since.elapsed());
        self.done += 1;
        self.estimate.finish(group.typical_seconds());
        let over = if self.terminal { "\r\x1b[K" } else { "" };
        eprintln!(
            "{over}tools: {} ({} of {}) built in {}",
            group.name(),
            self.done,
            self.total,
            clock(took)
        );
    }
}

/// Time left, from typical seconds and how much slower this machine has been so far.
struct Estimate {
    slowness: f64,
    done: u64,
    left: u64,
}

impl Estimate {
    fn finish(&mut self, typical: u64) {
        self.done += typical;
        self.left -= typical;
    }

    /// `elapsed` since the first group began, `current` since this one did, whose typical duration is `typical`.
    fn left(&self, elapsed: Duration, current: Duration, typical: u64) -> Duration {
        let slowness = match self.done {
            0 => self.slowness,
            done => elapsed
                .saturating_sub(current)
                .div_f64(Duration::from_secs(done).as_secs_f64())
                .as_secs_f64(),
        };
        let this = Duration::from_secs(typical)
            .mul_f64(slowness)
            .saturating_sub(current);
        this + Duration::from_secs(self.left - typical).mul_f64(slowness)
    }
}

fn clock(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..=59 => format!("{seconds} s"),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn at_first_the_typical_time_is_left() {
        let estimate = Estimate {
            slowness: 1.0,
            done: 0,
            left: 100,
        };
        assert_eq!(estimate.left(Duration::ZERO, Duration::ZERO, 60), 100 * SECOND);
        assert_eq!(estimate.left(10 * SECOND, 10 * SECOND, 60), 90 * SECOND);
    }

    #[test]
    fn what_was_built_tells_how_slow_the_machine_is() {
        let mut estimate = Estimate {
            slowness: 1.0,
            done: 0,
            left: 100,
        };
        estimate.finish(60);
        assert_eq!(estimate.left(120 * SECOND, Duration::ZERO, 40), 80 * SECOND);
    }

    #[test]
    fn a_group_that_is_late_leaves_the_others_time() {
        let estimate = Estimate {
            slowness: 1.0,
            done: 0,
            left: 100,
        };
        assert_eq!(estimate.left(90 * SECOND, 90 * SECOND, 60), 40 * SECOND);
    }

    #[test]
    fn minutes_are_told_from_one_minute_on() {
        assert_eq!(clock(59 * SECOND), "59 s");
        assert_eq!(clock(61 * SECOND), "1 min 01 s");
    }
}
