//! Web pods: an nginx each, in a network namespace of its own, that answers the address that it was asked at.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::cpus::Share;
use super::net::{self, Link, Own};
use crate::scratch::Running;

/// The file that every pod serves.
pub const FILE: &str = "ip";

/// One pod.
pub struct Pod {
    // Before its namespace.
    server: Option<Running>,
    own: Own,
    /// Its addresses. Where it has one, a file has what it answers.
    pub addresses: Vec<String>,
}

impl Pod {
    /// Makes its network; it serves nothing yet.
    pub fn make(link: &Link, index: usize) -> Result<Self> {
        let address = net::pod(index);
        Ok(Self {
            own: link.join(&format!("pod{index}"), &address)?,
            addresses: vec![address],
            server: None,
        })
    }

    /// The first one, as if it were many: it has so many more addresses, by which all others have to know it.
    pub fn crowd(link: &Link, count: usize) -> Result<Self> {
        let mut pod = Self::make(link, 0)?;
        pod.own.ip(&format!("route add local {} dev lo\n", net::CROWD))?;
        pod.addresses = (0..count).map(net::of_crowd).collect();
        Ok(pod)
    }

    /// Starts its server anew, which answers at most so many requests a second.
    pub fn serve(&mut self, folder: &Path, limit: Option<u32>) -> Result<()> {
        self.server = None;
        let first = self.addresses.first().context("it has no address")?;
        let folder = folder.join(first);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(FILE), first)?;
        let answer = match self.addresses.len() {
            1 => "",
            _ => "return 200 $server_addr;",
        };
        let configuration = folder.join("nginx.conf");
        fs::write(&configuration, nginx(&folder, limit, answer))?;
        let started = self
            .command("/usr/sbin/nginx")
            .arg("-c")
            .arg(configuration)
            .spawn();
        self.server = Some(Running(started.context("could not start nginx")?));
        Ok(())
    }

    /// A program in the pod.
    #[must_use]
    pub fn command(&self, program: impl Into<PathBuf>) -> Command {
        self.own.command(Share::Rest, program.into())
    }
}

/// One process. A limit delays requests beyond it, as a processor does that has no more time; short bursts pass.
fn nginx(folder: &Path, limit: Option<u32>, answer: &str) -> String {
    let folder = folder.display();
    let (zone, limit) = limit.map_or_else(Default::default, |rate| {
        (
            format!("limit_req_zone $server_port zone=pod:32k rate={rate}r/s;"),
            format!("limit_req zone=pod burst=10000 delay={};", (rate / 20).max(1)),
        )
    });
    format!(
        "daemon off; master_process off; error_log {folder}/error.log; pid {folder}/pid;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 1h; tcp_nodelay on;\n\
         open_file_cache max=4; open_file_cache_valid 1h; root {folder};\n{zone}\n\
         server {{ listen 80 backlog=1024; location / {{ {limit} {answer} }} }} }}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_limited_only_if_told() {
        assert!(!nginx(Path::new("/x"), None, "").contains("limit_req"));
        let text = nginx(Path::new("/x"), Some(400), "");
        assert!(
            text.contains("rate=400r/s") && text.contains("delay=20;"),
            "{text}"
        );
    }
}
