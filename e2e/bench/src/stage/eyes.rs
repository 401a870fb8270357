//! Eyes in a node: serve one suite, and undo everything when its connection ends.
#![allow(clippy::disallowed_methods, reason = "threads that pause, and no runtime")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use e2e::lab::service::{Service, ServiceFolder};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::watch::{LOCK, Watch, now};
use super::wire::{Answer, Request, Usage, Who};
use crate::scratch::Running;

/// Nobody who wants eyes takes longer to look through them.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);
/// Who takes less than the hundredth of a second in it rests.
const MOMENT: Duration = Duration::from_millis(100);
/// The node's services, and the one that can be suspended.
const SERVICES: &str = "/run/plb/services";
const PROXY: &str = "kube-proxy";
/// Becomes a program that has the same share of the processor as the node's services.
const AMONG_SERVICES: &str = r#"echo 0 >/sys/fs/cgroup/system/cgroup.procs && exec "$@""#;
/// Of the kube-proxy started here.
const LOG: &str = "/run/plb-bench-rival.log";

/// Serves the first who connects.
pub fn serve(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| address.to_string())?;
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + PATIENCE;
    let stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                thread::sleep(PAUSE);
            }
            Err(error) => return Err(error).context("nobody came"),
        }
    };
    drop(listener);
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    Eyes::default().converse(&stream)
}

/// What is to be undone.
#[derive(Default)]
struct Eyes {
    suspended: Option<Service>,
    rival: Option<Running>,
}

impl Drop for Eyes {
    fn drop(&mut self) {
        self.rival = None;
        if let Some(service) = self.suspended.take()
            && let Err(error) = ServiceFolder::new(SERVICES.into()).put(&service)
        {
            eprintln!("kube-proxy is not back: {error:#}");
        }
        // It may never have been made.
        let _ = fs::remove_file(LOCK);
    }
}

impl Eyes {
    fn converse(&mut self, stream: &TcpStream) -> Result<()> {
        for line in BufReader::new(stream).lines() {
            let request = serde_json::from_str(&line?)?;
            let answer = self
                .answer(request, stream)
                .unwrap_or_else(|error| Answer::Failed(format!("{error:#}")));
            tell(stream, &answer)?;
        }
        Ok(())
    }

    fn answer(&mut self, request: Request, stream: &TcpStream) -> Result<Answer> {
        match request {
            Request::Time => return Ok(Answer::Time(now())),
            Request::SuspendProxy => self.suspend()?,
            Request::StartRival { pod, command } => {
                self.rival = None;
                self.rival = Some(Running(start(of_pod(&pod)?, &command)?));
            }
            Request::EndRival => self.rival = None,
            Request::Rests => {
                return Ok(if rests(self.find(&Who::Rival)?)? {
                    Answer::Yes
                } else {
                    Answer::No
                });
            }
            Request::Watch { pod, watch } => {
                let pid = of_pod(&pod)?;
                let stream = stream.try_clone()?;
                let missed = within(pid, move || {
                    let watch = Watch::begin(watch, pid)?;
                    tell(&stream, &Answer::Done)?;
                    watch.follow(|sight| tell(&stream, &Answer::Seen(sight)))
                })?;
                return Ok(missed.map_or(Answer::Done, Answer::Missed));
            }
            Request::Usage(who) => return usage(self.find(&who)?).map(Answer::Usage),
            Request::Signal(who, number) => kill(Pid::from_raw(self.find(&who)?), Signal::try_from(number)?)?,
        }
        Ok(Answer::Done)
    }

