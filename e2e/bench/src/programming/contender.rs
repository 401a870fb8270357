//! Who programs tables: ours and its rivals, each in a network namespace of its own.

use std::fs::{self, File};
use std::mem;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_agent::converge::{Converger, Pace};
use lb_agent::dataplane::{Dataplane, Depth};
use lb_agent::kernel;
use lb_agent::plan::plan;
use lb_agent::table::Table;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{eyes, table};
use crate::record::OURS;

/// See [`Messages`].
pub(crate) const MESSAGES: &str = "the messages alone";
/// The agent's own.
const PACE: Pace = Pace {
    drain: Duration::from_secs(30),
    warm_up: Duration::ZERO,
};
/// How often it is looked whether a rival is done.
const POLL: Duration = Duration::from_millis(2);
/// How long a rival may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// Leads the kernel from one table to the next.
pub(crate) trait Contender {
    /// Its name in the values.
    fn name(&self) -> &'static str;

    /// Does it, and tells how long it took until the kernel had it.
    fn lead(&mut self, current: &Table, wanted: &Table) -> Result<Duration>;
}

/// Our agent's way: wanted table in, acknowledged kernel out.
pub(crate) struct Ours {
    converger: Converger,
    depth: Depth,
}

impl Ours {
    pub(crate) fn new() -> Self {
        Self {
            converger: Converger::new(Dataplane::new(&[].into())),
            depth: Depth::All,
        }
    }
}

impl Contender for Ours {
    fn name(&self) -> &'static str {
        OURS
    }

    fn lead(&mut self, _: &Table, wanted: &Table) -> Result<Duration> {
        let start = Instant::now();
        let converged = self.converger.converge(wanted, PACE, self.depth)?;
        let took = start.elapsed();
        ensure!(converged.steps > 0, "there was nothing to do");
        // As the agent does it between changes: after the first table it reads back what the kernel has. No drain goes
        // on into the next change.
        let depth = mem::replace(&mut self.depth, Depth::Draining);
        self.converger.converge(wanted, Pace::default(), depth)?;
        Ok(took)
    }
}

/// The messages of netlink that a change takes, made beforehand: what is the kernel's own part of the time.
pub(crate) struct Messages(ipvs::Client);

impl Messages {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(ipvs::Client::open()?))
    }
}

impl Contender for Messages {
    fn name(&self) -> &'static str {
        MESSAGES
    }

    fn lead(&mut self, current: &Table, wanted: &Table) -> Result<Duration> {
        let mut batch = ipvs::Batch::new();
        for step in plan(current, wanted) {
            batch.extend(kernel::commands(&step)?);
        }
        let start = Instant::now();
        let rejections = self.0.apply(&batch)?;
        let took = start.elapsed();
        ensure!(rejections.is_empty(), "the kernel refused: {rejections:?}");
        Ok(took)
    }
}

/// `ipvsadm --restore`, with a file of commands.
pub(crate) struct Restore;

impl Contender for Restore {
    fn name(&self) -> &'static str {
        "ipvsadm -R"
    }

    fn lead(&mut self, current: &Table, wanted: &Table) -> Result<Duration> {
        let text = table::ipvsadm(current, wanted)?.join("\n") + "\n";
        fs::write("commands", text)?;
        let start = Instant::now();
        let input = File::open("commands")?;
        let output = Command::new("ipvsadm").arg("-R").stdin(input).output()?;
        let took = start.elapsed();
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success() && stderr.is_empty(),
            "ipvsadm -R: {stderr}"
        );
        Ok(took)
    }
}

/// `ipvsadm`, called once for each command.
pub(crate) struct Calls;

impl Contender for Calls {
    fn name(&self) -> &'static str {
        "ipvsadm, a call each"
    }

    fn lead(&mut self, current: &Table, wanted: &Table) -> Result<Duration> {
        let lines = table::ipvsadm(current, wanted)?;
        let start = Instant::now();
        for line in &lines {
            let status = Command::new("ipvsadm").args(line.split(' ')).status()?;
            ensure!(status.success(), "ipvsadm {line}");
        }
        Ok(start.elapsed())
    }
}

/// keepalived, told to read its file again.
pub(crate) struct Keepalived {
    running: Child,
    /// The weight of the last service's only server tells which file the kernel has.
    round: u32,
}

impl Keepalived {
    pub(crate) fn start() -> Result<Self> {
        let log = File::create("keepalived.log")?;
        fs::write("keepalived.conf", table::keepalived(&Table::default(), 1))?;
        let running = Command::new("keepalived")
            .args(["--dont-fork", "--check", "--log-console"])
            .args(["--use-file", "keepalived.conf", "--pid", "keepalived.pid"])
            .args(["--checkers_pid", "checkers.pid"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("could not start keepalived")?;
        let started = Self { running, round: 1 };
        started.wait()?;
        Ok(started)
    }

    /// Waits until the kernel has the last service of the newest file.
    fn wait(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while marker()? != Some(self.round) {
            ensure!(Instant::now() < deadline, "keepalived is not done");
            sleep(POLL);
        }
        Ok(())
    }
}

/// The weight of the server that is behind mark 1.
fn marker() -> Result<Option<u32>> {
    let id = ipvs::ServiceId::Mark {
        family: ipvs::Family::V4,
        mark: std::num::NonZeroU32::MIN,
    };
    let servers = ipvs::Client::open()?.destinations(&id)?;
    Ok(servers.first().map(|entry| entry.destination.weight))
}

impl Contender for Keepalived {
    fn name(&self) -> &'static str {
        "keepalived"
    }

    fn lead(&mut self, _: &Table, wanted: &Table) -> Result<Duration> {
        self.round += 1;
        fs::write("keepalived.conf", table::keepalived(wanted, self.round))?;
        let start = Instant::now();
        kill(Pid::from_raw(i32::try_from(self.running.id())?), Signal::SIGHUP)?;
        self.wait()?;
        let mut took = start.elapsed();
        // The last service is not always the last thing it does.
        while eyes::check(wanted).is_err() {
            ensure!(start.elapsed() < PATIENCE, "keepalived is not done");
            sleep(POLL);
            took = start.elapsed();
        }
        Ok(took)
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        if let Ok(id) = i32::try_from(self.running.id()) {
            let _: nix::Result<()> = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        let _: std::io::Result<_> = self.running.wait();
    }
}

/// Where contenders keep their files: in memory.
pub(crate) fn settle_in(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    Ok(std::env::set_current_dir(folder)?)
}
