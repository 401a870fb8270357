//! The link: a bridge in the client's network namespace, to which all others have a cable.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use e2e::netns::Namespace;

use super::cpus::Share;

const CLIENT: &str = "plb-bench-client";
const BRIDGE: &str = "br0";

/// The client's address, and all others beside it.
const PREFIX: &str = "10.97.0";

/// A balancer's address.
#[must_use]
pub fn balancer(index: usize) -> String {
    format!("{PREFIX}.{}", 101 + index)
}

/// A pod's address.
#[must_use]
pub fn pod(index: usize) -> String {
    format!("{PREFIX}.{}", 11 + index)
}

/// The addresses of a pod that is as if it were many.
pub const CROWD: &str = "10.98.0.0/16";

/// One of them.
#[must_use]
pub fn of_crowd(index: usize) -> String {
    format!("10.98.{}.{}", index / 250, 1 + index % 250)
}

/// An address that no interface has, for balancers whose servers answer from it.
#[must_use]
pub fn shared(index: usize) -> String {
    format!("{PREFIX}.{}", 201 + index)
}

/// A named network namespace that goes when dropped.
#[derive(Debug)]
pub struct Own {
    name: String,
    namespace: Namespace,
}

impl Own {
    /// Makes it anew.
    pub fn create(name: &str) -> Result<Self> {
        let namespace = Namespace::named(name);
        namespace.delete()?;
        namespace.create()?;
        let own = Self {
            name: name.to_owned(),
            namespace,
        };
        own.ip("link set lo up\n")?;
        Ok(own)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Commands of `ip`, a line each.
    pub fn ip(&self, commands: &str) -> Result<()> {
        let mut child = Command::new("ip")
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .context("could not run ip")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(commands.as_bytes())?;
        }
        ensure!(child.wait()?.success(), "ip -batch in {}: {commands}", self.name);
        Ok(())
    }

    /// A program in it, on a share of the processors, that ends when the thread that starts it does.
    #[must_use]
    pub fn command(&self, share: Share, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.name))
            .args(share.words())
            .arg(program.as_ref())
            .stdin(Stdio::null());
        command
    }

    /// Does something in it, in a thread of its own.
    pub fn within<T: Send>(&self, job: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let work = || {
            self.namespace.enter()?;
            job()
        };
        let done = thread::scope(|scope| scope.spawn(work).join());
        done.map_err(|_| anyhow!("a thread in {} died", self.name))?
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Err(error) = self.namespace.delete() {
            eprintln!("{error:#}");
        }
    }
}

/// The link, which is the client's namespace.
#[derive(Debug)]
pub struct Link {
    client: Own,
}

impl Link {
    /// Makes client and bridge.
    pub fn create() -> Result<Self> {
        let client = Own::create(CLIENT)?;
        client.ip(&format!(
            "link add {BRIDGE} address 52:54:00:97:00:01 type bridge\naddr add {PREFIX}.1/24 dev {BRIDGE}\n\
             link set {BRIDGE} up\n"
        ))?;
        // What crosses the bridge is none of iptables' business. Absent where the module is.
        client.within(|| {
            let _: std::io::Result<()> = fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
            Ok(())
        })?;
        Ok(Self { client })
    }

    /// The client's namespace.
    #[must_use]
    pub fn client(&self) -> &Own {
        &self.client
    }

    /// A new namespace with a cable to the bridge and an address.
    pub fn join(&self, name: &str, address: &str) -> Result<Own> {
        let own = Own::create(&format!("plb-bench-{name}"))?;
        own.ip(&format!(
            "link add eth0 type veth peer name {name} netns {CLIENT}\naddr add {address}/24 dev eth0\n\
             link set eth0 up\nroute add default via {PREFIX}.1\n"
        ))?;
        self.client.ip(&format!("link set {name} master {BRIDGE} up\n"))?;
        Ok(own)
    }

    /// A new tap device at the bridge.
    pub fn tap(&self, name: &str) -> Result<()> {
        self.client.ip(&format!(
            "tuntap add {name} mode tap\nlink set {name} master {BRIDGE} up\n"
        ))
    }
}
