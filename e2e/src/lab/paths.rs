//! Where the lab keeps its things.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use super::cluster::Node;
use super::service::ServiceFolder;

/// The lab's folder and what is in it. Machines see it at the same path as the host.
#[derive(Clone, Debug)]
pub struct Paths {
    state: PathBuf,
}

impl Paths {
    /// The checkout's own lab.
    pub fn of_checkout() -> Result<Self> {
        let state = checkout().join("target/lab");
        if state.to_string_lossy().contains(char::is_whitespace) {
            bail!("the checkout's path must not have spaces: a kernel's command line cannot hold them");
        }
        Ok(Self { state })
    }

    /// A lab in another folder, as a machine is told.
    #[must_use]
    pub fn new(state: PathBuf) -> Self {
        Self { state }
    }

    /// Makes the folders.
    pub fn create(&self) -> Result<()> {
        for folder in [self.pki(), self.logs(), self.bin(), self.guest(), self.machines()] {
            fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
        }
        self.services().create()
    }

    /// Lets this command change the lab alone, until what is returned is dropped.
    pub fn lock(&self) -> Result<Flock<File>> {
        let path = self.state.with_extension("lock");
        fs::create_dir_all(&self.state)?;
        let file = File::create(&path).with_context(|| format!("could not write {}", path.display()))?;
        let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((file, _)) => file,
        };
        eprintln!("Another command changes the lab; waiting for it.");
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
    }

    /// The lab's folder.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// What the lab is asked to be.
    #[must_use]
    pub fn cluster(&self) -> PathBuf {
        self.state.join("cluster.json")
    }

    /// Keys and certificates.
    #[must_use]
    pub fn pki(&self) -> PathBuf {
        self.state.join("pki")
    }

    /// A kubeconfig by its user's short name.
    #[must_use]
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.state.join(format!("{user}.conf"))
    }

    /// Every log of every component.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.state.join("logs")
    }

    /// Links to the tools, and a copy of this program that a new build does not touch.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.state.join("bin")
    }

    /// The scripts that machines start with.
    #[must_use]
    pub fn guest(&self) -> PathBuf {
        self.state.join("guest")
    }

    /// etcd's data.
    #[must_use]
    pub fn etcd(&self) -> PathBuf {
        self.state.join("etcd")
    }

    /// Pid files and management sockets of the machines.
    #[must_use]
    pub fn machines(&self) -> PathBuf {
        self.state.join("uml")
    }

    /// What the host's supervisor keeps running.
    #[must_use]
    pub fn services(&self) -> ServiceFolder {
        ServiceFolder::new(self.state.join("services"))
    }

    /// What the host and one machine tell each other.
    #[must_use]
    pub fn node(&self, node: Node) -> PathBuf {
        self.state.join("nodes").join(node.name())
    }

    /// A configuration file of a component.
    #[must_use]
    pub fn config(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }
}

/// The checkout this program was built from.
#[must_use]
pub fn checkout() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.parent().unwrap_or(folder).to_owned()
}

/// The image archives that every node is given, as far as they are built.
#[must_use]
pub fn images() -> Vec<PathBuf> {
    let folder = checkout().join("target/images");
    let archives = ["lab-pod.tar", "agent.tar", "operator.tar"].map(|name| folder.join(name));
    archives.into_iter().filter(|archive| archive.exists()).collect()
}
