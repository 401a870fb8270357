//! What a server's node needs.
use std::net::IpAddr;
use std::path::Path;

pub(super) async fn prepare(_namespace: &Path, _addresses: &[IpAddr], _pod: &[IpAddr]) -> anyhow::Result<()> {
    Ok(())
}
