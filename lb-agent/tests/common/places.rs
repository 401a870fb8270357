//! Network namespaces.

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::{feed, run};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// The network namespaces of one scene; others of the same names are elsewhere.
pub(crate) struct Places {
    number: u32,
    names: Vec<&'static str>,
}

impl Places {
    pub(crate) fn new() -> Self {
        Self {
            number: COUNT.fetch_add(1, Ordering::Relaxed),
            names: Vec::new(),
        }
    }

    /// A folder that no other scene uses.
    pub(crate) fn folder(&self, place: &str) -> PathBuf {
        let folder = PathBuf::from(format!("/run/scene-{}/{place}", self.number));
        fs::create_dir_all(&folder).expect("can be made");
        folder
    }

    /// Makes a namespace, as `ip netns add` does it.
    pub(crate) fn add(&mut self, place: &'static str) {
        self.names.push(place);
        let path = self.path(place);
        fs::create_dir_all("/run/netns").expect("can be made");
        File::create(&path).expect("can be made");
        let work = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("may be made");
            let source = Some("/proc/thread-self/ns/net");
            mount(source, &path, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("may be mounted");
        });
        work.join().expect("the namespace is made");
    }

    /// The name of a place's namespace.
    pub(crate) fn name(&self, place: &str) -> String {
        format!("{place}-{}", self.number)
    }

    /// Where a place's namespace is to be found.
    pub(crate) fn path(&self, place: &str) -> PathBuf {
        PathBuf::from("/run/netns").join(self.name(place))
    }

    pub(crate) fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// Many commands of `ip` at once: starting a program takes long in such a machine.
    pub(crate) fn ip(&self, place: &str, commands: &str) {
        feed("ip", &["-n", &self.name(place), "-batch", "-"], commands);
    }

    /// The output of a program at a place.
    pub(crate) fn at(&self, place: &str, command: &str) -> String {
        let mut words: Vec<&str> = command.split(' ').collect();
        let name = self.name(place);
        words.splice(0..0, ["netns", "exec", &name]);
        run("ip", &words)
    }

    /// What `ipvsadm -Sn` prints at a place, in the order of the alphabet.
    pub(crate) fn saved(&self, place: &str) -> Vec<String> {
        let text = self.at(place, "ipvsadm -Sn");
        let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        lines.sort_unstable();
        lines
    }

    /// Runs a job at a place.
    pub(crate) fn within<T: Send + 'static>(
        &self,
        place: &str,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        within(self.path(place), job)
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        for place in &self.names {
            let path = self.path(place);
            let _ = umount2(&path, MntFlags::MNT_DETACH);
            let _ = fs::remove_file(path);
        }
    }
}

/// Runs a job in the network namespace at a path.
pub(crate) fn within<T: Send + 'static>(path: PathBuf, job: impl FnOnce() -> T + Send + 'static) -> T {
    let work = thread::spawn(move || {
        setns(File::open(path).expect("was made"), CloneFlags::CLONE_NEWNET).expect("may enter");
        job()
    });
    work.join().expect("the job passes")
}
