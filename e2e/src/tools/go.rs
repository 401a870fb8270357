//! The Go toolchain: whether there is one that can build a group, and what to do if not.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use super::Group;

/// Where a group's Go module lies in the checkout.
pub(super) fn module(group: Group) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tools")
        .join(group.name())
}

/// A call of Go in the group's module.
pub(super) fn command(group: Group) -> Command {
    let mut go = Command::new("go");
    go.current_dir(module(group))
        .env("CGO_ENABLED", if group.needs_c() { "1" } else { "0" });
    go
}

/// Fails with the way to get Go if there is none, or one too old to read the group's module.
pub(super) fn check(group: Group) -> Result<()> {
    let remedy = format!(
        "{} needs Go {} or newer: unpack it from https://go.dev/dl to /usr/local and put /usr/local/go/bin on PATH",
        group.name(),
        group.go_version()
    );
    match command(group).args(["list", "-m"]).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => bail!("{remedy}\n{}", String::from_utf8_lossy(&output.stderr).trim_end()),
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("Go was not found. {remedy}"),
        Err(error) => bail!("Go did not start: {error}. {remedy}"),
    }
}
