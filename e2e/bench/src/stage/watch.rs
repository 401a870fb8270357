//! Sees when a kernel holds a server, with other eyes than those of who put it there.
#![allow(clippy::disallowed_methods, reason = "threads that pause, and no runtime")]

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use e2e::lab::process;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::unistd::gettid;

use super::newest::Ipvs;
use super::wire::{Kernel, Sight, Span, Watched};

/// The file that a rival's iptables commands lock, which no others use.
pub const LOCK: &str = "/run/plb-bench-xtables.lock";

/// Who holds nothing newer after this long is not watched any more.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// iptables is asked so often at least whether patience is over, in milliseconds.
const TURN: u8 = 100;
/// So many characters of it tell what is wrong.
const TOLD: usize = 1000;

/// Nanoseconds of the Unix epoch.
#[must_use]
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or_default()
}

/// A watch that has begun, in the network namespace of the calling thread.
pub struct Watch {
    watched: Watched,
    means: Means,
    process: i32,
}

/// By what changes are noticed.
enum Means {
    Asking(Ipvs),
    Commands(Inotify),
}

/// What a kernel holds.
struct Look {
    /// It was asked not before this.
    begun: u64,
    /// It held this by then.
    ended: u64,
    servers: Vec<SocketAddrV4>,
    text: String,
}

impl Watch {
    /// Begins. It is this process that programs the kernel, or whose network namespace it is.
    pub fn begin(watched: Watched, process: i32) -> Result<Self> {
        let means = match watched.kernel {
            Kernel::Ipvs => {
                be_prompt()?;
                Means::Asking(Ipvs::find()?)
            }
            Kernel::Iptables => Means::Commands(watch_lock()?),
        };
        Ok(Self {
            watched,
            means,
            process,
        })
    }

    /// Tells of each server that is newer than those before, until the last is there. If it does not come, the beginning
    /// of what is there.
    pub fn follow(mut self, mut tell: impl FnMut(Sight) -> Result<()>) -> Result<Option<String>> {
        let Span { last, .. } = self.watched.servers;
        let (mut newest, mut not_before) = (None, now());
        let (mut text, mut end) = (String::new(), Instant::now() + PATIENCE);
        while Instant::now() < end {
            let Some(look) = self.look()? else {
                continue;
            };
            let ours = look
                .servers
                .iter()
                .copied()
                .filter(|it| self.watched.servers.holds(*it));
            if let Some(server) = ours.max().filter(|server| Some(*server) > newest) {
                tell(Sight {
                    server,
                    at: look.ended,
                    not_before,
                    waited: waited(self.process)?,
                })?;
                if server == last {
                    return self.confirm(last).map(|()| None);
                }
                newest = Some(server);
                end = Instant::now() + PATIENCE;
            }
            (not_before, text) = (look.begun, look.text);
        }
        Ok(Some(text.chars().take(TOLD).collect()))
    }

    /// None if nothing can have changed.
    fn look(&mut self) -> Result<Option<Look>> {
        match &mut self.means {
            Means::Asking(ipvs) => {
                std::thread::sleep(self.watched.pause);
                look_at_ipvs(ipvs).map(Some)
            }
            Means::Commands(commands) => look_at_iptables(commands),
        }
    }

    /// The list for people has it too.
    fn confirm(&self, server: SocketAddrV4) -> Result<()> {
        if self.watched.kernel == Kernel::Ipvs {
            let text = fs::read_to_string("/proc/thread-self/net/ip_vs")?;
            ensure!(
                text.lines().filter_map(listed).any(|it| it == server),
                "no {server} in {text}"
            );
        }
        Ok(())
    }
}

/// This thread runs as soon as it wants to, or it would tell how busy the node is with others. It sleeps mostly.
fn be_prompt() -> Result<()> {
    let thread = gettid().to_string();
    let arguments = ["--reset-on-fork", "--fifo", "--pid", "1", &thread];
    process::run(Command::new("chrt").args(arguments)).map(drop)
}

