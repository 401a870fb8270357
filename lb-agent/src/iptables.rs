//! Our iptables rules as text: rendered, and read back out of `iptables-save`. Pure.
//!
//! All rules are in chains of our own, reached by one jump each; nothing else is ever touched.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::table::{Family, Listener, MARK_BIT};

pub mod command;

/// One of our chains, and where it is jumped to from.
struct Chain {
    table: &'static str,
    hook: &'static str,
    name: &'static str,
}

/// In the order in which they are put in: marks come last, when all that they need is there.
const CHAINS: [Chain; 3] = [
    Chain {
        table: "filter",
        hook: "INPUT",
        name: "PLB-INPUT",
    },
    Chain {
        table: "nat",
        hook: "POSTROUTING",
        name: "PLB-MASQ",
    },
    Chain {
        table: "mangle",
        hook: "PREROUTING",
        name: "PLB-MARK",
    },
];

impl Chain {
    fn jump(&self) -> String {
        format!("-A {} -j {}", self.hook, self.name)
    }

    fn rules(&self, marked: &BTreeSet<Listener>) -> Vec<String> {
        match self.name {
            // An INVALID reply is not un-NATed; the pod's own stack would reset its server's connection.
            "PLB-INPUT" => vec!["-A PLB-INPUT -m conntrack --ctstate INVALID -j DROP".to_owned()],
            // Without --random-fully concurrent connections choose the same port, and one of them loses a second.
            "PLB-MASQ" => vec![format!(
                "-A PLB-MASQ -m mark --mark {MARK_BIT:#x}/{MARK_BIT:#x} -j MASQUERADE --random-fully"
            )],
            _ => marked.iter().copied().map(mark_rule).collect(),
        }
    }
}

/// Only packets of the client's direction: replies to the agent's own connections would be balanced too.
fn mark_rule(listener: Listener) -> String {
    let protocol = listener.protocol.as_str().to_ascii_lowercase();
    let (port, mark) = (listener.port, listener.mark());
    format!(
        "-A PLB-MARK -p {protocol} -m {protocol} --dport {port} -m conntrack --ctdir ORIGINAL \
         -j MARK --set-xmark {mark}/0xffffffff"
    )
}

/// Our lines of one family's `iptables-save`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Printed(Vec<String>);

impl Printed {
    /// Picks our lines out of a save's output: chains, their rules, and jumps to them.
    #[must_use]
    pub fn parse(save: &str) -> Self {
        let mut table = "";
        let mut lines = Vec::new();
        for line in save.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('*') {
                table = name;
            } else if CHAINS
                .iter()
                .any(|chain| chain.table == table && is_of(chain, line))
            {
                lines.push(format!("{table} {}", without_counters(line)));
            }
        }
        // Tables are printed in no particular order; rules of one chain keep theirs.
        lines.sort_by(|a, b| a.split(' ').next().cmp(&b.split(' ').next()));
        Self(lines)
    }

    /// Whether nothing of ours is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The listeners that the rules mark, if the rules are just what we would have put in for them.
    #[must_use]
    pub fn marked(&self, family: Family) -> Option<BTreeSet<Listener>> {
        let marked: BTreeSet<Listener> = self
            .0
            .iter()
            .filter_map(|line| listener_of(line))
            .filter(|it| it.family == family)
            .collect();
        (*self == Self::parse(&render(&marked, &Self::default()))).then_some(marked)
    }

    /// The jumps to a chain.
    fn jumps<'a>(&'a self, chain: &Chain) -> impl Iterator<Item = &'a str> + use<'a> {
        let start = format!("{} -A {} ", chain.table, chain.hook);
        let ours = self.0.iter().filter(move |line| line.starts_with(&start));
        ours.filter_map(|line| line.split_once(' ').map(|(_, rule)| rule))
    }
}

fn is_of(chain: &Chain, line: &str) -> bool {
    let mut words = line.split_whitespace();
    match words.next() {
        Some("-A") => {
            let at = words.next();
            at == Some(chain.name) || at == Some(chain.hook) && line.ends_with(&format!("-j {}", chain.name))
        }
        Some(first) => first.strip_prefix(':') == Some(chain.name),
        None => false,
    }
}

/// `:PLB-MARK - [0:0]` → `:PLB-MARK -`
fn without_counters(line: &str) -> &str {
    if line.starts_with(':') {
        line.split(" [").next().unwrap_or(line)
    } else {
        line
    }
}