    fn suspend(&mut self) -> Result<()> {
        let services = ServiceFolder::new(SERVICES.into());
        let proxy = services
            .wanted()?
            .into_iter()
            .find(|service| service.name == PROXY);
        self.suspended = Some(proxy.context("the node runs no kube-proxy")?);
        services.remove(PROXY)?;
        let deadline = Instant::now() + PATIENCE;
        while services.state(PROXY).is_some() {
            if Instant::now() > deadline {
                bail!("kube-proxy does not end");
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn find(&self, who: &Who) -> Result<i32> {
        match who {
            Who::Pod(pod) => of_pod(pod),
            Who::Rival => {
                let rival = self.rival.as_ref().context("no rival runs")?;
                Ok(i32::try_from(rival.0.id())?)
            }
            Who::Program(name) => processes()?
                .into_iter()
                .find(|pid| {
                    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
                })
                .with_context(|| format!("no process {name}")),
        }
    }
}

fn tell(mut stream: &TcpStream, answer: &Answer) -> Result<()> {
    let mut line = serde_json::to_string(answer)?;
    line.push('\n');
    Ok(stream.write_all(line.as_bytes())?)
}

/// Does something in the network namespace of a process.
fn within<T: Send + 'static>(pid: i32, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    let thread = thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        work()
    });
    thread.join().map_err(|_| anyhow!("the thread panicked"))?
}

fn start(pid: i32, command: &[String]) -> Result<Child> {
    let log = File::create(LOG)?;
    let mut shell = Command::new("sh");
    shell
        .args(["-c", AMONG_SERVICES, "sh"])
        .args(command)
        .env("XTABLES_LOCKFILE", LOCK);
    shell.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    within(pid, move || shell.spawn().context("kube-proxy"))
}

fn processes() -> Result<Vec<i32>> {
    let names = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut pids: Vec<i32> = names.filter_map(|name| name.parse().ok()).collect();
    pids.sort_unstable();
    Ok(pids)
}

/// The oldest process that a pod's container runs.
fn of_pod(pod: &str) -> Result<i32> {
    // A long name is cut in the host name; agents know their whole name.
    let wanted = ["HOSTNAME", "POD_NAME"].map(|name| format!("{name}={pod}").into_bytes());
    let is_of_pod = |pid: &i32| {
        let variables = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        variables
            .split(|byte| *byte == 0)
            .any(|variable| wanted.iter().any(|it| it == variable))
    };
    processes()?
        .into_iter()
        .find(is_of_pod)
        .with_context(|| format!("no process of pod {pod}"))
}

/// Whether a process has no children, and takes no time for a moment.
fn rests(pid: i32) -> Result<bool> {
    let before = usage(pid)?.busy;
    thread::sleep(MOMENT);
    let is_child = |other: &i32| {
        let stat = fs::read_to_string(format!("/proc/{other}/stat")).unwrap_or_default();
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1));
        parent.is_some_and(|parent| parent.parse() == Ok(pid))
    };
    Ok(usage(pid)?.busy == before && !processes()?.iter().any(is_child))
}

/// What a process of this machine takes.
pub fn usage(pid: i32) -> Result<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    read_usage(&status, &stat, descriptors).context("what /proc says is not understood")
}

/// From `/proc/PID/status` and `/proc/PID/stat`, whose times are in hundredths of a second.
fn read_usage(status: &str, stat: &str, descriptors: u64) -> Option<Usage> {
    let field = |name: &str| -> Option<u64> {
        let value = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.split_whitespace().next()?.parse().ok()
    };
    // The name, in parentheses, may have spaces. What follows begins with the third field.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Usage {
        resident: field("VmRSS")?,
        anonymous: field("RssAnon")?,
        threads: field("Threads")?,
        descriptors,
        busy: (ticks()? + ticks()?) * 10,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_from_proc() {
        let status = "Name:\tlb-agent\nVmRSS:\t    9876 kB\nRssAnon:\t    1234 kB\nThreads:\t2\n";
        let stat = "17 (lb agent) S 1 17 17 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 2 0 100 200 300";
        let usage = read_usage(status, stat, 14).unwrap();
        assert_eq!((usage.resident, usage.anonymous, usage.threads), (9876, 1234, 2));
        assert_eq!((usage.descriptors, usage.busy), (14, 3000));
        assert_eq!(read_usage("", stat, 1), None);
    }
}
