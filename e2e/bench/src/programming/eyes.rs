//! What the kernel holds, seen with other eyes than ours: `/proc/net/ip_vs`.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use lb_agent::table::{Listener, MARK_BIT, Service, Table};

/// Servers and their weights, of each mark.
pub(super) type Held = BTreeMap<(u32, SocketAddr), u32>;

/// What this thread's network namespace holds of ours.
pub(super) fn held() -> Result<Held> {
    parse(&fs::read_to_string("/proc/thread-self/net/ip_vs").context("/proc/net/ip_vs")?)
}

/// What it should hold.
pub(super) fn wanted(table: &Table) -> Held {
    let services = table.services.iter();
    let of = |(listener, service): (&Listener, &Arc<Service>)| {
        let mark = listener.mark().get();
        let servers = service.servers.iter();
        let servers = servers.map(move |(at, server)| ((mark, *at), server.weight.0));
        servers.collect::<Vec<_>>()
    };
    services.flat_map(of).collect()
}

/// Fails if the kernel does not hold it.
pub(super) fn check(table: &Table) -> Result<()> {
    let (held, wanted) = (held()?, wanted(table));
    if held == wanted {
        return Ok(());
    }
    let wrong = wanted.iter().find(|(key, weight)| held.get(key) != Some(weight));
    bail!(
        "the kernel holds {} servers instead of {}; first wrong: {wrong:?}",
        held.len(),
        wanted.len()
    )
}

fn parse(text: &str) -> Result<Held> {
    let mut held = Held::new();
    let mut mark = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["FWM", number, ..] => {
                let number = u32::from_str_radix(number, 16).context("a mark")?;
                mark = Some(number).filter(|number| number & MARK_BIT != 0);
            }
            ["TCP" | "UDP" | "SCTP", ..] => mark = None,
            ["->", at, _, weight, _, _] if at != "RemoteAddress:Port" => {
                if let Some(mark) = mark {
                    held.insert((mark, address(at)?), weight.parse().context("a weight")?);
                }
            }
            _ => {}
        }
    }
    Ok(held)
}

fn address(text: &str) -> Result<SocketAddr> {
    let (address, port) = text.split_once(':').context("no port")?;
    let address = u32::from_str_radix(address, 16).context("an address")?;
    let port = u16::from_str_radix(port, 16).context("a port")?;
    Ok(SocketAddr::from((address.to_be_bytes(), port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
FWM  00000001 rr
  -> 0A630001:0001      Masq    3      0          0
FWM  400003E8 wlc
  -> 0A640001:1F90      Masq    1      0          0
  -> 0A640000:1F90      Masq    2      0          0
TCP  0A600001:0050 rr
  -> 0A640009:1F90      Masq    1      0          0
";

    #[test]
    fn only_ours_are_seen() {
        let at = |octet| (0x4000_03e8, SocketAddr::from(([10, 100, 0, octet], 8080)));
        assert_eq!(parse(TEXT).unwrap(), Held::from([(at(0), 2), (at(1), 1)]));
        assert!(parse("FWM x rr").is_err());
    }
}
