//! Sees when a kernel holds a server, with other eyes than those of who put it there.
#![allow(clippy::disallowed_methods, reason = "threads that pause, and no runtime")]

use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::wire::{Kernel, Sight};

/// The file that a rival's iptables commands lock, which no others use.
pub const LOCK: &str = "/run/plb-bench-xtables.lock";

/// A server that is not there after this long is not waited for.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks at IPVS.
const PAUSE: Duration = Duration::from_millis(2);
/// New servers stand first in the list, behind the few services there are: this much of it is enough.
const ENOUGH: usize = 16 * 1024;
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
    server: SocketAddrV4,
    commands: Option<Inotify>,
}

impl Watch {
    /// Begins.
    pub fn begin(kernel: Kernel, server: SocketAddrV4) -> Result<Self> {
        let commands = match kernel {
            Kernel::Ipvs => None,
            Kernel::Iptables => Some(watch_lock()?),
        };
        Ok(Self { server, commands })
    }

    /// Waits until the server is there. If it does not come, the beginning of what is there.
    pub fn wait(self) -> Result<Result<Sight, String>> {
        match &self.commands {
            None => self.wait_for_ipvs(),
            Some(commands) => self.wait_for_iptables(commands),
        }
    }

    fn wait_for_ipvs(&self) -> Result<Result<Sight, String>> {
        let end = Instant::now() + PATIENCE;
        let (mut list, mut not_before) = (String::new(), now());
        while Instant::now() < end {
            let looked = now();
            list = beginning("/proc/thread-self/net/ip_vs".as_ref())?;
            if holds(&list, self.server) {
                let at = now();
                return Ok(Ok(Sight { at, not_before }));
            }
            not_before = looked;
            std::thread::sleep(PAUSE);
        }
        Ok(Err(list.chars().take(TOLD).collect()))
    }

    /// The lock is closed when a command has ended. Only then the rules are read, which takes long, but delays nobody's
    /// time: what counts is when the lock was closed.
    fn wait_for_iptables(&self, commands: &Inotify) -> Result<Result<Sight, String>> {
        let end = Instant::now() + PATIENCE;
        let wanted = format!("--to-destination {}", self.server);
        let mut not_before = now();
        while Instant::now() < end {
            let mut ready = [PollFd::new(commands.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, PollTimeout::from(100_u8))? == 0 {
                continue;
            }
            let at = now();
            let _ = commands.read_events()?;
            let save = Command::new("iptables-save").args(["-t", "nat"]).output();
            let rules = save.context("iptables-save")?.stdout;
            if String::from_utf8_lossy(&rules)
                .lines()
                .any(|line| line.ends_with(&wanted))
            {
                return Ok(Ok(Sight { at, not_before }));
            }
            not_before = at;
        }
        Ok(Err(String::new()))
    }
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

fn beginning(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let (mut text, mut page) = (Vec::new(), [0; 4096]);
    while text.len() < ENOUGH {
        match file.read(&mut page)? {
            0 => break,
            length => text.extend_from_slice(&page[..length]),
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Whether `/proc/net/ip_vs` lists the server with a weight: `  -> 0AC80001:1F90      Masq    1      0          0`.
fn holds(list: &str, server: SocketAddrV4) -> bool {
    list.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("->")
            && words.next().and_then(address) == Some(server)
            && words.nth(1).is_some_and(|weight| weight != "0")
    })
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
        let at = |last| SocketAddrV4::new(Ipv4Addr::new(10, 200, 0, last), 8080);
        assert!(holds(list, at(1)));
        assert!(!holds(list, at(2)), "it drains");
        assert!(!holds(list, at(3)));
    }
}
