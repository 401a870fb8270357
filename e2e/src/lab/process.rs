//! Processes that outlive whoever started them: known by id and start time, so that a reused id is never mistaken.
//! Also [`run`], for those that are waited for.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// One process, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// When it started, in ticks since the machine did.
    pub started: u64,
}

impl Process {
    /// The living process of this id.
    #[must_use]
    pub fn find(pid: i32) -> Option<Self> {
        parse_stat(&read_stat(pid)).map(|started| Self { pid, started })
    }

    /// Whether it still lives; a zombie does not.
    #[must_use]
    pub fn alive(&self) -> bool {
        Self::find(self.pid).as_ref() == Some(self)
    }

    /// Ends it and every process it has started at once.
    pub fn kill_tree(&self) {
        if self.alive() {
            let members = all()
                .into_iter()
                .filter(|process| family(process.pid).contains(&self.pid));
            kill_all(&members.collect::<Vec<_>>());
            wait_until(|| !self.alive());
        }
    }

    fn signal(self, signal: Signal) {
        if self.alive() {
            // It may end in between; that is what is wanted.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

/// A process and all it descends from.
#[must_use]
pub fn family(pid: i32) -> Vec<i32> {
    let parent = |&pid: &i32| {
        fields(&read_stat(pid))?
            .nth(1)?
            .parse()
            .ok()
            .filter(|&parent| parent > 0)
    };
    std::iter::successors(Some(pid), parent).collect()
}

/// Ends processes at once, and those that are traced before those that trace them.
///
/// User Mode Linux traces its guest's processes. If it dies first they are let go, and for a moment a guest's program
/// runs on the host, as root. So the tracers are stopped, the traced are ended, and only then the tracers.
pub fn kill_all(processes: &[Process]) {
    let (traced, others): (Vec<Process>, Vec<Process>) = processes
        .iter()
        .copied()
        .partition(|process| is_traced(process.pid));
    signal_all(&others, Signal::SIGSTOP);
    wait_until(|| others.iter().all(|process| is_stopped(process.pid)));
    // A tracer may have started more before it stopped.
    let tracers: Vec<i32> = others.iter().map(|process| process.pid).collect();
    let late = all()
        .into_iter()
        .filter(|process| tracer(process.pid).is_some_and(|pid| tracers.contains(&pid)));
    let traced: Vec<Process> = traced.into_iter().chain(late).collect();
    signal_all(&traced, Signal::SIGKILL);
    wait_until(|| !traced.iter().any(Process::alive));
    signal_all(&others, Signal::SIGKILL);
}

fn signal_all(processes: &[Process], signal: Signal) {
    for process in processes {
        process.signal(signal);
    }
}

/// Every living process of this machine.
fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(Process::find).collect()
}

fn tracer(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"))?
        .trim()
        .parse()
        .ok()
}

fn is_traced(pid: i32) -> bool {
    tracer(pid).is_some_and(|tracer| tracer != 0)
}

fn is_stopped(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    fields(&stat)
        .and_then(|mut fields| fields.next())
        .is_none_or(|state| matches!(state, "T" | "t" | "Z" | "X"))
}

/// Waits a moment for what the kernel is about to do.
fn wait_until(done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while !done() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a command to its end and returns what it printed; if it fails, the error says what it complained of.
pub fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("could not start {program}"))?;
    if !output.status.success() {
        let arguments: Vec<_> = command
            .get_args()
            .map(|argument| argument.to_string_lossy())
            .collect();
        bail!(
            "{program} {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Empty if there is no such process.
fn read_stat(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default()
}

/// The fields after the command, whose name may hold anything. The first is the state.
fn fields(stat: &str) -> Option<std::str::SplitWhitespace<'_>> {
    Some(stat.rsplit_once(") ")?.1.split_whitespace())
}

fn parse_stat(stat: &str) -> Option<u64> {
    let mut fields = fields(stat)?;
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str =
        "42 (a (b) c) S 1 42 42 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 987654 1000 10 18446744073709551615";

    #[test]
    fn the_start_time_is_found_behind_a_strange_name() {
        assert_eq!(parse_stat(STAT), Some(987_654));
    }

    #[test]
    fn a_zombie_is_not_alive() {
        assert_eq!(parse_stat(&STAT.replace(") S", ") Z")), None);
    }

    #[test]
    fn this_process_is_alive() {
        let own = Process::find(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.alive());
        assert!(
            !Process {
                started: own.started + 1,
                ..own
            }
            .alive()
        );
    }
}
