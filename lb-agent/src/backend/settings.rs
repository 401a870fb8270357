//! The sysctls of a server's network namespace.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use tracing::info;

const CONF: &str = "/proc/sys/net/ipv4/conf";

/// Nobody on the link may learn from us that the balancer's address is here: neither by an answer, nor by the sender
/// of our own questions.
pub(super) fn answer_for_own_addresses_only() -> anyhow::Result<()> {
    at_least("all/arp_ignore", 1)?;
    at_least("all/arp_announce", 2)
}

/// Clients are not reached through the tunnel, so strict reverse path filtering would drop what comes out of it. The
/// larger of the device's value and that of `all` counts, and of the two that filter, loose is the larger.
pub(super) fn take_from_anywhere(device: &str) -> anyhow::Result<()> {
    at_least(&format!("{device}/rp_filter"), 2)
}

fn at_least(name: &str, wanted: u32) -> anyhow::Result<()> {
    let path = Path::new(CONF).join(name);
    let read = || fs::read_to_string(&path).ok()?.trim().parse::<u32>().ok();
    if read().is_some_and(|value| value >= wanted) {
        return Ok(());
    }
    fs::write(&path, wanted.to_string()).with_context(|| {
        format!(
            "could not set {} to {wanted}: this needs a privileged container",
            path.display()
        )
    })?;
    info!(path = %path.display(), wanted, "set");
    Ok(())
}
