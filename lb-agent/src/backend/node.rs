//! What a server's node needs. Answers leave it from the balancer's address, and their connections began elsewhere: its
//! reverse path filter takes them for forged, and kube-proxy's firewall for invalid.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context as _, anyhow};
use nix::sched::{CloneFlags, setns};
use tracing::info;

use crate::iptables::command::{Flavour, restore, save};
use crate::link::route::device;
use crate::table::Family;

const CHAIN: &str = "PLB-ANSWERS";

/// Lets answers from these addresses pass the node that a pod is on.
pub(super) async fn prepare(namespace: &Path, addresses: &[IpAddr], pod: &[IpAddr]) -> anyhow::Result<()> {
    let (namespace, addresses, pod) = (namespace.to_owned(), addresses.to_vec(), pod.to_vec());
    // A thread of its own: it never comes back from the node's namespace.
    let work = thread::spawn(move || inside(&namespace, &addresses, &pod));
    let done = tokio::task::spawn_blocking(move || work.join()).await?;
    done.map_err(|_| anyhow!("the work on the node broke off"))?
        .context("the node is not prepared")
}

fn inside(namespace: &PathBuf, addresses: &[IpAddr], pod: &[IpAddr]) -> anyhow::Result<()> {
    let file = File::open(namespace).with_context(|| format!("could not open {}", namespace.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET)
        .context("could not enter the node's network: this needs a privileged container")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for address in pod.iter().filter(|address| address.is_ipv4()) {
        if let Some(device) = runtime.block_on(device(*address))? {
            loosen(&device)?;
        }
    }
    for family in [Family::V4, Family::V6] {
        let of_family = addresses.iter().filter(|address| Family::of(**address) == family);
        let rules: Vec<String> = of_family.map(rule).collect();
        if !rules.is_empty() {
            accept(family, &rules)?;
        }
    }
    Ok(())
}

/// The node has no route to the balancer's address by the pod's device, so the strict filter drops what comes from it.
fn loosen(device: &str) -> anyhow::Result<()> {
    let conf = Path::new("/proc/sys/net/ipv4/conf");
    let value = |name: &str| -> Option<u32> {
        let text = fs::read_to_string(conf.join(name).join("rp_filter")).ok()?;
        text.trim().parse().ok()
    };
    if value("all").max(value(device)) == Some(1) {
        let path = conf.join(device).join("rp_filter");
        fs::write(&path, "2").with_context(|| format!("could not set {} to 2", path.display()))?;
        info!(device, "reverse path filter of the node is loose");
    }
    Ok(())
}

fn rule(address: &IpAddr) -> String {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    format!("-A {CHAIN} -s {address}/{bits} -j ACCEPT")
}

/// Accepts before anything else is asked, in the flavour that the node's rules are in. Those of other pods stay.
fn accept(family: Family, rules: &[String]) -> anyhow::Result<()> {
    let saved = |flavour| save(flavour, family).unwrap_or_default();
    let mut flavours = Flavour::ALL;
    // First the one that kube-proxy uses.
    flavours.sort_by_key(|flavour| !saved(*flavour).contains("KUBE-"));
    let mut refusal = None;
    for flavour in flavours {
        let Some(text) = missing(&saved(flavour), rules) else {
            return Ok(());
        };
        match restore(flavour, family, &text) {
            Ok(()) => {
                info!(%family, %flavour, ?rules, "the node lets answers pass");
                return Ok(());
            }
            Err(error) => refusal = Some(error),
        }
    }
    match refusal {
        Some(error) => Err(error).context("could not let answers pass the node's firewall"),
        None => Ok(()),
    }
}

/// Input of `iptables-restore --noflush` for what is not there yet.
fn missing(saved: &str, rules: &[String]) -> Option<String> {
    let has = |line: &str| saved.lines().any(|found| found.trim() == line);
    let jump = format!("-A FORWARD -j {CHAIN}");
    let mut text = String::from("*filter\n");
    // Naming a chain that is there would empty it.
    if !saved.lines().any(|line| line.starts_with(&format!(":{CHAIN} "))) {
        let _ = writeln!(text, ":{CHAIN} - [0:0]");
    }
    if !has(&jump) {
        let _ = writeln!(text, "-I FORWARD 1 -j {CHAIN}");
    }
    for rule in rules.iter().filter(|rule| !has(rule)) {
        let _ = writeln!(text, "{rule}");
    }
    let is_all_there = text == "*filter\n";
    text.push_str("COMMIT\n");
    (!is_all_there).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_added() {
        let rules = ["10.98.7.1", "10.98.7.2"].map(|it| rule(&it.parse().expect("an address")));
        let all = missing("*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n", &rules[..1]);
        let expected = "*filter\n:PLB-ANSWERS - [0:0]\n-I FORWARD 1 -j PLB-ANSWERS\n\
                        -A PLB-ANSWERS -s 10.98.7.1/32 -j ACCEPT\nCOMMIT\n";
        assert_eq!(all.as_deref(), Some(expected));
        let saved =
            ":PLB-ANSWERS - [0:0]\n-A FORWARD -j PLB-ANSWERS\n-A PLB-ANSWERS -s 10.98.7.1/32 -j ACCEPT\n";
        assert_eq!(missing(saved, &rules[..1]), None);
        let more = missing(saved, &rules);
        assert_eq!(
            more.as_deref(),
            Some("*filter\n-A PLB-ANSWERS -s 10.98.7.2/32 -j ACCEPT\nCOMMIT\n")
        );
    }
}
