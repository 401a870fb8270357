//! The machine in which tables are programmed: one User Mode Linux kernel that runs this program again.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use e2e::uml::{Kernel, ROOT_SCRIPT};

use crate::plan::Plan;
use crate::record::Records;
use crate::scratch::{Folder, Running};
use crate::site::cpus::Share;

/// Memory of the machine, of which it takes what it uses.
const MEMORY_MIB: u32 = 2048;

/// What a machine runs, and how it is wired.
pub(crate) struct Machine<'a> {
    /// Arguments of this program in the machine.
    pub(crate) arguments: &'a [&'a str],
    /// A tap device of this network namespace that becomes its `vec0`, with this address.
    pub(crate) tap: Option<(&'a str, &'a str)>,
    /// How long it may run.
    pub(crate) limit: Duration,
}

/// Measures a suite in a machine of its own; what it measured before it failed is kept.
pub(crate) fn measure(suite: &str, plan: Plan, limit: Duration, records: &mut Records) -> Result<()> {
    let folder = Folder::create("machine")?;
    let path = folder.path().join("records.csv");
    let text = path.display().to_string();
    let mut arguments = vec!["inside", suite, "--records", &text];
    arguments.extend((plan == Plan::Quick).then_some("--quick"));
    let machine = Machine {
        arguments: &arguments,
        tap: None,
        limit,
    };
    let run = machine.run(&folder);
    if path.exists() {
        records.0.extend(Records::read(&path)?.0);
    }
    run
}

impl Machine<'_> {
    /// Boots it, and waits until what it runs has ended well.
    pub(crate) fn run(&self, folder: &Folder) -> Result<()> {
        let mut running = self.boot(folder)?;
        let deadline = Instant::now() + self.limit;
        while running.0.try_wait()?.is_none() {
            ensure!(
                Instant::now() < deadline,
                "the machine was not done after {} s: {}",
                self.limit.as_secs(),
                said(folder)
            );
            sleep(Duration::from_millis(50));
        }
        let status = fs::read_to_string(folder.path().join("status")).unwrap_or_default();
        if status.trim() != "0" {
            bail!("what ran in the machine failed: {}", said(folder));
        }
        Ok(())
    }

    fn boot(&self, folder: &Folder) -> Result<Running> {
        let path = folder.path();
        let init = path.join("init");
        fs::write(path.join("root.sh"), ROOT_SCRIPT)?;
        fs::write(&init, self.init(path)?)?;
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
        let machine = e2e::uml::Machine {
            name: "tables",
            folder: path,
            memory_mib: MEMORY_MIB,
            init: &init,
            tap: self.tap.map(|(tap, _)| tap),
            environment: &[],
        };
        let (program, arguments) = machine.invocation(&Kernel::find()?);
        let (variable, value) = e2e::uml::Machine::ENVIRONMENT;
        let console = File::create(path.join("console"))?;
        // Whatever ends this program ends the machine. Its kernel and what runs on it are processes that wait for each
        // other: on two processors a call of the system takes four times as long as on one.
        let child = Share::Balancer
            .command(&program)
            .args(arguments)
            .env(variable, value)
            .stdin(Stdio::null())
            .stdout(console.try_clone()?)
            .stderr(console)
            .spawn()
            .context("could not start the machine")?;
        Ok(Running(child))
    }

    /// Process 1 of the machine.
    fn init(&self, folder: &Path) -> Result<String> {
        let program = std::env::current_exe()?;
        let quote = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
        let mut command = quote(&program.display().to_string());
        for argument in self.arguments {
            command.push(' ');
            command.push_str(&quote(argument));
        }
        let shared = quote(&folder.display().to_string());
        let wire = self.tap.map_or_else(String::new, |(_, address)| {
            format!("ip address add {address} dev vec0\nip link set vec0 up\n")
        });
        Ok(format!(
            "#!/bin/sh\n. {shared}/root.sh\nmount --bind /run/host{shared} {shared}\n{wire}\
             modprobe -a ip_vs iptable_filter iptable_nat iptable_mangle iptable_raw\n\
             cd {shared}\nstatus=0\n{command} >{shared}/said 2>&1 </dev/null || status=$?\n\
             echo $status >{shared}/status\necho o >/proc/sysrq-trigger\nsleep 60\n"
        ))
    }
}

/// The last lines that were printed in the machine.
fn said(folder: &Folder) -> String {
    let read = |name| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
    let text = read("console") + &read("said");
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}
