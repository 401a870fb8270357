//! The difference of two tables, in the words of `ipvsadm --save` and `iptables-save`. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::iptables::Printed;
use crate::kernel;
use crate::plan::Step;
use crate::table::{Family, Table};

/// What goes from `current` and the rules that stand with a `-`, then what comes to `wanted` with a `+`.
#[must_use]
pub fn diff(current: &Table, standing: &BTreeMap<Family, Printed>, wanted: &Table) -> Vec<String> {
    let (mut before, mut after) = (commands(current), commands(wanted));
    before.extend(standing.iter().flat_map(|(family, rules)| lines(*family, rules)));
    for (family, rules) in &wanted.rules {
        after.extend(lines(*family, &Printed::of(*family, rules)));
    }
    let without = |lines: &[String], others: &[String], sign: char| -> Vec<String> {
        let others: BTreeSet<&String> = others.iter().collect();
        let own = lines.iter().filter(|line| !others.contains(line));
        own.map(|line| format!("{sign} {line}")).collect()
    };
    let mut changed = without(&before, &after, '-');
    changed.extend(without(&after, &before, '+'));
    changed
}

/// What makes the services of a table, and their servers.
fn commands(table: &Table) -> Vec<String> {
    let mut steps: Vec<Step> = table.timeouts.map(Step::SetTimeouts).into_iter().collect();
    for (listener, service) in table.services.iter() {
        steps.push(Step::AddService(*listener, service.scheduling.clone()));
        let servers = service.servers.iter();
        steps.extend(servers.map(|(at, server)| Step::AddServer(*listener, *at, *server)));
    }
    steps.extend(table.paths.iter().map(|(mark, path)| Step::AddPath(*mark, *path)));
    let commands = steps.iter().filter_map(|step| kernel::commands(step).ok());
    commands
        .flatten()
        .map(|command| format!("ipvsadm {}", command.ipvsadm()))
        .collect()
}

/// What makes rules.
fn lines(family: Family, rules: &Printed) -> Vec<String> {
    let program = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    let line = |(table, line)| format!("{program} -t {table} {line}");
    rules.rules().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Rules, fixture};

    fn table(servers: &[(u8, u32)]) -> Table {
        fixture::table(fixture::http(), servers)
    }

    /// What stands where these rules were put in.
    fn standing(table: &Table) -> BTreeMap<Family, Printed> {
        let printed = |(family, rules): (&Family, &Rules)| (*family, Printed::of(*family, rules));
        table.rules.iter().map(printed).collect()
    }

    fn told(current: &Table, wanted: &Table) -> Vec<String> {
        diff(current, &standing(current), wanted)
    }

    #[test]
    fn what_differs_is_told_in_known_words() {
        assert_eq!(
            told(&table(&[(1, 1), (2, 1)]), &table(&[(1, 3), (3, 1)])),
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
        let lines = told(&Table::default(), &table(&[(1, 1)]));
        for line in [
            "+ ipvsadm -A -f 1073741904 -s rr",
            "+ iptables -t filter -A INPUT -j PLB-INPUT",
            "+ iptables -t filter -A PLB-MARK -p tcp -m tcp --dport 80 -m conntrack --ctdir ORIGINAL -j MARK --set-xmark 0x40000050/0xffffffff",
        ] {
            assert!(lines.contains(&line.to_owned()), "{line} in {lines:?}");
        }
        assert_eq!(told(&table(&[(1, 1)]), &table(&[(1, 1)])), Vec::<String>::new());
    }

    #[test]
    fn a_changed_rule_is_told_as_it_was_and_as_it_will_be() {
        let save = "*filter\n:INPUT ACCEPT [5:300]\n:PLB-INPUT - [0:0]\n-A INPUT -s 10.0.0.7/32 -j ACCEPT\n\
                    -A INPUT -j PLB-INPUT\n-A PLB-INPUT -s 10.0.0.8/32 -j ACCEPT\nCOMMIT\n";
        let wanted = table(&[]);
        let lines = diff(&wanted, &[(Family::V4, Printed::parse(save))].into(), &wanted);
        let (gone, come): (Vec<&String>, Vec<&String>) = lines.iter().partition(|line| line.starts_with('-'));
        assert_eq!(
            gone,
            ["- iptables -t filter -A PLB-INPUT -s 10.0.0.8/32 -j ACCEPT"]
        );
        let rule = "+ iptables -t filter -A PLB-INPUT ! -i lo -m conntrack --ctstate INVALID -j DROP";
        assert_eq!(come.first().map(|line| line.as_str()), Some(rule));
    }
}
