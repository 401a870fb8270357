//! The chart in an API server: its roles, policies and namespaces, and nothing that runs.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use super::ApiServer;
use crate::tools::{self, Group, Tool};

/// The release's namespace.
pub const RELEASE: &str = "portable-lb";
/// The agents' namespace.
pub const AGENTS: &str = "portable-lb-agents";
/// The operator's user, who has the rights that the chart gives.
pub const OPERATOR: &str = "system:serviceaccount:portable-lb:portable-lb-operator";

impl ApiServer {
    /// The shared API server with all of the chart, as an installation with its defaults leaves it.
    ///
    /// # Panics
    ///
    /// If the chart is refused, since no test can go on then.
    pub fn with_chart() -> &'static Self {
        static INSTALLED: OnceLock<()> = OnceLock::new();
        let (server, _) = Self::with_definition();
        INSTALLED.get_or_init(|| install(server).unwrap_or_else(|error| panic!("{error:?}")));
        server
    }
}

impl ApiServer {
    /// An API server of the caller's own with all of the chart, in the network namespace of the calling thread. It ends
    /// when it is dropped.
    pub fn start_with_chart() -> Result<Self> {
        let server = Self::start()?;
        server.install_definition()?;
        install(&server)?;
        Ok(server)
    }
}

fn install(server: &ApiServer) -> Result<()> {
    server.kubectl(&["create", "namespace", RELEASE])?;
    server.kubectl_with(&["apply", "--server-side", "-f", "-"], &render()?)?;
    Ok(())
}

/// The definitions are there already, with what kubectl said of them.
fn render() -> Result<String> {
    tools::ensure(&[Group::Helm])?;
    let output = Command::new(tools::path(Tool::Helm))
        .args(["template", RELEASE, "--namespace", RELEASE])
        .args(["--no-hooks", "--set=crds.enabled=false"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/portable-lb"))
        .output()
        .context("could not start helm")?;
    if !output.status.success() {
        bail!("helm template: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}
