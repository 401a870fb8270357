//! Where a balancer is: a machine or a network namespace that runs scripts.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::uml::{Kernel, ROOT_SCRIPT};

use super::cpus::Share;
use super::net::{self, Link, Own};
use crate::scratch::Running;

/// Runs scripts one after the other.
pub trait Place {
    /// Waits until it is ready for the first one.
    fn wait(&mut self) -> Result<()>;

    /// Runs a script; what it leaves running goes with the place.
    fn run(&mut self, script: &Path) -> Result<()>;

    /// The processes that it is to this kernel; none if it is no machine of its own.
    fn processes(&self) -> Vec<u32>;
}

/// A network namespace of this kernel.
pub struct Room {
    own: Own,
}

impl Room {
    /// Makes it, with a cable to the link.
    pub fn make(link: &Link, index: usize) -> Result<Self> {
        let own = link.join(&format!("lb{index}"), &net::balancer(index))?;
        Ok(Self { own })
    }
}

impl Place for Room {
    fn wait(&mut self) -> Result<()> {
        Ok(())
    }

    fn run(&mut self, script: &Path) -> Result<()> {
        let log = File::create(script.with_extension("log"))?;
        let status = self
            .own
            .command(Share::Balancer, "/bin/sh")
            .arg("-eu")
            .arg(script)
            .stdout(log.try_clone()?)
            .stderr(log)
            .status()?;
        ensure!(status.success(), "{}", last_lines(&script.with_extension("log")));
        Ok(())
    }

    fn processes(&self) -> Vec<u32> {
        Vec::new()
    }
}

/// What a machine says when a script has ended, before the script's status.
const DONE: &str = "plb-done ";
const PATIENCE: Duration = Duration::from_mins(1);
/// Memory of a machine, of which it takes what it uses.
const MEMORY_MIB: u32 = 512;

/// A User Mode Linux machine: a shell that reads names of scripts from its console.
pub struct Machine {
    /// It is process 1 of a namespace, and takes all others with it.
    running: Running,
    input: ChildStdin,
    console: Receiver<String>,
    log: PathBuf,
    patience: Duration,
}

impl Machine {
    /// Boots it with a cable to the link, and does not wait for it.
    pub fn boot(link: &Link, folder: &Path, index: usize) -> Result<Self> {
        let tap = format!("lb{index}");
        link.tap(&tap)?;
        let wire = format!(
            "ip link set vec0 address 52:54:00:97:01:{index:02x}\n\
             ip address add {}/24 dev vec0\nip link set vec0 up\n",
            net::balancer(index)
        );
        let command = |program: &Path| link.client().command(Share::Balancer, program);
        Self::start(folder, Some((&tap, &wire)), command)
    }

    /// Boots one without a cable, whose scripts may take long.
    pub fn alone(folder: &Path, patience: Duration) -> Result<Self> {
        let mut machine = Self::start(folder, None, |program| Share::Balancer.command(program))?;
        machine.patience = patience;
        Ok(machine)
    }

    /// A wire is a tap device, and the commands that make it an interface.
    fn start(
        folder: &Path,
        wire: Option<(&str, &str)>,
        command: impl FnOnce(&Path) -> Command,
    ) -> Result<Self> {
        let init = folder.join("init");
        fs::write(folder.join("root.sh"), ROOT_SCRIPT)?;
        fs::write(&init, init_script(folder, wire.map_or("", |(_, up)| up)))?;
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
        let machine = e2e::uml::Machine {
            name: "balancer",
            folder,
            memory_mib: MEMORY_MIB,
            init: &init,
            tap: wire.map(|(tap, _)| tap),
            environment: &[],
        };
        let (program, arguments) = machine.invocation(&Kernel::find()?);
        let (variable, value) = e2e::uml::Machine::ENVIRONMENT;
        let log = folder.join("console.log");
        let mut child = command(&program)
            .args(arguments)
            .arg("con0=fd:0,fd:1")
            .env(variable, value)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .context("could not start a machine")?;
        let input = child.stdin.take().context("no console")?;
        let output = child.stdout.take().context("no console")?;
        Ok(Self {
            running: Running(child),
            input,
            console: lines(output),
            log,
            patience: PATIENCE,
        })
    }

    /// Waits for the end of a script; all else that is said is kept for who looks why it failed.
    fn done(&mut self) -> Result<i32> {
        let mut log = File::options().append(true).open(&self.log)?;
        loop {
            let Ok(line) = self.console.recv_timeout(self.patience) else {
                bail!("the machine is silent: {}", last_lines(&self.log));
            };
            writeln!(log, "{line}")?;
            if let Some((_, status)) = line.split_once(DONE) {
                return Ok(status.trim().parse()?);
            }
        }
    }
}

/// Process 1 of a machine: a shell that reads names of scripts.
fn init_script(folder: &Path, wire: &str) -> String {
    let shared = folder.display();
    format!(
        "#!/bin/sh\n. {shared}/root.sh\nmount --bind /run/host{shared} {shared}\nstty -echo -opost\n{wire}\
         echo '{DONE}0'\nwhile IFS= read -r script; do\n\
         status=0; sh -eu \"$script\" </dev/null >\"${{script%.*}}.log\" 2>&1 || status=$?\n\
         echo \"{DONE}$status\"\ndone\necho o >/proc/sysrq-trigger\nsleep 60\n"
    )
}

/// What is printed, line by line as it comes.
fn lines(output: ChildStdout) -> Receiver<String> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.for_each(|line| drop(tell.send(line)));
    });
    told
}

impl Place for Machine {
    fn wait(&mut self) -> Result<()> {
        self.done().map(drop)
    }

    fn run(&mut self, script: &Path) -> Result<()> {
        writeln!(self.input, "{}", script.display())?;
        let status = self.done()?;
        ensure!(status == 0, "{}", last_lines(&script.with_extension("log")));
        Ok(())
    }

    /// Its kernel, and those that it runs.
    fn processes(&self) -> Vec<u32> {
        let space = |path: String| Some(fs::metadata(path).ok()?.ino());
        let own = space(format!("/proc/{}/ns/pid_for_children", self.running.0.id()));
        let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
        let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        ids.filter(|id| own.is_some() && space(format!("/proc/{id}/ns/pid")) == own)
            .collect()
    }
}

/// How long each thread of a process has run.
#[must_use]
pub fn times_of_threads(process: u32) -> Vec<Duration> {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        return Vec::new();
    };
    let time = |folder: PathBuf| {
        let text = fs::read_to_string(folder.join("schedstat")).ok()?;
        Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
    };
    threads.filter_map(|entry| time(entry.ok()?.path())).collect()
}

fn last_lines(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
