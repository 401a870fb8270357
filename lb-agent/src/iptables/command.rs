//! Runs `iptables-save` and `iptables-restore`. Blocking, and bounded in time.

use std::fmt;
use std::io::{self, Write as _};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::table::Family;

/// Longer than the wait for the lock of iptables.
const PATIENCE: Duration = Duration::from_secs(20);

/// The two kernel interfaces that iptables comes in. Rules of the one are not seen by the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// `nf_tables`.
    Nft,
    /// `ip_tables`.
    Legacy,
}

impl Flavour {
    /// In the order in which they are tried: the kernel loads all of nft by itself, the legacy tables it does not.
    pub const ALL: [Self; 2] = [Self::Nft, Self::Legacy];
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        })
    }
}

/// Why a program of iptables failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be run.
    #[error("could not run {program}")]
    Run {
        /// Its name.
        program: String,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// It failed.
    #[error("{program} failed ({status}): {stderr}")]
    Failed {
        /// Its name.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said.
        stderr: String,
    },
}

/// All rules of a family.
pub fn save(flavour: Flavour, family: Family) -> Result<String, Error> {
    let program = program(flavour, family, "save");
    let output = run(&program, &[], "")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Applies the text, each table at once, and leaves all that it doesn't name.
pub fn restore(flavour: Flavour, family: Family, text: &str) -> Result<(), Error> {
    let program = program(flavour, family, "restore");
    run(&program, &["--noflush", "--wait=10"], text).map(drop)
}

fn program(flavour: Flavour, family: Family, verb: &str) -> String {
    let family = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    format!("{family}-{flavour}-{verb}")
}

fn run(program: &str, arguments: &[&str], input: &str) -> Result<Output, Error> {
    let failed_to_run = |source| Error::Run {
        program: program.to_owned(),
        source,
    };
    let child = Command::new(program)
        .args(arguments)
        .env("PATH", search_path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed_to_run)?;
    let output = communicate(child, input).map_err(failed_to_run)?;
    if output.status.success() {
        return Ok(output);
    }
    Err(Error::Failed {
        program: program.to_owned(),
        status: output.status,
        stderr: String::from_utf8_lossy(&output.stderr)
            .trim()
            .chars()
            .take(400)
            .collect(),
    })
}

/// Where Debian has iptables, which is in no ordinary user's path.
fn search_path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin:/usr/bin:/bin")
}

/// Feeds the child and collects its output; kills it if it takes too long.
fn communicate(mut child: Child, input: &str) -> io::Result<Output> {
    let id = child.id();
    let (done, finished) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if finished.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            // Not reaped yet, so the id is still the child's.
            if let Ok(id) = i32::try_from(id) {
                let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
            }
        }
    });
    if let Some(mut stdin) = child.stdin.take() {
        // A child that died early tells why on stderr.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output();
    drop(done);
    let _ = watchdog.join();
    output
}
