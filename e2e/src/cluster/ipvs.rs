//! What `ipvsadm` prints, read independently of the agent's own code.

use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

/// The mark of an IPv4 TCP listener: what the agents promise to compute.
#[must_use]
pub fn tcp_mark(port: u16) -> u32 {
    0x4000_0000 | u32::from(port)
}

/// The mark of an IPv4 UDP listener.
#[must_use]
pub fn udp_mark(port: u16) -> u32 {
    tcp_mark(port) | 1 << 17
}

/// The lines of `ipvsadm -Sn` for one service and its servers, all of weight 1.
#[must_use]
pub fn expected(mark: u32, scheduler: &str, servers: &[Ipv4Addr], port: u16) -> BTreeSet<String> {
    let servers = servers
        .iter()
        .map(|server| format!("-a -f {mark} -r {server}:{port} -m -w 1"));
    servers.chain([format!("-A -f {mark} -s {scheduler}")]).collect()
}

/// The lines of `ipvsadm -Sn`.
#[must_use]
pub fn lines(printed: &str) -> BTreeSet<String> {
    printed
        .lines()
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

/// Connections counted since a server was added, by mark and server: from `ipvsadm -Ln --stats --exact`.
pub fn connections(printed: &str) -> Result<BTreeMap<(u32, String), u64>> {
    let mut mark = 0;
    let mut counts = BTreeMap::new();
    for line in printed.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["FWM", number, ..] => mark = number.parse().context("a mark is a number")?,
            ["->", "RemoteAddress:Port", ..] => {}
            ["->", server, count, ..] => {
                let count = count
                    .parse()
                    .with_context(|| format!("connections in {line:?}"))?;
                counts.insert((mark, server.to_owned()), count);
            }
            _ => {}
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_holds_port_and_protocol() {
        assert_eq!(tcp_mark(80), 1_073_741_904);
        assert_eq!(udp_mark(53), 0x4002_0035);
    }

    #[test]
    fn connections_are_read_by_mark_and_server() {
        let printed = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
FWM  1073741904                          5       30       25     2000     3000
  -> 10.244.1.5:8080                     3       18       15     1200     1800
  -> 10.244.2.7:8080                     2       12       10      800     1200
";
        let counts = connections(printed).unwrap();
        assert_eq!(counts[&(1_073_741_904, "10.244.1.5:8080".to_owned())], 3);
        assert_eq!(counts.len(), 2);
    }
}
