//! The chart's release, which all tests share.

use super::command::{helm, kubectl};
use super::{RELEASE, root};
use anyhow::Result;

/// Installs the chart, or brings the release in line with it. Does little if it is so already.
pub fn ensure_installed() -> Result<()> {
    let chart = root().join("charts/portable-lb");
    let target = [
        "upgrade",
        "--install",
        RELEASE,
        &chart.to_string_lossy(),
        "--namespace",
        RELEASE,
    ];
    helm(&[&target[..], &["--create-namespace", "--wait", "--timeout", "3m"]].concat())?;
    Ok(())
}

/// Takes the release away, as an administrator would.
pub fn uninstall() -> Result<()> {
    helm(&[
        "uninstall",
        RELEASE,
        "--namespace",
        RELEASE,
        "--wait",
        "--timeout",
        "2m",
    ])?;
    Ok(())
}

/// Whether the operator has as many pods as this, and no other one is ending.
pub fn scale_operator(replicas: u8) -> Result<()> {
    let deployment = format!("deployment/{}", super::OPERATOR);
    let count = format!("--replicas={replicas}");
    kubectl(&["scale", &deployment, &count, "--namespace", RELEASE])?;
    kubectl(&[
        "rollout",
        "status",
        &deployment,
        "--namespace",
        RELEASE,
        "--timeout",
        "120s",
    ])?;
    if replicas == 0 {
        let pods = "app.kubernetes.io/component=operator";
        kubectl(&[
            "wait",
            "pod",
            "-l",
            pods,
            "--for=delete",
            "--namespace",
            RELEASE,
            "--timeout",
            "60s",
        ])?;
    }
    Ok(())
}
