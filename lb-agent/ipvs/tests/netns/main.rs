//! The client on a real kernel, checked with `ipvsadm`. Each test has a network namespace of its own.
//!
//! `e2e/runner` boots a machine for these, since few kernels of build machines have IPVS.
#![allow(clippy::unwrap_used, reason = "all of it is a test")]

mod errors;
mod samples;
mod settings;
mod tables;

use std::process::Command as Process;

use ipvs::{Client, Command, Destination, Family, Protocol, Service, ServiceFlags, ServiceId};
use nix::sched::{CloneFlags, unshare};

/// The IPv4 service that most tests use.
const WEB: ServiceId = match std::num::NonZeroU32::new(0x4000_0050) {
    Some(mark) => ServiceId::Mark {
        family: Family::V4,
        mark,
    },
    None => panic!(),
};

/// A client in a fresh network namespace, which this thread enters for good.
fn fresh() -> Client {
    unshare(CloneFlags::CLONE_NEWNET).expect("root, in a machine of its own; cargo runs e2e/runner");
    // Without it the kernel takes no address for unicast.
    run("ip", "link set lo up");
    Client::open().unwrap()
}

/// Runs a tool with arguments parted by spaces, and returns what it says.
fn run(tool: &str, arguments: &str) -> String {
    let output = Process::new(tool)
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{tool} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The table as `ipvsadm` saves it, sorted.
fn saved() -> Vec<String> {
    let mut lines: Vec<_> = run("ipvsadm", "-Sn")
        .lines()
        .map(|line| line.trim().to_owned())
        .collect();
    lines.sort();
    lines
}

fn mark(family: Family, mark: u32) -> ServiceId {
    ServiceId::Mark {
        family,
        mark: mark.try_into().unwrap(),
    }
}

fn address(protocol: Protocol, addr: &str) -> ServiceId {
    let addr = addr.parse().unwrap();
    ServiceId::Address { protocol, addr }
}

fn tcp(addr: &str) -> ServiceId {
    address(Protocol::Tcp, addr)
}

fn service(id: ServiceId, scheduler: &str) -> Service {
    Service {
        id,
        scheduler: scheduler.parse().unwrap(),
        flags: ServiceFlags::empty(),
        persistence: None,
    }
}

fn nat(addr: &str, weight: u32) -> Destination {
    Destination::masquerade(addr.parse().unwrap(), weight)
}

fn apply_all(client: &mut Client, commands: impl IntoIterator<Item = Command>) {
    let rejections = client.apply(&commands.into_iter().collect()).unwrap();
    assert!(rejections.is_empty(), "{rejections:?}");
}
