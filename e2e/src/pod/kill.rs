//! Ends a container abruptly, from a pod that sees the node's processes.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;

/// Sends SIGKILL to all processes of the container; how many there were. Their cgroup carries its id.
pub fn kill_container(id: &str) -> Result<usize> {
    ensure!(
        id.len() >= 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{id:?} is no container's id"
    );
    let mut killed = 0;
    for entry in fs::read_dir("/proc").context("no /proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process that is gone meanwhile has no cgroup.
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        if cgroup.contains(id) {
            // With the container's first process all others end, so this may come too late.
            killed += usize::from(kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok());
        }
    }
    ensure!(killed > 0, "no process of container {id}");
    Ok(killed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_container_kills_nothing() {
        assert!(kill_container("").is_err());
        assert!(kill_container("/").is_err());
        assert!(kill_container(&"0123456789abcdef".repeat(4)).is_err());
    }
}
