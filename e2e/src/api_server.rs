//! A Kubernetes API without nodes: etcd and kube-apiserver on the loopback, up in about three seconds.
//!
//! Enough for schemas, validation, rights and ownership. There are no controllers, so nothing is made of what is stored:
//! no default `ServiceAccount`, no pods of a `ReplicaSet`, and no collected garbage.
//!
//! No path ends this program and leaves the two running: they are killed when the thread that started them ends.

mod access;
mod chart;
mod folder;
mod processes;

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::sync::{OnceLock, mpsc};
use std::thread::{self, JoinHandle};

use crate::tools::{self, Group};
use processes::{Ports, Processes};

pub use access::Output;
pub use chart::{AGENTS, OPERATOR, RELEASE};

/// A running API server.
#[derive(Debug)]
pub struct ApiServer {
    folder: PathBuf,
    /// Dropped to end the supervising thread, and the processes with it.
    running: Option<mpsc::Sender<()>>,
    supervisor: Option<JoinHandle<()>>,
}

impl ApiServer {
    /// The API server that all tests of one binary share; each makes a namespace of its own.
    ///
    /// # Panics
    ///
    /// If it does not start, since no test can go on then.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<ApiServer> = OnceLock::new();
        SHARED.get_or_init(|| Self::start().unwrap_or_else(|error| panic!("no API server: {error:?}")))
    }

    /// The shared API server with our definition, and what kubectl said when it was installed.
    ///
    /// # Panics
    ///
    /// If the definition is refused, since no test can go on then.
    pub fn with_definition() -> (&'static Self, &'static Output) {
        static INSTALLED: OnceLock<Output> = OnceLock::new();
        let server = Self::shared();
        let install = || {
            server
                .install_definition()
                .unwrap_or_else(|error| panic!("{error:?}"))
        };
        (server, INSTALLED.get_or_init(install))
    }

    /// Starts one and waits until it serves.
    pub fn start() -> Result<Self> {
        tools::ensure(&[Group::Etcd, Group::Kubernetes])?;
        let ports = Ports::free()?;
        let folder = folder::create(&ports.url())?;
        let (running, ended) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let supervised = folder.clone();
        let supervisor = thread::spawn(move || supervise(&supervised, &ports, &tell, &ended));
        let server = Self {
            folder,
            running: Some(running),
            supervisor: Some(supervisor),
        };
        let started = told.recv().context("the supervising thread is gone")?;
        started.with_context(|| format!("the logs are in {}", server.folder.display()))?;
        Ok(server)
    }

    fn install_definition(&self) -> Result<Output> {
        let said = self.kubectl_with(&["apply", "--server-side", "-f", "-"], &crd::schema::file()?)?;
        let definition = "crd/portableloadbalancers.portablelb.io";
        self.kubectl(&["wait", "--for=condition=Established", definition])?;
        Ok(said)
    }

    /// Path of the administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        folder::kubeconfig(&self.folder)
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        drop(self.running.take());
        if let Some(supervisor) = self.supervisor.take() {
            let _: Result<(), _> = supervisor.join();
        }
        let _: std::io::Result<()> = std::fs::remove_dir_all(self.folder.join(folder::DATA));
        if thread::panicking() {
            eprintln!("the API server's logs are in {}", self.folder.display());
        }
    }
}

/// Holds the processes until `ended` closes, which for the shared server is when the program ends.
fn supervise(folder: &Path, ports: &Ports, tell: &mpsc::Sender<Result<()>>, ended: &mpsc::Receiver<()>) {
    let started = Processes::start(folder, ports).and_then(|mut processes| {
        processes.wait_until_ready(&folder::kubeconfig(folder))?;
        Ok(processes)
    });
    match started {
        Ok(_processes) => {
            let _: Result<(), _> = tell.send(Ok(()));
            let _: Result<(), _> = ended.recv();
        }
        Err(error) => {
            let _: Result<(), _> = tell.send(Err(error));
        }
    }
}
