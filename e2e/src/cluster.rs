//! The lab's cluster as tests see it: the chart installed, a namespace each, conditions waited for, traffic sent.
//!
//! Everything blocks: a test is a sequence of commands and of waits, and its clients are threads.

pub mod agents;
pub mod command;
pub mod describe;
pub mod fixtures;
pub mod install;
pub mod ipvs;
pub mod space;
pub mod traffic;
pub mod wait;

use crate::netns::{self, Namespace};
use anyhow::{Context, Result};
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Config, Resource};
use nix::fcntl::{Flock, FlockArg};
use nix::sched::{CloneFlags, setns};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::fs::File;
use std::path::{Path, PathBuf};
use tokio::runtime::Runtime;

pub use agents::Agent;
pub use space::{Space, in_namespace};
pub use traffic::{Steady, request};
pub use wait::until;

/// The agents' namespace.
pub const AGENTS: &str = "portable-lb-agents";
/// The release, and its namespace.
pub const RELEASE: &str = "portable-lb";
/// The operator's Deployment, in the release's namespace.
pub const OPERATOR: &str = "portable-lb-operator";

/// A connection to the lab's cluster. The thread that holds it is in the lab's network.
pub struct Cluster {
    runtime: Runtime,
    client: Client,
    home: File,
    _lock: Flock<File>,
}

impl Cluster {
    /// Enters the lab's network on this thread and connects as administrator. Waits until no other test does so:
    /// they share one installation, and some of them take it away.
    pub fn connect() -> Result<Self> {
        let kubeconfig = kubeconfig();
        let config = Kubeconfig::read_from(&kubeconfig)
            .with_context(|| format!("no lab: {} is not there; make lab-up", kubeconfig.display()))?;
        let lock = File::create(root().join("target/lab/tests.lock"))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
        let home = File::open("/proc/thread-self/ns/net")?;
        Namespace::named(netns::LAB).enter()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let client = runtime.block_on(async {
            let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
            anyhow::Ok(Client::try_from(config)?)
        })?;
        Ok(Self {
            runtime,
            client,
            home,
            _lock: lock,
        })
    }

    /// One object.
    pub fn get<K>(&self, namespace: &str, name: &str) -> Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        Ok(self.runtime.block_on(api.get(name))?)
    }

    /// The objects with these labels, `a=b,c=d`; all if empty.
    pub fn list<K>(&self, namespace: &str, labels: &str) -> Result<Vec<K>>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        Ok(self
            .runtime
            .block_on(api.list(&ListParams::default().labels(labels)))?
            .items)
    }

    /// Does what needs more of the API than the methods here give.
    pub fn run<T, F: Future<Output = Result<T>>>(&self, work: impl FnOnce(Client) -> F) -> Result<T> {
        self.runtime.block_on(work(self.client.clone()))
    }

    /// Runs the program that the lab was started with, outside the lab's network as a person would.
    pub fn lab(&self, words: &str) -> Result<String> {
        let home = &self.home;
        std::thread::scope(|scope| {
            let run = scope.spawn(|| {
                setns(home, CloneFlags::CLONE_NEWNET)?;
                command::run(&root().join("target/lab/bin/lab"), words)
            });
            run.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The next test on this thread starts from here again.
        let _ = setns(&self.home, CloneFlags::CLONE_NEWNET);
    }
}

/// The checkout.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("/"))
}

/// The administrator's kubeconfig.
#[must_use]
pub fn kubeconfig() -> PathBuf {
    root().join("target/lab/admin.conf")
}
