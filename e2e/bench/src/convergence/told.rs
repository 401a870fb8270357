//! What the programs tell of themselves: how long they take to program their kernel, whoever sees it.

use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use e2e::cluster::{Agent, Space, until, wait};

use crate::record::Records;
use crate::row::Row;
use crate::spread::Spread;
use crate::stage::rival;
use crate::stage::wire::Kernel;

/// All servers at once, by one who has just started.
pub(super) const FILL: &str = "programming from nothing, as told";
/// One change.
pub(super) const CHANGE: &str = "programming one change, as told";

const OURS: &str = "portable_lb_agent_programming_latency_seconds";
const THEIRS: &str = "kubeproxy_sync_proxy_rules_duration_seconds";
/// All servers are of this family; kube-proxy tells of each by itself.
const FAMILY: &str = "{ip_family=\"IPv4\"}";
/// Between two looks at a kube-proxy that starts, so that they cost it little.
const LOOK: Duration = Duration::from_millis(300);

/// How often something was done, and what it took together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Told {
    seconds: f64,
    times: f64,
}

impl Told {
    fn parse(metrics: &str, name: &str, labels: &str) -> Option<Self> {
        let value = |suffix: &str| {
            let name = format!("{name}_{suffix}{labels} ");
            metrics
                .lines()
                .find_map(|line| line.strip_prefix(&name)?.trim().parse().ok())
        };
        Some(Self {
            seconds: value("sum")?,
            times: value("count")?,
        })
    }

    /// Of our agent: from hearing of changes to the kernel.
    pub(super) fn ours(agent: &Agent) -> Result<Self> {
        Self::parse(&agent.metrics()?, OURS, "").context("the agent does not tell how long it takes")
    }

    /// Of the kube-proxy of that mode: each sync.
    pub(super) fn theirs(space: &Space<'_>, kernel: Kernel) -> Result<Self> {
        let text = rival::metrics(space, kernel)?;
        Self::parse(&text, THEIRS, FAMILY).context("kube-proxy has not synced yet")
    }

    /// The same, of a kube-proxy that has just started, as soon as it tells.
    pub(crate) fn first(space: &Space<'_>, kernel: Kernel) -> Result<Self> {
        until("kube-proxy has synced", wait::CONTAINER, || {
            thread::sleep(LOOK);
            Self::theirs(space, kernel)
        })
    }

    /// What one took on average since an earlier look, in milliseconds.
    pub(super) fn mean_since(self, before: Self) -> Option<f64> {
        let times = self.times - before.times;
        (times > 0.0).then(|| (self.seconds - before.seconds) / times * 1000.0)
    }
}

/// A figure, and how it is called.
const WORDS: [(&str, &str); 2] = [(FILL, "all from nothing"), (CHANGE, "one change")];

/// Ours beside kube-proxy in ipvs mode, which programs the same part of the kernel.
pub(super) fn rows(records: &Records) -> Vec<Row> {
    let mut rows = Vec::new();
    for (figure, word) in WORDS {
        for setting in records.settings(figure) {
            let what = format!("programming as each tells, {setting}, {word}");
            let values = records.of(figure, setting);
            rows.extend(Row::compare(&what, &values, Kernel::Ipvs.rival(), None));
        }
    }
    rows
}

/// A table of all.
pub(super) fn text(records: &Records) -> String {
    let mut lines = String::new();
    for (figure, word) in WORDS {
        for setting in records.settings(figure) {
            let values = records.of(figure, setting);
            for contender in values.contenders() {
                if let Some(spread) = Spread::of(&values.by(contender).values()) {
                    let _ = writeln!(lines, "| {setting}, {word} | {contender} | {spread} |");
                }
            }
        }
    }
    if lines.is_empty() {
        return lines;
    }
    format!("\n{HOW}\n\n| servers | who | ms, median [middle half] |\n|---|---|---|\n{lines}")
}

const HOW: &str = "How long each says that it programs. kube-proxy tells the duration of its syncs \
(`kubeproxy_sync_proxy_rules_duration_seconds`, of IPv4): the first after its start, with all servers there already, and \
the mean of those that follow while one server after the other is replaced, each of which may bring several changes. A sync in ipvs mode sets ipsets and iptables' rules \
too, and goes through all Services each time. The agent tells the time from hearing of a change to the kernel \
(`portable_lb_agent_programming_latency_seconds`); with the first table it sets iptables' rules too. Each value is that of one block.";

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;
    use crate::record;

    #[test]
    fn what_came_between_two_looks_counts() {
        let of = |sum, count| {
            let text = format!(
                "{THEIRS}_sum{{ip_family=\"IPv6\"}} 9\n{THEIRS}_sum{FAMILY} {sum}\n{THEIRS}_count{FAMILY} {count}\n"
            );
            Told::parse(&text, THEIRS, FAMILY).unwrap()
        };
        assert_eq!(of(1.5, 20).mean_since(of(1.0, 10)), Some(50.0));
        assert_eq!(of(2.0, 1).mean_since(Told::default()), Some(2000.0));
        assert_eq!(of(1.0, 10).mean_since(of(1.0, 10)), None);
        assert_eq!(Told::parse("", OURS, ""), None);
    }

    #[test]
    fn ours_stands_beside_ipvs() {
        let ipvs = Kernel::Ipvs.rival();
        let records = Records(vec![
            record(CHANGE, record::OURS, 0, 5.0),
            record(CHANGE, ipvs, 0, 50.0),
        ]);
        let rows = rows(&records);
        assert_eq!(rows.len(), 1);
        assert!((rows[0].ratio.median - 0.1).abs() < 1e-9);
        assert!(text(&records).contains("| 10 endpoints, one change | ours | 5.00 [5.00 to 5.00] |"));
        assert_eq!(text(&Records::default()), "");
    }
}
