//! The two processes of an API server.

use anyhow::{Context, Result, bail};
use std::ffi::OsString;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::access::kubectl;
use super::folder::DATA;
use crate::tools::{self, Tool};

/// How long an API server may take to start on a machine that does much else.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often it is asked meanwhile.
const POLL: Duration = Duration::from_millis(100);

/// Ports that nobody listened on. They are free again, so another program could still take one.
#[derive(Debug)]
pub(super) struct Ports {
    etcd_clients: u16,
    etcd_peers: u16,
    api_server: u16,
}

impl Ports {
    /// Asks the kernel for three.
    pub(super) fn free() -> Result<Self> {
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listeners = [bind()?, bind()?, bind()?];
        Ok(Self {
            etcd_clients: listeners[0].local_addr()?.port(),
            etcd_peers: listeners[1].local_addr()?.port(),
            api_server: listeners[2].local_addr()?.port(),
        })
    }

    /// Where the API server listens.
    pub(super) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.api_server)
    }
}

/// Killed when dropped. The kernel does it too, when the thread that started them ends.
#[derive(Debug)]
pub(super) struct Processes {
    etcd: Child,
    api_server: Child,
}

impl Processes {
    /// Starts both, which find their files in `folder` and write their logs there.
    pub(super) fn start(folder: &Path, ports: &Ports) -> Result<Self> {
        let mut etcd = spawn(Tool::Etcd, folder, &etcd(folder, ports))?;
        match spawn(Tool::KubeApiserver, folder, &api_server(folder, ports)) {
            Ok(api_server) => Ok(Self { etcd, api_server }),
            Err(error) => {
                kill(&mut etcd);
                Err(error)
            }
        }
    }

    /// Waits until the API server says that it is ready, unless one of the two ends before.
    pub(super) fn wait_until_ready(&mut self, kubeconfig: &Path) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for (child, name) in [(&mut self.etcd, "etcd"), (&mut self.api_server, "kube-apiserver")] {
                if let Some(status) = child.try_wait()? {
                    bail!("{name} ended: {status}");
                }
            }
            match kubectl(kubeconfig, &["get", "--raw", "/readyz"], "") {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => thread::sleep(POLL),
            }
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        // An API server that is told to stop waits for an etcd that is gone.
        kill(&mut self.api_server);
        kill(&mut self.etcd);
    }
}

fn kill(child: &mut Child) {
    let _: Result<(), _> = child.kill();
    let _: Result<_, _> = child.wait();
}

fn spawn(tool: Tool, folder: &Path, arguments: &[OsString]) -> Result<Child> {
    let log = File::create(folder.join(format!("{}.log", tool.name())))?;
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(tools::path(tool))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| {
            format!(
                "could not start {} by setpriv, which is of util-linux",
                tool.name()
            )
        })
}

fn etcd(folder: &Path, ports: &Ports) -> Vec<OsString> {
    let clients = format!("http://127.0.0.1:{}", ports.etcd_clients);
    let peers = format!("http://127.0.0.1:{}", ports.etcd_peers);
    vec![
        flag("data-dir", folder.join(DATA)),
        flag("listen-client-urls", &clients),
        flag("advertise-client-urls", &clients),
        flag("listen-peer-urls", &peers),
        flag("initial-advertise-peer-urls", &peers),
        flag("initial-cluster", format!("default={peers}")),
        "--unsafe-no-fsync".into(),
    ]
}

fn api_server(folder: &Path, ports: &Ports) -> Vec<OsString> {
    vec![
        flag("etcd-servers", format!("http://127.0.0.1:{}", ports.etcd_clients)),
        flag("bind-address", "127.0.0.1"),
        flag("advertise-address", "127.0.0.1"),
        flag("secure-port", ports.api_server.to_string()),
        // Kubernetes does not let a Service lead to the loopback.
        flag("endpoint-reconciler-type", "none"),
        flag("client-ca-file", folder.join("ca.crt")),
        flag("tls-cert-file", folder.join("server.crt")),
        flag("tls-private-key-file", folder.join("server.key")),
        flag("service-account-issuer", "https://kubernetes.default.svc"),
        flag("service-account-key-file", folder.join("tokens.pub")),
        flag("service-account-signing-key-file", folder.join("tokens.key")),
        flag("service-cluster-ip-range", "10.96.0.0/16"),
        flag("authorization-mode", "RBAC"),
        flag("anonymous-auth", "false"),
        flag("allow-privileged", "true"),
        flag("profiling", "false"),
    ]
}

fn flag(name: &str, value: impl Into<OsString>) -> OsString {
    let mut flag = OsString::from(format!("--{name}="));
    flag.push(value.into());
    flag
}
