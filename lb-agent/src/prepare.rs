//! Makes the pod's network namespace fit for IPVS: modules, sysctls, packet steering. Runs privileged, before `serve`.
//!
//! It never fails: what it could not do it leaves as findings, which `serve` tells in the object's status.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use tracing::{info, warn};

use crate::finding::{Finding, Kind, Severity};
use crate::sysctl::{Needs, Sysctls};

/// Where the findings are left.
pub const FINDINGS: &str = "/run/portable-lb/prepare.json";

/// What full NAT may need. A node without one of them may have it built in, or do without.
const MODULES: [&str; 22] = [
    "ip_vs",
    "ip_vs_rr",
    "ip_vs_wrr",
    "ip_vs_lc",
    "ip_vs_wlc",
    "ip_vs_sh",
    "ip_vs_mh",
    "ip_vs_sed",
    "ip_vs_nq",
    "ip_vs_fo",
    "ip_vs_ovf",
    "nf_conntrack",
    "xt_conntrack",
    "xt_mark",
    "xt_MASQUERADE",
    "xt_tcpudp",
    "iptable_filter",
    "iptable_nat",
    "iptable_mangle",
    "ip6table_filter",
    "ip6table_nat",
    "ip6table_mangle",
];

/// Does all that can be done, and returns what could not.
#[must_use]
pub fn prepare(needs: &Needs) -> Vec<Finding> {
    load_modules();
    // Opening the family makes the kernel load ip_vs from the node's modules, even for a container without any.
    // Only then are its sysctls there.
    let mut findings: Vec<Finding> = ipvs_module().into_iter().collect();
    findings.extend(Sysctls::default().set(needs));
    findings.extend(steer_packets(Path::new("/sys")));
    findings.sort();
    for finding in &findings {
        warn!(%finding, "not as it should be");
    }
    info!(findings = findings.len(), "prepared");
    findings
}

/// Leaves the findings for `serve`.
pub fn write(findings: &[Finding], path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(
        path,
        serde_json::to_vec_pretty(findings).map_err(io::Error::other)?,
    )
}

/// What `prepare` found that can't be seen later; nothing where it did not run.
#[must_use]
pub fn read(path: &Path) -> Vec<Finding> {
    let mut findings = left(path);
    findings.retain(|finding| finding.kind == Kind::PacketSteering);
    findings
}

/// A module that `prepare` missed and that came later brings sysctls that `serve` may not set.
#[must_use]
pub fn too_early(path: &Path, now: &[Finding]) -> Option<Finding> {
    let is_hindered = |it: &Finding| it.kind == Kind::Sysctl && it.severity == Severity::Blocking;
    let missed = left(path).into_iter().find(|it| it.kind == Kind::Module)?;
    now.iter().any(is_hindered).then(|| Finding {
        kind: Kind::Late,
        got: "loaded only after this pod was prepared".into(),
        remedy: "the operator makes the pod anew; without an operator delete it".into(),
        ..missed
    })
}

fn left(path: &Path) -> Vec<Finding> {
    let text = fs::read(path).ok();
    let findings = text.and_then(|text| serde_json::from_slice(&text).ok());
    findings.unwrap_or_default()
}

/// The finding that IPVS is missing, if it is.
#[must_use]
pub fn ipvs_module() -> Option<Finding> {
    match ipvs::Client::open() {
        Ok(_) => None,
        Err(ipvs::Error::FamilyMissing) => Some(missing_module("ip_vs")),
        Err(error) => {
            warn!(error = &error as &dyn std::error::Error, "IPVS not asked");
            None
        }
    }
}

/// The finding that a module is missing.
#[must_use]
pub fn missing_module(name: &str) -> Finding {
    Finding {
        severity: Severity::Blocking,
        kind: Kind::Module,
        name: name.to_owned(),
        wanted: "loaded".into(),
        got: "missing".into(),
        remedy: format!(
            "run `modprobe {name}` on the node, and write {name} into /etc/modules-load.d/portable-lb.conf so that \
             it is loaded at each start"
        ),
    }
}

/// Where the container has the node's modules, or there is no container. Elsewhere the kernel loads them by need.
fn load_modules() {
    let mut command = Command::new("modprobe");
    // With --all one that is missing does not keep the next from being loaded.
    command
        .args(["--quiet", "--all"])
        .args(MODULES)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Err(error) = command.status() {
        info!(
            error = &error as &dyn std::error::Error,
            "no modprobe; the kernel loads modules by need"
        );
    }
}

/// Spreads what comes in on the pod's interface over all CPUs: a virtual interface has one queue.
fn steer_packets(sys: &Path) -> Option<Finding> {
    let online = fs::read_to_string(sys.join("devices/system/cpu/online")).ok()?;
    let cpus = cpus(online.trim()).filter(|cpus| *cpus > 1)?;
    let path = sys.join("class/net/eth0/queues/rx-0/rps_cpus");
    let before = fs::read_to_string(&path).ok()?;
    let wanted = mask(cpus);
    if same_mask(&before, &wanted) {
        return None;
    }
    let refused = fs::write(&path, &wanted).err()?;
    Some(Finding {
        severity: Severity::Degrading,
        kind: Kind::PacketSteering,
        name: path.display().to_string(),
        wanted,
        got: format!("{} ({refused})", before.trim()),
        remedy: "let the init container run privileged, with a writable /sys".into(),
    })
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

    #[test]
    fn findings_are_read_as_they_were_written() {
        let path = std::env::temp_dir().join(format!("plb-prepare-{}.json", std::process::id()));
        let steering = Finding {
            kind: Kind::PacketSteering,
            ..missing_module("x")
        };
        write(&[steering.clone(), missing_module("ip_vs")], &path).expect("can be written");
        assert_eq!(read(&path), [steering]);
        assert_eq!(too_early(&path, &[]), None);
        let refused = Finding {
            kind: Kind::Sysctl,
            ..missing_module("net.ipv4.vs.conntrack")
        };
        let late = too_early(&path, &[refused]).expect("told");
        assert_eq!((late.kind, late.name.as_str()), (Kind::Late, "ip_vs"));
        fs::write(&path, "{").expect("can be written");
        assert_eq!(read(&path), []);
        let _ = fs::remove_file(path);
    }
}
