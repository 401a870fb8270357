//! Processor time of processes and all they started, as the machine's own kernel counts it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};
use e2e::lab::paths::Paths;

/// The kernel counts in hundredths of a second for programs, whatever it does inside.
const TICKS: f64 = 100.0;

/// Who uses processors while a contender is loaded.
#[derive(Clone, Debug)]
pub struct Meter {
    balancer: i32,
    servers: Vec<i32>,
}

/// Seconds of processor time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Used {
    /// Of the node that the balancers are on.
    pub balancer: f64,
    /// Of all nodes of web servers together.
    pub servers: f64,
    /// Of programs that this one has started and that have ended: the load.
    pub load: f64,
}

impl Meter {
    /// Of these nodes, each a process of the lab.
    pub fn new(balancer: &str, servers: &[&str]) -> Result<Self> {
        let services = Paths::of_checkout()?.services();
        let pid = |node: &str| {
            let process = services.state(node).and_then(|state| state.process);
            process
                .map(|process| process.pid)
                .with_context(|| format!("{node} does not run"))
        };
        Ok(Self {
            balancer: pid(balancer)?,
            servers: servers.iter().map(|node| pid(node)).collect::<Result<_>>()?,
        })
    }

    /// What was used until now.
    pub fn read(&self) -> Result<Used> {
        let all = processes()?;
        let own = fs::read_to_string("/proc/self/stat")?;
        let own = parse(&own).context("/proc/self/stat")?;
        Ok(Used {
            balancer: tree(&all, self.balancer),
            servers: self.servers.iter().map(|pid| tree(&all, *pid)).sum(),
            load: own.of_children,
        })
    }
}

impl Used {
    /// What was used since then.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            balancer: self.balancer - before.balancer,
            servers: self.servers - before.servers,
            load: self.load - before.load,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Process {
    parent: i32,
    own: f64,
    /// Of those that ended and that it has waited for.
    of_children: f64,
}

fn processes() -> Result<BTreeMap<i32, Process>> {
    let entries = fs::read_dir("/proc")?.filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // One that ends meanwhile has no file any more.
    let read = |pid: i32| {
        Some((
            pid,
            parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?,
        ))
    };
    Ok(pids.filter_map(read).collect())
}

fn tree(all: &BTreeMap<i32, Process>, root: i32) -> f64 {
    let mut members = BTreeSet::from([root]);
    loop {
        let more: Vec<i32> = all
            .iter()
            .filter(|(pid, process)| members.contains(&process.parent) && !members.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            break;
        }
        members.extend(more);
    }
    let used = |process: &Process| process.own + process.of_children;
    members.iter().filter_map(|pid| all.get(pid)).map(used).sum()
}

/// The fields after the command, whose name may hold anything.
fn parse(stat: &str) -> Option<Process> {
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
    let seconds = |at: usize| Some(fields.get(at)?.parse::<f64>().ok()? / TICKS);
    Some(Process {
        parent: fields.get(1)?.parse().ok()?,
        own: seconds(11)? + seconds(12)?,
        of_children: seconds(13)? + seconds(14)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_strange_name() {
        let process =
            parse("42 (a (b) c) S 7 42 42 0 -1 4194560 1 0 0 0 150 50 20 5 20 0 1 0 987654").unwrap();
        assert_eq!(process.parent, 7);
        assert!((process.own - 2.0).abs() < 1e-9 && (process.of_children - 0.25).abs() < 1e-9);
    }

    #[test]
    fn a_tree_is_a_process_with_all_below_it() {
        let process = |parent, own| Process {
            parent,
            own,
            of_children: 0.5,
        };
        let all = BTreeMap::from([
            (2, process(1, 1.0)),
            (5, process(9, 2.0)),
            (9, process(2, 4.0)),
            (3, process(1, 8.0)),
        ]);
        assert!((tree(&all, 2) - 8.5).abs() < 1e-9);
    }
}
