//! Which processors do what: the balancer that is loaded has the last to itself.

use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::Result;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// A part of the machine's processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// The last one.
    Balancer,
    /// All others.
    Rest,
}

impl Share {
    /// Their numbers. With one processor all is on that.
    #[must_use]
    pub fn numbers(self) -> Vec<usize> {
        self.of(thread::available_parallelism().map_or(1, Into::into))
    }

    fn of(self, count: usize) -> Vec<usize> {
        let last = count.saturating_sub(1);
        match self {
            Self::Balancer => vec![last],
            Self::Rest => (0..last.max(1)).collect(),
        }
    }

    /// Before a program and its arguments, these words keep it there, and end it when the thread that starts it ends.
    #[must_use]
    pub fn words(self) -> Vec<String> {
        let numbers: Vec<String> = self.numbers().iter().map(usize::to_string).collect();
        let list = numbers.join(",");
        let words = ["setpriv", "--pdeathsig", "KILL", "taskset", "--cpu-list", &list];
        words.map(str::to_owned).to_vec()
    }

    /// A program kept there.
    #[must_use]
    pub fn command(self, program: &Path) -> Command {
        let mut command = Command::new("/usr/bin/env");
        command.args(self.words()).arg(program);
        command
    }

    /// Keeps the calling thread on them.
    pub fn keep(self) -> Result<()> {
        let mut set = CpuSet::new();
        for number in self.numbers() {
            set.set(number)?;
        }
        Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_balancer_shares_only_a_single_processor() {
        assert_eq!((Share::Balancer.of(1), Share::Rest.of(1)), (vec![0], vec![0]));
        assert_eq!(
            (Share::Balancer.of(4), Share::Rest.of(4)),
            (vec![3], vec![0, 1, 2])
        );
    }
}
