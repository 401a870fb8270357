//! Flannel's backend, changed for a while.

use anyhow::{Context, Result, bail};
use e2e::cluster::command::kubectl;
use e2e::lab::cluster::Backend;
use e2e::lab::flannel;
use e2e::lab::paths::Paths;

/// The backend in use; when this is dropped, it is again the one from the beginning.
pub struct Network {
    first: Backend,
    now: Backend,
}

impl Network {
    /// As it is now, by flannel's own word on the nodes.
    pub fn read() -> Result<Self> {
        let path = r"jsonpath={.items[0].metadata.annotations.flannel\.alpha\.coreos\.com/backend-type}";
        let word = kubectl(&format!("get nodes -o {path}"))?;
        let backends = [Backend::HostGw, Backend::Vxlan, Backend::Udp];
        let Some(now) = backends.into_iter().find(|backend| backend.annotation() == word) else {
            bail!("flannel says {word:?}");
        };
        Ok(Self { first: now, now })
    }

    /// Changes it on all nodes.
    pub fn change(&mut self, backend: Backend) -> Result<()> {
        if self.now == backend {
            return Ok(());
        }
        let paths = Paths::of_checkout()?;
        let _lock = paths.lock()?;
        // Whatever comes of it, the first one is then to be brought back.
        self.now = backend;
        flannel::change(&paths, backend).with_context(|| format!("flannel {backend}"))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Err(error) = self.change(self.first) {
            println!("flannel could not be put back to {}: {error:#}", self.first);
        }
    }
}