/// How long the threads of a process that are there have been ready to run, and did not, in nanoseconds.
fn waited(process: i32) -> Result<u64> {
    let mut waited = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        // A thread may have ended meanwhile.
        let told = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        waited += delay(&told).unwrap_or_default();
    }
    Ok(waited)
}

/// Of `RUNNING WAITING TIMES`.
fn delay(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().nth(1)?.parse().ok()
}

fn look_at_ipvs(ipvs: &mut Ipvs) -> Result<Look> {
    let begun = now();
    let servers = ipvs.newest()?;
    Ok(Look {
        begun,
        ended: now(),
        text: format!("{servers:?}"),
        servers,
    })
}

/// The lock is closed when a command has ended. Only then the rules are read, which takes long, but delays nobody's
/// time: what counts is when the lock was closed.
fn look_at_iptables(commands: &Inotify) -> Result<Option<Look>> {
    let mut ready = [PollFd::new(commands.as_fd(), PollFlags::POLLIN)];
    if poll(&mut ready, PollTimeout::from(TURN))? == 0 {
        return Ok(None);
    }
    let at = now();
    let _ = commands.read_events()?;
    let save = Command::new("iptables-save").args(["-t", "nat"]).output();
    let rules = save.context("iptables-save")?.stdout;
    let text = String::from_utf8_lossy(&rules).into_owned();
    Ok(Some(Look {
        begun: at,
        ended: at,
        servers: text.lines().filter_map(translated).collect(),
        text,
    }))
}

fn watch_lock() -> Result<Inotify> {
    File::options()
        .create(true)
        .append(true)
        .open(LOCK)
        .context(LOCK)?;
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    inotify.add_watch(LOCK, AddWatchFlags::IN_CLOSE)?;
    Ok(inotify)
}

/// A server with a weight in `/proc/net/ip_vs`: `  -> 0AC80001:1F90      Masq    1      0          0`.
fn listed(line: &str) -> Option<SocketAddrV4> {
    let mut words = line.split_whitespace();
    let server = words.next().filter(|word| *word == "->").and(words.next())?;
    let weight = words.nth(1)?;
    address(server).filter(|_| weight != "0")
}

/// A server of a rule: `-A KUBE-SEP-X -p tcp -j DNAT --to-destination 10.200.0.1:8080`.
fn translated(line: &str) -> Option<SocketAddrV4> {
    line.rsplit_once("--to-destination ")?.1.trim().parse().ok()
}

fn address(word: &str) -> Option<SocketAddrV4> {
    let (address, port) = word.split_once(':')?;
    let address = u32::from_str_radix(address, 16).ok()?;
    Some(SocketAddrV4::new(
        Ipv4Addr::from(address),
        u16::from_str_radix(port, 16).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(last: u8) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(10, 200, 0, last), 8080)
    }

    #[test]
    fn a_server_counts_if_it_has_a_weight() {
        let list = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
FWM  40000050 rr
  -> 0AC80001:1F90      Masq    1      0          0
  -> 0AC80002:1F90      Masq    0      3          0
";
        let servers: Vec<_> = list.lines().filter_map(listed).collect();
        assert_eq!(servers, [server(1)], "the other drains");
    }

    #[test]
    fn time_on_the_processor_is_no_waiting() {
        assert_eq!(delay("1150000000 1790000000 985\n"), Some(1_790_000_000));
        assert_eq!(delay(""), None);
        assert!(waited(std::process::id().try_into().unwrap()).is_ok());
    }

    #[test]
    fn a_rule_names_its_server() {
        let rules = "-A KUBE-SEP-X -s 10.200.0.1/32 -j KUBE-MARK-MASQ\n\
                     -A KUBE-SEP-X -p tcp -m tcp -j DNAT --to-destination 10.200.0.1:8080\n";
        assert_eq!(
            rules.lines().filter_map(translated).collect::<Vec<_>>(),
            [server(1)]
        );
    }

    #[test]
    fn only_what_was_asked_for_counts() {
        let span = Span {
            first: server(3),
            last: server(5),
        };
        let held = [2, 3, 5, 6].map(|last| span.holds(server(last)));
        assert_eq!(held, [false, true, true, false]);
    }
}
