//! Measures again what was disturbed. Processors that belong to others too are taken away for seconds at a time, mostly
//! after much work, and the kernel counts that (*steal*). Whether a value counts never depends on the value.
#![allow(clippy::disallowed_methods, reason = "a rest brings processors back")]

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::stage::watch::now;

/// What may be taken of all processors while something is measured.
const MOST: f64 = 0.02;
/// So often one thing is measured again. Then it counts as it is.
const AGAIN: u32 = 4;
/// So often anything is, so that where there is never calm it takes some minutes more, not hours.
static LEFT: AtomicU32 = AtomicU32::new(75);
/// Before it is, and between two looks whether all have come to rest.
const REST: Duration = Duration::from_secs(2);
/// Who is not at rest after this long never will be.
const PATIENCE: Duration = Duration::from_mins(2);
/// What a cluster that rests takes of all processors, and a little more.
const RESTING: f64 = 0.3;

/// For the page.
#[must_use]
pub fn words() -> String {
    format!(
        "What was measured while more than {} % of this machine's processors were taken by others (*steal*) is measured \
         again after a rest, {AGAIN} times at most. Other work on the same hardware slows them also in ways that no kernel \
         counts: where the middle half of a ratio is wide, that is why.",
        MOST * 100.0
    )
}

/// Measures, and again while it was disturbed. In a machine of its own, which does not see that, once.
pub fn calmly<T>(mut measure: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 0..AGAIN {
        let before = Times::now();
        let value = measure()?;
        let stolen = Times::now().stolen_since(before);
        if stolen <= MOST || !may_repeat() {
            return Ok(value);
        }
        println!("  disturbed: others took {:.0} %", stolen * 100.0);
        thread::sleep(REST);
    }
    measure()
}

/// Waits until what the suite before has left, such as a cluster that takes pods away, leaves the processors alone.
pub fn wait() {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let before = Times::now();
        thread::sleep(REST);
        if Times::now().busy_since(before) <= RESTING {
            return;
        }
    }
    println!("the machine has not come to rest");
}

/// Between two looks at what others take.
const LOOK: Duration = Duration::from_millis(20);

/// What others take of the processors, moment by moment, until it is asked.
pub struct Theft {
    ends: Sender<()>,
    looks: JoinHandle<Vec<(u64, f64)>>,
}

impl Theft {
    /// Looks from now on.
    #[must_use]
    pub fn watch() -> Self {
        let (ends, ended) = mpsc::channel();
        let looks = thread::spawn(move || {
            let look = || (now(), Times::now().stolen);
            let mut looks = vec![look()];
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                looks.push(look());
            }
            looks.push(look());
            looks
        });
        Self { ends, looks }
    }

    /// Ends, and tells what can be asked.
    #[must_use]
    pub fn end(self) -> Thefts {
        drop(self.ends);
        Thefts(self.looks.join().unwrap_or_default())
    }
}

/// What others had taken at each look, in nanoseconds of the Unix epoch and hundredths of a second.
pub struct Thefts(Vec<(u64, f64)>);

impl Thefts {
    /// Milliseconds of processors that others took between two times; the kernel counts ten at once.
    #[must_use]
    pub fn between(&self, begin: u64, end: u64) -> f64 {
        let Self(looks) = self;
        let before = looks.iter().rev().find(|(at, _)| *at <= begin).or(looks.first());
        let after = looks.iter().find(|(at, _)| *at >= end).or(looks.last());
        let stolen = |look: Option<&(u64, f64)>| look.map_or(0.0, |(_, stolen)| *stolen);
        (stolen(after) - stolen(before)) * 10.0
    }
}

fn may_repeat() -> bool {
    let less = |left: u32| left.checked_sub(1);
    LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
}

/// How long all processors have existed, had nothing to do, and were others', in hundredths of a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Times {
    all: f64,
    idle: f64,
    stolen: f64,
}

impl Times {
    fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        Self::parse(&text).unwrap_or_default()
    }

    /// `cpu USER NICE SYSTEM IDLE IOWAIT IRQ SOFTIRQ STEAL ...`: what follows is part of the first two.
    fn parse(stat: &str) -> Option<Self> {
        let fields = stat.lines().next()?.strip_prefix("cpu ")?;
        let times: Option<Vec<f64>> = fields
            .split_whitespace()
            .take(8)
            .map(|field| field.parse().ok())
            .collect();
        let times = times.filter(|times| times.len() == 8)?;
        Some(Self {
            all: times.iter().sum(),
            idle: times[3] + times[4],
            stolen: times[7],
        })
    }

    /// The part that was not idle meanwhile.
    fn busy_since(self, before: Self) -> f64 {
        1.0 - (self.idle - before.idle) / (self.all - before.all).max(1.0)
    }

    /// The part that others had meanwhile.
    fn stolen_since(self, before: Self) -> f64 {
        (self.stolen - before.stolen) / (self.all - before.all).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_a_part_of_all_time() {
        let before = Times::parse("cpu  100 0 100 800 0 0 0 10 0 0\ncpu0 1\n").unwrap();
        let after = Times::parse("cpu  150 0 120 860 0 10 10 60 7 0\n").unwrap();
        assert!((after.stolen_since(before) - 0.25).abs() < 1e-9);
        assert!((after.busy_since(before) - 0.7).abs() < 1e-9);
        assert_eq!((Times::parse("cpu  1 2"), Times::parse("")), (None, None));
        assert!(Times::default().stolen_since(Times::default()).abs() < 1e-9);
    }

    #[test]
    fn what_was_taken_counts_from_the_look_before_to_the_look_after() {
        let thefts = Thefts(vec![(10, 0.0), (20, 1.0), (30, 1.0), (40, 4.0)]);
        let spans = [
            (12, 18, 10.0),
            (20, 30, 0.0),
            (21, 29, 0.0),
            (25, 31, 30.0),
            (0, 99, 40.0),
        ];
        for (begin, end, taken) in spans {
            assert!(
                (thefts.between(begin, end) - taken).abs() < 1e-9,
                "{begin} to {end}"
            );
        }
        assert!(Thefts(Vec::new()).between(1, 2).abs() < 1e-9);
        assert!(Theft::watch().end().between(0, u64::MAX) >= 0.0);
    }

    #[test]
    fn what_is_calm_is_measured_once() {
        let mut times = 0;
        let value = calmly(|| {
            times += 1;
            Ok(times)
        });
        // Unless something really was disturbed.
        assert!((1..=AGAIN + 1).contains(&value.unwrap()));
    }
}
