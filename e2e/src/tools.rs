//! The programs a cluster is made of, built from their Go modules into a cache outside the checkout.
//!
//! Each group of programs has a Go module of its own under `e2e/tools`, since their dependencies disagree. A group is
//! built once for each state of that module: its folder in the cache carries a key made of the module's files, and
//! appears there only when it is whole. Nothing here starts a program or knows what it is for.

mod build;
mod go;
mod group;
mod progress;

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{Flock, FlockArg};

pub use group::{Group, Tool};
use progress::Progress;

/// Where the project keeps what outlives a checkout: `$PLB_CACHE`, else a folder in the user's cache.
#[must_use]
pub fn cache() -> PathBuf {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("PLB_CACHE").unwrap_or_else(|| {
        let home = set("HOME").unwrap_or_else(|| PathBuf::from("/root"));
        home.join(".cache/portable-load-balancer")
    })
}

/// Where a tool's program lies once [`ensure`] has built its group.
#[must_use]
pub fn path(tool: Tool) -> PathBuf {
    folder(&cache(), tool.group()).join(tool.name())
}

/// A `PATH` that finds every tool before what was found until now.
pub fn search_path() -> Result<OsString> {
    let before = std::env::var_os("PATH").unwrap_or_default();
    let folders = Group::ALL.map(|group| folder(&cache(), group));
    std::env::join_paths(folders.into_iter().chain(std::env::split_paths(&before)))
        .context("a folder on PATH has a colon in its name")
}

/// Builds the groups that are not in the cache yet, one after another, and tells how it goes on standard error.
///
/// Several callers may do so at once: the second waits, and finds what the first has built.
pub fn ensure(groups: &[Group]) -> Result<()> {
    let cache = cache();
    if missing(&cache, groups).is_empty() {
        return Ok(());
    }
    let tools = cache.join("tools");
    fs::create_dir_all(&tools).with_context(|| format!("cannot make {}", tools.display()))?;
    let _lock = lock(&tools.join("lock"))?;
    let missing = missing(&cache, groups);
    for group in &missing {
        go::check(*group)?;
    }
    let mut progress = Progress::new(&missing);
    for group in missing {
        build::build(&tools, group, &mut progress)?;
    }
    Ok(())
}

fn folder(cache: &Path, group: Group) -> PathBuf {
    cache.join("tools").join(group.folder())
}

fn missing(cache: &Path, groups: &[Group]) -> Vec<Group> {
    groups
        .iter()
        .copied()
        .filter(|group| !folder(cache, *group).is_dir())
        .collect()
}

/// Holds the file's lock until dropped; the kernel takes it back from a caller that dies.
fn lock(path: &Path) -> Result<Flock<File>> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => return Ok(lock),
        Err((file, _)) => file,
    };
    eprintln!("tools: someone else is building them; waiting");
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| anyhow!("cannot lock {}: {errno}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_lies_in_the_folder_of_its_group() {
        let path = path(Tool::Kubectl);
        assert!(
            path.ends_with(format!("{}/kubectl", Group::Kubernetes.folder())),
            "{}",
            path.display()
        );
    }

    #[test]
    fn every_group_is_searched_first() {
        let found = search_path().unwrap();
        let folders: Vec<_> = std::env::split_paths(&found).take(Group::ALL.len()).collect();
        assert!(
            folders.iter().all(|folder| folder.starts_with(cache())),
            "{folders:?}"
        );
    }
}
