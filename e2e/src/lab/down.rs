//! Takes the lab down so that nothing of it is left but its logs.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::paths::Paths;
use super::process::{Process, family, kill_all};
use super::progress::Progress;
use crate::netns::{LAB, Namespace};

const PATIENCE: Duration = Duration::from_secs(20);

/// Ends everything that lives in the lab's namespace, deletes the namespace with its devices, and the state.
pub fn down(paths: &Paths) -> Result<()> {
    let progress = Progress::start();
    remove(paths)?;
    progress.say(&format!(
        "the lab is down; its logs are in {}",
        paths.logs().display()
    ));
    Ok(())
}

/// The same, and says nothing.
pub(super) fn remove(paths: &Paths) -> Result<()> {
    let namespace = Namespace::named(LAB);
    end_processes(&namespace)?;
    namespace.delete()?;
    remove_state(paths)?;
    check_mounts(paths)
}

/// All that the lab runs lives in its namespace, whoever started it, so this finds what a lost supervisor left too.
fn end_processes(namespace: &Namespace) -> Result<()> {
    // Not itself, nor who called it: `lab down` may be typed into the lab's own shell.
    let own = family(i32::try_from(std::process::id())?);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let processes: Vec<i32> = namespace
            .processes()?
            .into_iter()
            .filter(|pid| !own.contains(pid))
            .collect();
        let living: Vec<Process> = processes.iter().filter_map(|&pid| Process::find(pid)).collect();
        if living.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("processes {processes:?} in the namespace {LAB} do not end");
        }
        kill_all(&living);
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn remove_state(paths: &Paths) -> Result<()> {
    let Ok(entries) = fs::read_dir(paths.state()) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry?.path();
        if path != paths.logs() {
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            removed.with_context(|| format!("could not remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn check_mounts(paths: &Paths) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let state = paths.state().display().to_string();
    match mounts
        .lines()
        .find(|line| line.contains(&state) || line.contains(LAB))
    {
        Some(line) => bail!("a mount is left: {line}"),
        None => Ok(()),
    }
}
