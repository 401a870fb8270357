//! A machine with two processors whose kernel has IPVS: that of Debian, emulated by QEMU, which needs nothing of this
//! machine's processors or kernel.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::tools;

use super::{EMULATED, measure};
use crate::plan::Plan;
use crate::record::Records;
use crate::scratch::{Folder, Running};
use crate::site::contender::Contender;

/// What the machine boots into, beside what these depend on.
const PACKAGES: [&str; 10] = [
    "coreutils",
    "dash",
    "iproute2",
    "iptables",
    "kmod",
    "linux-image-cloud-amd64",
    "mount",
    "nginx-light",
    "util-linux",
    "wrk",
];
const PROCESSORS: &str = "2";
const MEMORY_MIB: &str = "2048";
/// How long it may run.
const LIMIT: Duration = Duration::from_mins(4);

/// Measures in the machine.
pub(crate) fn inside(plan: Plan, records: &mut Records) -> Result<()> {
    let rounds = (plan, plan.pick(6, 2));
    measure::measure(EMULATED, Contender::Ours, rounds, records)
}

/// Boots it, and takes over its values.
pub(super) fn measure(plan: Plan, records: &mut Records) -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        println!("only known for x86_64: no emulated machine");
        return Ok(());
    }
    let system = system()?;
    let folder = Folder::create("emulated")?;
    pack(folder.path(), &system, plan)?;
    let mut machine = boot(folder.path(), &system)?;
    let deadline = Instant::now() + LIMIT;
    while machine.0.try_wait()?.is_none() {
        ensure!(
            Instant::now() < deadline,
            "the emulated machine was not done after {} s: {}",
            LIMIT.as_secs(),
            said(folder.path())
        );
        sleep(Duration::from_millis(100));
    }
    let values = folder.path().join("values");
    let found = Records::read(&values).with_context(|| said(folder.path()))?;
    ensure!(
        !found.0.is_empty(),
        "it measured nothing: {}",
        said(folder.path())
    );
    records.0.extend(found.0);
    Ok(())
}

/// The kernel and the packages, from the cache.
fn system() -> Result<PathBuf> {
    let key = crd::names::fnv1a(PACKAGES.join(" ").as_bytes());
    let folder = tools::cache().join(format!("emulated-{key:016x}"));
    if !folder.join("initrd").exists() {
        println!("unpacking Debian's kernel for the emulated machine");
        let script = e2e::cluster::root().join("e2e/bench/emulated.sh");
        let made = Command::new(&script).arg(&folder).args(PACKAGES).status()?;
        ensure!(made.success(), "{}: {made}", script.display());
    }
    Ok(folder)
}

/// Adds this program, the agent's and an init to the packages. A kernel unpacks all archives of its initrd, if each begins
/// at a multiple of four bytes.
fn pack(folder: &Path, system: &Path, plan: Plan) -> Result<()> {
    let root = folder.join("root");
    fs::create_dir_all(root.join("plb"))?;
    fs::copy(std::env::current_exe()?, root.join("plb/bench"))?;
    fs::copy(crate::site::agent()?, root.join("plb/lb-agent"))?;
    let init = root.join("init");
    fs::write(&init, INIT.replace("QUICK", plan.pick("", "--quick")))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let pack = "cp \"$1/initrd\" ../initrd && truncate --size=%4 ../initrd && \
                find . -print0 | cpio --null --create --format=newc --quiet >>../initrd";
    let packed = Command::new("sh")
        .args(["-euc", pack, "sh"])
        .arg(system)
        .current_dir(&root)
        .status()?;
    ensure!(packed.success(), "cpio: {packed}");
    Ok(())
}

/// The console goes to one serial line, the values to another.
const INIT: &str = r"#!/bin/sh
export PATH=/run/legacy:/usr/sbin:/usr/bin:/sbin:/bin NO_COLOR=1
mkdir -p /proc /sys /run /tmp /dev /var/log/nginx
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
ln -sfn /proc/self/fd /dev/fd
echo 'nobody:x:65534:65534::/:' >/etc/passwd
echo 'nogroup:x:65534:' >/etc/group
mkdir -p /run/netns /run/legacy
for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
    ln -s /usr/sbin/xtables-legacy-multi /run/legacy/$name
done
modprobe -a ip_vs veth bridge iptable_nat iptable_filter xt_mark
ip link set lo up
/plb/bench inside steering --records /tmp/values QUICK
stty -F /dev/ttyS1 raw
cat /tmp/values >/dev/ttyS1
echo o >/proc/sysrq-trigger
sleep 60
";

fn boot(folder: &Path, system: &Path) -> Result<Running> {
    let console = File::create(folder.join("console"))?;
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
        .args(["-accel", "tcg,thread=multi", "-smp", PROCESSORS, "-m", MEMORY_MIB])
        .args([
            "-display",
            "none",
            "-monitor",
            "none",
            "-nic",
            "none",
            "-no-reboot",
        ])
        .args(["-serial", "stdio", "-serial"])
        .arg(format!("file:{}", folder.join("values").display()))
        .arg("-kernel")
        .arg(system.join("vmlinuz"))
        .arg("-initrd")
        .arg(folder.join("initrd"))
        .args(["-append", "console=ttyS0 quiet panic=-1"])
        .stdin(Stdio::null())
        .stdout(console.try_clone()?)
        .stderr(console)
        .spawn()
        .map(Running)
        .context("could not start setpriv, which is of util-linux")
}

/// The last lines of its console.
fn said(folder: &Path) -> String {
    let text = fs::read(folder.join("console")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
