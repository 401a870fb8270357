//! Receive packet steering: who works on the packets that come in on the pod's interface.
//!
//! A virtual interface has one queue, so without steering the CPU that sent a packet also balances it, and all of a
//! node's traffic may meet on the one CPU that its network card interrupts.

use std::fs;
use std::io;
use std::path::Path;

use clap::ValueEnum;
use tracing::info;

use crate::finding::{Finding, Kind, Severity};

/// The interface that a container runtime gives a pod.
const INTERFACE: &str = "eth0";

/// What to do about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Steering {
    /// Spread flows over all CPUs.
    #[default]
    Auto,
    /// Leave it as the node has it.
    None,
}

impl From<crd::Rps> for Steering {
    fn from(rps: crd::Rps) -> Self {
        match rps {
            crd::Rps::Auto => Self::Auto,
            crd::Rps::None => Self::None,
        }
    }
}

impl Steering {
    /// Sets it and reads it back, on all queues of the pod's interface as `sys` shows them.
    #[must_use]
    pub fn apply(self, sys: &Path) -> Option<Finding> {
        let online = fs::read_to_string(sys.join("devices/system/cpu/online")).ok()?;
        let cpus = cpus(online.trim()).filter(|cpus| *cpus > 1)?;
        if self == Self::None {
            return None;
        }
        let queues = fs::read_dir(sys.join("class/net").join(INTERFACE).join("queues")).ok()?;
        let queues = queues.filter_map(|entry| Some(entry.ok()?.path().join("rps_cpus")));
        let wanted = mask(cpus);
        queues
            .filter(|path| path.exists())
            .find_map(|path| steer(&path, &wanted))
    }
}

/// Steers one queue.
fn steer(path: &Path, wanted: &str) -> Option<Finding> {
    let before = fs::read_to_string(path).ok()?;
    if same_mask(&before, wanted) {
        return None;
    }
    let outcome = fs::write(path, wanted).and_then(|()| fs::read_to_string(path));
    let got = match outcome {
        Ok(now) if same_mask(&now, wanted) => return None,
        // The kernel leaves out CPUs that the node keeps for others.
        Ok(now) if !same_mask(&now, &before) => {
            info!(
                wanted,
                got = now.trim(),
                "packets are steered to some of the CPUs"
            );
            return None;
        }
        Ok(now) => now.trim().to_owned(),
        Err(refused) => refused_with(&before, &refused),
    };
    Some(Finding {
        severity: Severity::Degrading,
        kind: Kind::PacketSteering,
        name: path.display().to_string(),
        wanted: wanted.to_owned(),
        got,
        remedy: "let the init container run privileged, with a writable /sys, or set spec.packetSteering.rps to None"
            .into(),
    })
}

fn refused_with(before: &str, refused: &io::Error) -> String {
    format!("{} ({refused})", before.trim())
}

/// The number of CPUs up to the last that is online: `0-3` → 4, `0,2-5` → 6.
fn cpus(online: &str) -> Option<u32> {
    let last: u32 = online.rsplit([',', '-']).next()?.parse().ok()?;
    last.checked_add(1).filter(|cpus| *cpus <= 8192)
}

/// The kernel's form of a mask: 32 bits a group, highest first.
fn mask(cpus: u32) -> String {
    let (full, rest) = (cpus / 32, cpus % 32);
    let mut groups = Vec::new();
    if rest > 0 {
        groups.push(format!("{:x}", (1_u64 << rest) - 1));
    }
    groups.extend((0..full).map(|_| "ffffffff".to_owned()));
    groups.join(",")
}

fn same_mask(one: &str, other: &str) -> bool {
    let digits = |text: &str| text.trim().replace(',', "").trim_start_matches('0').to_owned();
    digits(one) == digits(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_have_a_bit_for_each_cpu() {
        assert_eq!(
            (mask(1), mask(4), mask(32)),
            ("1".into(), "f".into(), "ffffffff".into())
        );
        assert_eq!(mask(40), "ff,ffffffff");
        assert!(same_mask("00000000,0000000f\n", "f"));
        assert!(!same_mask("0", "f"));
    }

    #[test]
    fn the_last_cpu_online_tells_how_many_bits() {
        assert_eq!(
            (cpus("0"), cpus("0-3"), cpus("0,2-5")),
            (Some(1), Some(4), Some(6))
        );
        assert_eq!((cpus(""), cpus("x"), cpus("4294967295")), (None, None, None));
    }
}
