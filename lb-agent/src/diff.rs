//! The difference of two tables, in the words of `ipvsadm --save` and `iptables-save`. Pure.

use std::collections::BTreeSet;

use crate::iptables::{Printed, render};
use crate::kernel;
use crate::plan::Step;
use crate::table::{Family, Table};

/// What goes from `current` with a `-`, then what comes to `wanted` with a `+`.
#[must_use]
pub fn diff(current: &Table, wanted: &Table) -> Vec<String> {
    let (before, after) = (lines(current), lines(wanted));
    let without = |lines: &[String], others: &[String], sign: char| -> Vec<String> {
        let others: BTreeSet<&String> = others.iter().collect();
        let own = lines.iter().filter(|line| !others.contains(line));
        own.map(|line| format!("{sign} {line}")).collect()
    };
    let mut changed = without(&before, &after, '-');
    changed.extend(without(&after, &before, '+'));
    changed
}

fn lines(table: &Table) -> Vec<String> {
    let mut steps: Vec<Step> = table.timeouts.map(Step::SetTimeouts).into_iter().collect();
    for (listener, service) in &table.services {
        steps.push(Step::AddService(*listener, service.scheduling.clone()));
        let servers = service.servers.iter();
        steps.extend(servers.map(|(at, server)| Step::AddServer(*listener, *at, *server)));
    }
    steps.extend(table.paths.iter().map(|(mark, path)| Step::AddPath(*mark, *path)));
    let commands = steps.iter().filter_map(|step| kernel::commands(step).ok());
    let mut lines: Vec<String> = commands
        .flatten()
        .map(|command| format!("ipvsadm {}", command.ipvsadm()))
        .collect();
    for (family, rules) in &table.rules {
        let text = render(*family, rules, &Printed::default());
        lines.extend(rule_lines(*family, &text));
    }
    lines
}

/// The rules of a text for `iptables-restore`, each with its table.
fn rule_lines(family: Family, text: &str) -> Vec<String> {
    let program = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    let mut table = "";
    let mut lines = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if line.starts_with("-A ") {
            lines.push(format!("{program} -t {table} {line}"));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Listener, Rules, Scheduling, Server, Service, Weight};
    use crd::Protocol;
    use std::net::SocketAddr;

    fn table(servers: &[(u8, u32)]) -> Table {
        let http = Listener::marked(Family::V4, Protocol::TCP, 80);
        let at = |(last, weight): &(u8, u32)| {
            (
                SocketAddr::from(([10, 0, 0, *last], 8080)),
                Server::nat(Weight(*weight)),
            )
        };
        let service = Service {
            scheduling: Scheduling::plain("rr"),
            servers: servers.iter().map(at).collect(),
        };
        Table {
            services: [(http, service)].into(),
            rules: [(Family::V4, Rules::marking([http]))].into(),
            ..Table::default()
        }
    }

    #[test]
    fn what_differs_is_told_in_known_words() {
        assert_eq!(
            diff(&table(&[(1, 1), (2, 1)]), &table(&[(1, 3), (3, 1)])),
            [
                "- ipvsadm -a -f 1073741904 -r 10.0.0.1:8080 -m -w 1",
                "- ipvsadm -a -f 1073741904 -r 10.0.0.2:8080 -m -w 1",
                "+ ipvsadm -a -f 1073741904 -r 10.0.0.1:8080 -m -w 3",
                "+ ipvsadm -a -f 1073741904 -r 10.0.0.3:8080 -m -w 1",
            ]
        );
    }

    #[test]
    fn a_new_table_is_told_with_its_rules() {
        let lines = diff(&Table::default(), &table(&[(1, 1)]));
        for line in [
            "+ ipvsadm -A -f 1073741904 -s rr",
            "+ iptables -t filter -A INPUT -j PLB-INPUT",
            "+ iptables -t mangle -A PLB-MARK -p tcp -m tcp --dport 80 -m conntrack --ctdir ORIGINAL -j MARK --set-xmark 0x40000050/0xffffffff",
        ] {
            assert!(lines.contains(&line.to_owned()), "{line} in {lines:?}");
        }
        assert_eq!(diff(&table(&[(1, 1)]), &table(&[(1, 1)])), Vec::<String>::new());
    }
}
