//! The chart's release, which all tests share.

use super::command::{helm, kubectl};
use super::{OPERATOR, RELEASE};
use anyhow::Result;

/// Installs the chart, or brings the release in line with it. Does little if it is so already.
pub fn ensure_installed() -> Result<()> {
    install_with("")
}

/// The same with values as `--set` takes them. The next test has the chart's own again.
pub fn install_with(values: &str) -> Result<()> {
    let place = format!("{RELEASE} charts/portable-lb --namespace {RELEASE} --create-namespace");
    // Else Helm keeps the values of the release before.
    helm(&format!(
        "upgrade --install {place} --reset-values {values} --wait --timeout 3m"
    ))
    .map(drop)
}

/// Takes the release away, as an administrator would.
pub fn uninstall() -> Result<()> {
    helm(&format!(
        "uninstall {RELEASE} --namespace {RELEASE} --wait --timeout 2m"
    ))
    .map(drop)
}

/// Gives the operator so many pods, and waits until there are no others.
pub fn scale_operator(replicas: u8) -> Result<()> {
    let kubectl = |words: String| kubectl(&format!("--namespace {RELEASE} {words}"));
    kubectl(format!("scale deployment/{OPERATOR} --replicas={replicas}"))?;
    kubectl(format!("rollout status deployment/{OPERATOR} --timeout 120s"))?;
    if replicas == 0 {
        kubectl("wait pod -l app.kubernetes.io/component=operator --for=delete --timeout 60s".to_owned())?;
    }
    Ok(())
}
