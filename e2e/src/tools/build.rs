//! Builds one group into the cache: whole, or not at all.

use std::fs::{self, File};
use std::path::Path;
use std::process::{self, Child, Command, ExitStatus};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use anyhow::{Context, Result, bail};

use super::progress::Progress;
use super::{Group, Tool, go};

/// How many lines of Go's output are shown when it fails.
const LINES: usize = 30;

/// Builds a group beside its place in `tools` and then moves it there. The caller holds the lock.
pub(super) fn build(tools: &Path, group: Group, progress: &mut Progress) -> Result<()> {
    // Named after this process: a Go that outlived an interrupted call may still write to that call's folder.
    let stage = tools.join(format!("unfinished-{}", process::id()));
    remove_but(tools, "unfinished-", "")?;
    fs::create_dir_all(&stage)?;
    let log = tools.join(format!("{}.log", group.name()));
    progress.start(group);
    let mut go = command(group, &stage);
    go.stdout(File::create(&log)?)
        .stderr(File::options().append(true).open(&log)?);
    let child = go.spawn().context("Go did not start")?;
    let status = wait(child, progress)?;
    if !status.success() {
        bail!(
            "building {} failed ({status}); the end of {}:\n{}",
            group.name(),
            log.display(),
            tail(&log)?
        );
    }
    let folder = group.folder();
    fs::rename(&stage, tools.join(&folder)).with_context(|| format!("cannot keep {folder}"))?;
    progress.finish(group);
    // The folders of earlier keys are some hundred megabytes each that nobody asks for again.
    remove_but(tools, &format!("{}-", group.name()), &folder)
}

/// One call for all tools of the group, so that what they share is compiled once.
fn command(group: Group, stage: &Path) -> Command {
    let mut go = go::command(group);
    go.args([
        "build",
        "-trimpath",
        "-buildvcs=false",
        "-ldflags",
        &group.linker_flags(),
        "-o",
    ]);
    let names: Vec<_> = group.tools().map(Tool::name).collect();
    match names.as_slice() {
        [name] => go.arg(stage.join(name)),
        _ => go.arg(stage.join("")),
    };
    go.args(group.tools().map(Tool::package));
    go
}

/// Waits for the build while its progress is shown.
fn wait(mut child: Child, progress: &mut Progress) -> Result<ExitStatus> {
    let (sender, receiver) = mpsc::channel();
    let waiter = thread::spawn(move || sender.send(child.wait()));
    let status = loop {
        match receiver.recv_timeout(progress.interval()) {
            Ok(status) => break status.context("lost sight of Go"),
            Err(RecvTimeoutError::Timeout) => progress.tell(),
            Err(RecvTimeoutError::Disconnected) => bail!("lost sight of Go"),
        }
    };
    drop(waiter.join());
    status
}

/// Removes the folders whose names begin so, all but the current one.
fn remove_but(tools: &Path, prefix: &str, current: &str) -> Result<()> {
    for entry in fs::read_dir(tools)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(prefix) && name != current {
            fs::remove_dir_all(entry.path()).with_context(|| format!("cannot remove {name}"))?;
        }
    }
    Ok(())
}

fn tail(log: &Path) -> Result<String> {
    let text = fs::read_to_string(log)?;
    let lines: Vec<_> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(LINES)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_tools_go_to_a_folder_and_one_to_a_file() {
        let target = |group| {
            let arguments: Vec<_> = command(group, Path::new("/stage"))
                .get_args()
                .map(|a| a.to_string_lossy().into_owned())
                .collect();
            let o = arguments.iter().position(|argument| argument == "-o").unwrap();
            arguments[o + 1].clone()
        };
        assert_eq!(target(Group::Kubernetes), "/stage/");
        assert_eq!(target(Group::Helm3), "/stage/helm3");
    }

    #[test]
    fn only_other_folders_of_that_name_are_removed() {
        let tools = std::env::temp_dir().join(format!("plb-tools-{}", std::process::id()));
        for name in ["helm-1", "helm-2", "helm3-1"] {
            fs::create_dir_all(tools.join(name)).unwrap();
        }
        remove_but(&tools, "helm-", "helm-2").unwrap();
        let mut left: Vec<_> = fs::read_dir(&tools)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        left.sort();
        fs::remove_dir_all(&tools).unwrap();
        assert_eq!(left, ["helm-2", "helm3-1"]);
    }
}
