//! What machine the numbers come from.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

/// The programs that were measured with or against: how each tells its version, or its package, where it asks the
/// kernel for IPVS first.
const PROGRAMS: [(&str, &[&str]); 7] = [
    ("wrk", &["wrk", "-v"]),
    ("nginx", &["nginx", "-v"]),
    ("haproxy", &["haproxy", "-v"]),
    ("keepalived", &["keepalived", "-v"]),
    ("ipvsadm", &["dpkg-query", "--show", "ipvsadm"]),
    ("iptables", &["iptables-legacy", "-V"]),
    ("Rust", &["rustc", "-V"]),
];

/// A Markdown list.
pub fn describe() -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
    let models: Vec<&str> = cpus
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map(|(_, model)| model)
        .collect();
    let memory = fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    let kilobytes: u64 = memory
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .trim()
                .strip_suffix(" kB")?
                .trim()
                .parse()
                .ok()
        })
        .unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut text = format!(
        "- processors: {} × {}\n- memory: {} GiB\n- kernel: {}\n",
        models.len(),
        models.first().unwrap_or(&"unknown"),
        kilobytes >> 20,
        kernel.trim()
    );
    let _ = writeln!(text, "- kernel of the nodes: {}", guest_kernel()?);
    for (name, command) in PROGRAMS {
        if let Some(version) = version(command) {
            let _ = writeln!(text, "- {name}: {version}");
        }
    }
    Ok(text)
}

fn guest_kernel() -> Result<String> {
    let kernel = e2e::uml::Kernel::find()?;
    let release = kernel.modules.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("User Mode Linux {release}, one processor a machine"))
}

/// The first line that a program prints about itself, on either output.
fn version(command: &[&str]) -> Option<String> {
    let (program, arguments) = command.split_first()?;
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let line = text
        .iter()
        .flat_map(|text| text.lines())
        .find(|line| !line.trim().is_empty());
    line.map(|line| line.trim().to_owned())
}
