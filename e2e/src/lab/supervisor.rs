//! Keeps services running: starts what is asked for, starts again what ended, ends what is no longer wanted.
//!
//! It survives its caller, and its services survive it: a new supervisor takes over the processes of the last one. In a
//! machine it is process 1 as well, and so buries every orphan.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::process::Process;
use super::service::{Service, ServiceFolder, State};

const TURN: Duration = Duration::from_millis(200);
/// The folder is read when it has changed, and every so many turns in case its time stamp was too coarse to tell.
const READ_EVERY: u32 = 25;
const LOOK_EVERY: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Who runs this long is well again.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// Whether a supervisor takes care of `folder`.
pub fn is_running(folder: &ServiceFolder) -> Result<bool> {
    if !folder.path().exists() {
        return Ok(false);
    }
    Ok(lock(folder)?.is_none())
}

/// Only one supervisor can hold this, and the kernel takes it back when that one dies.
fn lock(folder: &ServiceFolder) -> Result<Option<Flock<File>>> {
    let path = folder.path().join("lock");
    let file = File::create(&path).with_context(|| format!("could not write {}", path.display()))?;
    Ok(Flock::lock(file, FlockArg::LockExclusiveNonblock).ok())
}

/// Supervises the services of `folder` until it is killed.
pub fn run(folder: ServiceFolder) -> Result<()> {
    let Some(_lock) = lock(&folder)? else {
        return Ok(());
    };
    // Away from the caller's terminal: its Ctrl-C is not meant for the lab. Process 1 leads its session already.
    let _ = nix::unistd::setsid();
    let mut supervisor = Supervisor::take_over(folder)?;
    loop {
        supervisor.turn()?;
        std::thread::sleep(TURN);
    }
}

struct Supervisor {
    folder: ServiceFolder,
    /// What the folder asked for when it was read last.
    wanted: BTreeMap<String, Service>,
    changed_at: Option<SystemTime>,
    turns: u32,
    tasks: BTreeMap<String, Task>,
    /// How children ended that no task has asked about yet.
    exits: BTreeMap<i32, String>,
}

/// How to find out that a process has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// It is among the children that have been buried.
    AtExits,
    /// It may be no child, but one that was taken over.
    Closely,
}

struct Task {
    state: State,
    started: Instant,
    pause: Pause,
}

impl Supervisor {
    /// Begins with what the last supervisor left running.
    fn take_over(folder: ServiceFolder) -> Result<Self> {
        let task = |state: State| {
            let task = Task {
                state,
                started: Instant::now(),
                pause: Pause::default(),
            };
            (task.state.service.name.clone(), task)
        };
        let tasks = folder.states()?.into_iter().map(task).collect();
        Ok(Self {
            folder,
            wanted: BTreeMap::new(),
            changed_at: None,
            turns: 0,
            tasks,
            exits: BTreeMap::new(),
        })
    }

    fn turn(&mut self) -> Result<()> {
        self.bury();
        if self.turns.is_multiple_of(READ_EVERY) || self.folder.changed_at() != self.changed_at {
            self.changed_at = self.folder.changed_at();
            self.wanted = by_name(self.folder.wanted()?);
        }
        self.turns += 1;
        self.end_unwanted()?;
        self.keep_wanted()?;
        self.exits.clear();
        Ok(())
    }

    fn bury(&mut self) {
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => {
                    self.exits.insert(pid.as_raw(), format!("exit code {code}"));
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    self.exits.insert(pid.as_raw(), format!("signal {signal}"));
                }
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => {}
            }
        }
    }

    fn end_unwanted(&mut self) -> Result<()> {
        let unwanted = |task: &Task| self.wanted.get(&task.state.service.name) != Some(&task.state.service);
        let names: Vec<String> = self
            .tasks
            .values()
            .filter(|task| unwanted(task))
            .map(|task| task.state.service.name.clone())
            .collect();
        for name in names {
            if let Some(task) = self.tasks.remove(&name)
                && let Some(process) = task.state.process
            {
                process.kill_tree();
            }
            self.folder.remove_state(&name)?;
        }
        Ok(())
    }

    fn keep_wanted(&mut self) -> Result<()> {
        for (name, service) in &self.wanted {
            let new = || Task::new(service.clone());
            let task = self.tasks.entry(name.clone()).or_insert_with(new);
            let look = if self.turns.is_multiple_of(LOOK_EVERY) {
                Look::Closely
            } else {
                Look::AtExits
            };
            if task.check(&self.exits, look) {
                self.folder.put_state(&task.state)?;
            }
        }
        Ok(())
    }
}

impl Task {
    fn new(service: Service) -> Self {
        let state = State {
            service,
            process: None,
            restarts: 0,
            last_exit: None,
        };
        Self {
            state,
            started: Instant::now(),
            pause: Pause::default(),
        }
    }

    /// Notices its end, and starts it when its time has come. Returns whether the state changed.
    fn check(&mut self, exits: &BTreeMap<i32, String>, look: Look) -> bool {
        let before = self.state.clone();
        if let Some(process) = self.state.process
            && (exits.contains_key(&process.pid) || (look == Look::Closely && !process.alive()))
        {
            self.state.process = None;
            self.state.restarts += 1;
            self.state.last_exit = exits
                .get(&process.pid)
                .cloned()
                .or_else(|| Some("unknown".to_owned()));
            self.pause.after(self.started.elapsed());
        }
        if self.state.process.is_none() && self.pause.is_over() {
            self.started = Instant::now();
            match start(&self.state.service) {
                Ok(process) => self.state.process = Some(process),
                Err(error) => {
                    self.state.last_exit = Some(format!("{error:#}"));
                    self.pause.after(Duration::ZERO);
                }
            }
        }
        self.state != before
    }
}

fn by_name(services: Vec<Service>) -> BTreeMap<String, Service> {
    services
        .into_iter()
        .map(|service| (service.name.clone(), service))
        .collect()
}

fn start(service: &Service) -> Result<Process> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(&service.log)
        .with_context(|| format!("could not open {}", service.log.display()))?;
    let child = Command::new(&service.program)
        .args(&service.args)
        .envs(&service.env)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| format!("could not start {}", service.program.display()))?;
    let pid = i32::try_from(child.id())?;
    Process::find(pid).ok_or_else(|| anyhow!("it ended at once"))
}

/// The growing time between an end and the next start.
#[derive(Debug, Default)]
struct Pause {
    length: Duration,
    until: Option<Instant>,
}

impl Pause {
    fn after(&mut self, ran: Duration) {
        self.length = if ran >= HEALTHY_AFTER || self.length.is_zero() {
            FIRST_PAUSE
        } else {
            (self.length * 2).min(LONGEST_PAUSE)
        };
        self.until = Some(Instant::now() + self.length);
    }

    fn is_over(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() >= until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_start_small_again_after_a_long_run() {
        let mut pause = Pause::default();
        let mut lengths = Vec::new();
        for _ in 0..7 {
            pause.after(Duration::from_secs(1));
            lengths.push(pause.length.as_millis());
        }
        assert_eq!(lengths, [500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        pause.after(HEALTHY_AFTER);
        assert_eq!(pause.length, FIRST_PAUSE);
    }
}
