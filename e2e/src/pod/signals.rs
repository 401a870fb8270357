//! Signals of a pod's first process, which the kernel spares all signals that it doesn't ask for.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

/// The signals that end a pod, and the one that tells of children. Block them before any thread starts.
#[derive(Debug)]
pub struct Signals(SigSet);

impl Signals {
    /// Blocks the signals in this thread and those that it starts later.
    pub fn block() -> nix::Result<Self> {
        let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD]);
        signals.thread_block()?;
        Ok(Self(signals))
    }

    /// Waits for SIGTERM or SIGINT, and reaps children meanwhile.
    pub fn wait_for_end(&self) -> nix::Result<()> {
        loop {
            match self.0.wait()? {
                Signal::SIGCHLD => reap(),
                _ => return Ok(()),
            }
        }
    }
}

fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}