fn listener_of(line: &str) -> Option<Listener> {
    let rest = line.strip_prefix("mangle -A PLB-MARK ")?;
    let mark = rest
        .split_whitespace()
        .skip_while(|word| *word != "--set-xmark")
        .nth(1)?;
    let number = mark.split('/').next()?.strip_prefix("0x")?;
    Listener::from_mark(u32::from_str_radix(number, 16).ok()?)
}

/// Input of `iptables-restore --noflush` that makes our rules of one family mark just these listeners.
///
/// Naming a chain empties it, so the text says all of it, and each table changes at once. Jumps are made to be there
/// exactly once.
#[must_use]
pub fn render(marked: &BTreeSet<Listener>, printed: &Printed) -> String {
    let mut text = String::new();
    for chain in &CHAINS {
        let _ = writeln!(text, "*{}\n:{} - [0:0]", chain.table, chain.name);
        let jump = chain.jump();
        if !printed.jumps(chain).eq([jump.as_str()]) {
            remove_jumps(&mut text, chain, printed);
            let _ = writeln!(text, "{jump}");
        }
        for rule in chain.rules(marked) {
            let _ = writeln!(text, "{rule}");
        }
        text.push_str("COMMIT\n");
    }
    text
}

/// Input of `iptables-restore --noflush` that removes all that is ours.
#[must_use]
pub fn render_removal(printed: &Printed) -> String {
    let mut text = String::new();
    // Marks go first: no new connection finds half of the way.
    for chain in CHAINS.iter().rev() {
        let prefix = format!("{} ", chain.table);
        if !printed.0.iter().any(|line| line.starts_with(&prefix)) {
            continue;
        }
        let _ = writeln!(text, "*{}\n:{} - [0:0]", chain.table, chain.name);
        remove_jumps(&mut text, chain, printed);
        let _ = writeln!(text, "-X {}\nCOMMIT", chain.name);
    }
    text
}

