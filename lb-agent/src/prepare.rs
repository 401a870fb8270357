//! Makes the pod's network namespace fit for IPVS: modules, sysctls, packet steering. Runs privileged, before `serve`.
//!
//! It never fails: what it could not do it leaves as findings, which `serve` tells in the object's status.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use tracing::{info, warn};

use crate::finding::{Finding, Kind, Severity};
use crate::steering::Steering;
use crate::sysctl::{Needs, Sysctls};

/// Where the findings are left.
pub const FINDINGS: &str = "/run/portable-lb/prepare.json";

/// What full NAT may need. A node without one of them may have it built in, or do without.
const MODULES: [&str; 20] = [
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
    "iptable_nat",
    "iptable_filter",
    "ip6table_nat",
    "ip6table_filter",
];

/// Does all that can be done, and returns what could not.
#[must_use]
pub fn prepare(needs: &Needs, steering: Steering) -> Vec<Finding> {
    load_modules();
    // Opening the family makes the kernel load ip_vs from the node's modules, even for a container without any.
    // Only then are its sysctls there.
    let mut findings: Vec<Finding> = ipvs_module().into_iter().collect();
    findings.extend(Sysctls::default().set(needs));
    findings.extend(steering.apply(Path::new("/sys")));
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

#[cfg(test)]
mod tests {
    use super::*;

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
