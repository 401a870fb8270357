//! User Mode Linux: a Linux kernel as an ordinary process, with IPVS whatever the host's kernel has.
//!
//! This finds the kernel and builds its command line. It starts nothing itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Sourced by a machine's init: gives it a root of its own over the host's files, modules and legacy iptables.
pub const ROOT_SCRIPT: &str = include_str!("../guest/root.sh");

/// The kernel and its modules, as installed on this machine.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The kernel, as a program that starts it on any processor.
    pub image: PathBuf,
    /// The folder of its modules, the one with `modules.dep` in it.
    pub modules: PathBuf,
}

impl Kernel {
    /// Finds Debian's `user-mode-linux`, or says how to get it.
    pub fn find() -> Result<Self> {
        const ADVICE: &str = "User Mode Linux is missing: apt-get install user-mode-linux";
        if !Path::new("/usr/bin/linux.uml").exists() {
            bail!(ADVICE);
        }
        let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("uml/linux");
        let folders = fs::read_dir("/usr/lib/uml/modules").context(ADVICE)?;
        let modules = folders
            .filter_map(|entry| Some(entry.ok()?.path()))
            .max()
            .context(ADVICE)?;
        Ok(Self { image, modules })
    }
}

/// One machine to boot.
#[derive(Clone, Debug)]
pub struct Machine<'a> {
    /// Its name, which its pid file and management socket carry.
    pub name: &'a str,
    /// Where those two go, in a folder of its name. Sockets limit this path to about 80 bytes.
    pub folder: &'a Path,
    /// Memory; it is taken from `/dev/shm` as it is used.
    pub memory_mib: u32,
    /// The program that runs as process 1. It is found on the host's file system, which is the root.
    pub init: &'a Path,
    /// A tap device of the current network namespace that becomes the machine's `vec0`.
    pub tap: Option<&'a str>,
    /// Environment of init, beside `PLB_MODULES`. At most about 20 variables, without spaces.
    pub environment: &'a [(&'a str, &'a str)],
}

impl Machine<'_> {
    /// The kernel's arguments.
    #[must_use]
    pub fn arguments(&self, kernel: &Kernel) -> Vec<String> {
        let mut arguments = vec![
            format!("umid={}", self.name),
            format!("uml_dir={}/", self.folder.display()),
            format!("mem={}M", self.memory_mib),
            "root=/dev/root".to_owned(),
            "rootfstype=hostfs".to_owned(),
            "rootflags=/".to_owned(),
            "rw".to_owned(),
            "quiet".to_owned(),
            // The console writes to standard output and never reads.
            "con0=null,fd:1".to_owned(),
            "con=null".to_owned(),
            format!("init={}", self.init.display()),
        ];
        if let Some(tap) = self.tap {
            arguments.push(format!("vec0:transport=tap,ifname={tap},depth=128,gro=1"));
        }
        // What the kernel does not know becomes init's environment.
        arguments.push(format!("PLB_MODULES={}", kernel.modules.display()));
        arguments.extend(
            self.environment
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        arguments
    }

    /// The environment the kernel itself wants: its memory is a file in `TMPDIR`, which should be in memory too.
    pub const ENVIRONMENT: (&'static str, &'static str) = ("TMPDIR", "/dev/shm");

    /// The program that runs this machine until it is halted, and its arguments.
    ///
    /// The kernel runs the guest's processes as its children and holds them by tracing them. If it were killed they
    /// would run on, as root on the host. So it is process 1 of a namespace, which takes all others with it.
    #[must_use]
    pub fn invocation(&self, kernel: &Kernel) -> (PathBuf, Vec<String>) {
        let image = kernel.image.display().to_string();
        let wrapper = ["--pid", "--fork", "--kill-child", "--", &image].map(str::to_owned);
        let arguments = wrapper.into_iter().chain(self.arguments(kernel));
        ("/usr/bin/unshare".into(), arguments.collect())
    }

    /// A command that runs this machine until it is halted.
    #[must_use]
    pub fn command(&self, kernel: &Kernel) -> Command {
        let (program, arguments) = self.invocation(kernel);
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env(Self::ENVIRONMENT.0, Self::ENVIRONMENT.1);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_init_needs_is_on_the_command_line() {
        let kernel = Kernel {
            image: "/usr/bin/linux.uml".into(),
            modules: "/usr/lib/uml/modules/6.1.0".into(),
        };
        let machine = Machine {
            name: "node1",
            folder: Path::new("/lab/uml"),
            memory_mib: 512,
            init: Path::new("/lab/init"),
            tap: Some("tap1"),
            environment: &[("PLB_NODE", "node1")],
        };
        let arguments = machine.arguments(&kernel);
        for wanted in [
            "umid=node1",
            "uml_dir=/lab/uml/",
            "mem=512M",
            "init=/lab/init",
            "vec0:transport=tap,ifname=tap1,depth=128,gro=1",
            "PLB_MODULES=/usr/lib/uml/modules/6.1.0",
            "PLB_NODE=node1",
        ] {
            assert!(
                arguments.iter().any(|argument| argument == wanted),
                "{wanted} is not in {arguments:?}"
            );
        }
    }

    /// `timeout` makes a timer as the kernel does, and ends its command when that rings: here, long after the test.
    #[test]
    fn a_machine_is_woken_though_its_clock_stands_still() {
        let folder = std::env::temp_dir().join(format!("plb-uml-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink("/usr/bin/timeout", folder.join("linux.uml")).unwrap();
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
        let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("uml/linux");
        let ended = Command::new(image)
            .env("PATH", path)
            .args(["600", "sleep", "600"])
            .status();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(ended.unwrap().code(), Some(124));
    }
}
