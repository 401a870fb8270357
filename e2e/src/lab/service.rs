//! Services as files: what should run, and what does.
//!
//! A folder holds `NAME.json` for each service that should run, written by whoever wants it, and `NAME.state` for each
//! one the supervisor takes care of. Both are replaced whole, so that a reader never sees half of one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::process::Process;

/// A program that should run, and be started again when it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name, unique in its folder.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment added to the supervisor's own.
    pub env: BTreeMap<String, String>,
    /// Where its output goes.
    pub log: PathBuf,
}

/// What the supervisor knows of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The service as it was started.
    pub service: Service,
    /// Its process, unless it waits to be started again.
    pub process: Option<Process>,
    /// How often it ended by itself.
    pub restarts: u32,
    /// How it ended the last time.
    pub last_exit: Option<String>,
}

/// A folder of services.
#[derive(Clone, Debug)]
pub struct ServiceFolder {
    path: PathBuf,
}

impl ServiceFolder {
    /// The services in `path`.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Makes the folder.
    pub fn create(&self) -> Result<()> {
        fs::create_dir_all(&self.path).with_context(|| format!("could not make {}", self.path.display()))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks for a service, or for another form of it.
    pub fn put(&self, service: &Service) -> Result<()> {
        write_whole(
            &self.file(&service.name, "json"),
            &serde_json::to_string_pretty(service)?,
        )
    }

    /// Asks for a service to end. The supervisor does it within a moment; [`ServiceFolder::state`] then is `None`.
    pub fn remove(&self, name: &str) -> Result<()> {
        remove_file(&self.file(name, "json"))
    }

    /// Every service asked for.
    pub fn wanted(&self) -> Result<Vec<Service>> {
        self.read_all("json")
    }

    /// When a file came or went the last time.
    pub(super) fn changed_at(&self) -> Option<SystemTime> {
        fs::metadata(&self.path).ok()?.modified().ok()
    }

    /// Every service taken care of.
    pub fn states(&self) -> Result<Vec<State>> {
        self.read_all("state")
    }

    /// One service's state, if it is taken care of.
    #[must_use]
    pub fn state(&self, name: &str) -> Option<State> {
        read_json(&self.file(name, "state"))
    }

    /// When one service's state changed the last time: it was started, or it ended.
    #[must_use]
    pub fn state_written_at(&self, name: &str) -> Option<SystemTime> {
        fs::metadata(self.file(name, "state")).ok()?.modified().ok()
    }

    pub(super) fn put_state(&self, state: &State) -> Result<()> {
        write_whole(
            &self.file(&state.service.name, "state"),
            &serde_json::to_string_pretty(state)?,
        )
    }

    pub(super) fn remove_state(&self, name: &str) -> Result<()> {
        remove_file(&self.file(name, "state"))
    }

    fn file(&self, name: &str, kind: &str) -> PathBuf {
        self.path.join(format!("{name}.{kind}"))
    }

    fn read_all<T: DeserializeOwned>(&self, kind: &str) -> Result<Vec<T>> {
        let entries =
            fs::read_dir(&self.path).with_context(|| format!("could not read {}", self.path.display()))?;
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == kind));
        paths.sort();
        // A file that went away or is damaged counts as absent: whoever wants it writes it again.
        Ok(paths.iter().filter_map(|path| read_json(path)).collect())
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Replaces a file in one step.
pub fn write_whole(path: &Path, text: &str) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("could not write {}", path.display()))
}
