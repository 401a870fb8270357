//! containerd: its configuration and its images.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::lab::process;

/// Where containerd's configuration lies.
pub(super) const CONFIGURATION: &str = "/run/plb/containerd.toml";

/// The image of every pod's sandbox; without arguments its program sleeps.
const SANDBOX: &str = concat!("docker.io/portable-lb/lab-pod:", env!("CARGO_PKG_VERSION"));

pub(super) fn write_configuration() -> Result<()> {
    fs::write(CONFIGURATION, configuration()).with_context(|| format!("could not write {CONFIGURATION}"))
}

fn configuration() -> String {
    format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
# What no node here has use for, so that it does not look for its parts.
disabled_plugins = [
  "io.containerd.internal.v1.tracing",
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.erofs",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "{SANDBOX}"

[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["/usr/lib/cni"]
  conf_dir = "/etc/cni/net.d"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = false
"#
    )
}

/// Whether containerd can be asked for things.
pub(super) fn answers() -> Result<()> {
    process::run(Command::new("ctr").arg("version")).map(drop)
}

/// Gives an image archive to containerd, where kubelet finds it.
pub(super) fn import(archive: &Path) -> Result<()> {
    // Straight into its store; through its transfer service it takes twice as long.
    let arguments = ["-n", "k8s.io", "images", "import", "--local"];
    process::run(Command::new("ctr").args(arguments).arg(archive)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sandbox_is_the_labs_own_image_of_this_version() {
        assert!(configuration().contains(r#"sandbox = "docker.io/portable-lb/lab-pod:0."#));
    }
}