/// Removes every jump to a chain, as it was printed: somebody may have given it matches.
fn remove_jumps(text: &mut String, chain: &Chain, printed: &Printed) {
    for rule in printed.jumps(chain).filter_map(|line| line.strip_prefix("-A ")) {
        let _ = writeln!(text, "-D {rule}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::listeners;
    use crd::Protocol;
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    fn http() -> Listener {
        Listener {
            family: Family::V4,
            protocol: Protocol::TCP,
            port: 80,
        }
    }

    const EXPECTED: &str = "\
*filter
:PLB-INPUT - [0:0]
-A INPUT -j PLB-INPUT
-A PLB-INPUT -m conntrack --ctstate INVALID -j DROP
COMMIT
*nat
:PLB-MASQ - [0:0]
-A POSTROUTING -j PLB-MASQ
-A PLB-MASQ -m mark --mark 0x40000000/0x40000000 -j MASQUERADE --random-fully
COMMIT
*mangle
:PLB-MARK - [0:0]
-A PREROUTING -j PLB-MARK
-A PLB-MARK -p tcp -m tcp --dport 80 -m conntrack --ctdir ORIGINAL -j MARK --set-xmark 0x40000050/0xffffffff
-A PLB-MARK -p udp -m udp --dport 53 -m conntrack --ctdir ORIGINAL -j MARK --set-xmark 0x40020035/0xffffffff
COMMIT
";

    /// As printed by iptables-save 1.8.9: comments, built-in chains, foreign rules, other orders of tables.
    const SAVED: &str = "\
# Generated by iptables-save v1.8.9 on Mon Jan  1 00:00:00 2024
*mangle
:PREROUTING ACCEPT [12:720]
:INPUT ACCEPT [0:0]
:PLB-MARK - [0:0]
-A PREROUTING -j PLB-MARK
-A PLB-MARK -p tcp -m tcp --dport 80 -m conntrack --ctdir ORIGINAL -j MARK --set-xmark 0x40000050/0xffffffff
COMMIT
*nat
:POSTROUTING ACCEPT [3:180]
:OTHER - [0:0]
:PLB-MASQ - [7:7]
-A POSTROUTING -j OTHER
-A POSTROUTING -j PLB-MASQ
-A PLB-MASQ -m mark --mark 0x40000000/0x40000000 -j MASQUERADE --random-fully
COMMIT
*filter
:INPUT ACCEPT [9:9]
:PLB-INPUT - [0:0]
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A INPUT -j PLB-INPUT
-A PLB-INPUT -m conntrack --ctstate INVALID -j DROP
COMMIT
";

    #[test]
    fn rules_are_rendered_in_the_form_that_is_saved() {
        let dns = Listener {
            protocol: Protocol::UDP,
            port: 53,
            ..http()
        };
        assert_eq!(
            render(&BTreeSet::from([http(), dns]), &Printed::default()),
            EXPECTED
        );
    }

    #[test]
    fn what_is_saved_is_recognised() {
        assert_eq!(
            Printed::parse(SAVED).marked(Family::V4),
            Some(BTreeSet::from([http()]))
        );
        assert_eq!(Printed::parse("").marked(Family::V4), None);
    }

    #[test]
    fn a_jump_that_is_there_once_is_left_alone() {
        assert!(!render(&BTreeSet::new(), &Printed::parse(SAVED)).contains("-j PLB-"));
    }

    #[test]
    fn doubled_jumps_become_one() {
        let doubled = SAVED.replace(
            "-A INPUT -j PLB-INPUT",
            "-A INPUT -j PLB-INPUT\n-A INPUT -j PLB-INPUT",
        );
        let printed = Printed::parse(&doubled);
        assert_eq!(printed.marked(Family::V4), None);
        let text = render(&BTreeSet::new(), &printed);
        assert_eq!(text.matches("-D INPUT -j PLB-INPUT").count(), 2);
        assert_eq!(text.matches("-A INPUT -j PLB-INPUT").count(), 1);
    }

    #[test]
    fn a_jump_with_matches_is_replaced() {
        let narrowed = SAVED.replace(
            "-A INPUT -j PLB-INPUT",
            "-A INPUT -j PLB-INPUT\n-A INPUT -i lo -j PLB-INPUT",
        );
        let text = render(&BTreeSet::new(), &Printed::parse(&narrowed));
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| line.ends_with("-j PLB-INPUT"))
            .collect();
        assert_eq!(
            lines,
            [
                "-D INPUT -j PLB-INPUT",
                "-D INPUT -i lo -j PLB-INPUT",
                "-A INPUT -j PLB-INPUT"
            ]
        );
    }

    #[test]
    fn every_lost_or_added_line_of_ours_is_drift() {
        let ours: Vec<&str> = SAVED.lines().filter(|line| line.contains("PLB-")).collect();
        for line in ours {
            let damaged = SAVED.replace(&format!("{line}\n"), "");
            let marked = Printed::parse(&damaged).marked(Family::V4);
            assert_ne!(marked, Some(BTreeSet::from([http()])), "without {line}");
        }
        let added = SAVED.replace("-A PLB-INPUT", "-A PLB-INPUT -j ACCEPT\n-A PLB-INPUT");
        assert_eq!(Printed::parse(&added).marked(Family::V4), None);
    }

    #[test]
    fn foreign_rules_are_no_drift() {
        let more = SAVED.replace(
            "-A INPUT -j PLB-INPUT",
            "-A INPUT -j PLB-INPUT\n-A INPUT -s 1.2.3.4/32 -j DROP",
        );
        assert_eq!(Printed::parse(&more), Printed::parse(SAVED));
    }

    #[test]
    fn a_removal_names_nothing_foreign() {
        let text = render_removal(&Printed::parse(SAVED));
        assert!(!text.contains("OTHER") && !text.contains("22"));
        assert_eq!(text.matches("-X PLB-").count(), 3);
        assert_eq!(render_removal(&Printed::default()), "");
    }

    proptest! {
        #[test]
        fn what_is_rendered_is_recognised(all in btree_set(listeners(), 0..8)) {
            for family in [Family::V4, Family::V6] {
                let marked: BTreeSet<_> = all.iter().copied().filter(|it| it.family == family).collect();
                let printed = Printed::parse(&render(&marked, &Printed::default()));
                prop_assert_eq!(printed.marked(family), Some(marked));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "(\\*mangle\n|-A PLB-MARK|--set-xmark|0x[0-9a-f]{0,9}|/|[ \n:]|.){0,40}") {
            let printed = Printed::parse(&text);
            let _ = printed.marked(Family::V4);
            let _ = (render(&BTreeSet::new(), &printed), render_removal(&printed));
        }
    }
}
