//! Named network namespaces, as `ip netns` knows them: made, entered, searched and deleted.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// The lab's namespace: its control plane lives there, and clients "outside the cluster" do.
pub const LAB: &str = "plb-lab";

const FOLDER: &str = "/run/netns";

/// A namespace by name; it need not exist.
#[derive(Clone, Debug)]
pub struct Namespace {
    path: PathBuf,
}

impl Namespace {
    /// The namespace called `name`.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            path: Path::new(FOLDER).join(name),
        }
    }

    /// Whether it exists. A file without a namespace mounted on it, left by a crash, does not count.
    #[must_use]
    pub fn exists(&self) -> bool {
        let device = |path: &Path| fs::metadata(path).map(|file| file.dev()).ok();
        device(&self.path).is_some_and(|namespace| Some(namespace) != device(Path::new(FOLDER)))
    }

    /// Makes it, unless it exists.
    ///
    /// Unlike `ip netns add` this mounts nothing over `/run/netns`, so nothing is left after [`Namespace::delete`].
    pub fn create(&self) -> Result<()> {
        if self.exists() {
            return Ok(());
        }
        fs::create_dir_all(FOLDER)?;
        fs::write(&self.path, "")?;
        let path = self.path.clone();
        let made = std::thread::spawn(move || -> nix::Result<()> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            mount(
                Some("/proc/thread-self/ns/net"),
                &path,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
        });
        made.join()
            .map_err(|_| anyhow!("the thread that makes a network namespace died"))?
            .with_context(|| format!("could not make the network namespace {}", self.path.display()))
    }

    /// Moves the calling thread into it; the processes it starts live there too.
    pub fn enter(&self) -> Result<()> {
        let file = fs::File::open(&self.path)
            .with_context(|| format!("no network namespace {}: is the lab up?", self.path.display()))?;
        setns(file.as_fd(), CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("could not enter {}", self.path.display()))
    }

    /// The processes that live in it.
    pub fn processes(&self) -> Result<Vec<i32>> {
        if !self.exists() {
            return Ok(Vec::new());
        }
        let inode = fs::metadata(&self.path)?.ino();
        let lives_here =
            |pid: &i32| fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|file| file.ino() == inode);
        let pids = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        Ok(pids.filter(lives_here).collect())
    }

    /// Deletes its name. The namespace and its devices go when no process lives in it any more.
    pub fn delete(&self) -> Result<()> {
        if self.exists() {
            umount2(&self.path, MntFlags::MNT_DETACH)
                .with_context(|| format!("could not unmount {}", self.path.display()))?;
        }
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}
