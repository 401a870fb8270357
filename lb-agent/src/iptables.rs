//! Our iptables rules as text: rendered, and recognised in the output of `iptables-save`. Pure.
//!
//! All rules are in chains of our own, reached by one jump a hook; nothing else is ever touched.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::table::{Family, MARK_BIT, MarkRule, Rules};

pub mod command;

/// A table, our chains in it, and where the first of them is jumped to from.
struct Place {
    table: &'static str,
    hook: &'static str,
    chains: &'static [&'static str],
}

/// In the order in which they are put in: marks come last, when all that they need is there. They are set in INPUT, just
/// before IPVS looks: what is only routed is left alone, and the table filter has fewer hooks than mangle, of which every
/// packet passes each.
const PLACES: [Place; 2] = [
    Place {
        table: "nat",
        hook: "POSTROUTING",
        chains: &["PLB-MASQ"],
    },
    Place {
        table: "filter",
        hook: "INPUT",
        chains: &["PLB-INPUT", "PLB-MARK", "PLB-LIMITS", "PLB-SOURCES"],
    },
];

impl Place {
    fn jump(&self) -> String {
        format!("-A {} -j {}", self.hook, self.chains[0])
    }

    fn rules(&self, family: Family, rules: &Rules) -> Vec<String> {
        match self.hook {
            "INPUT" => input(family, rules),
            "POSTROUTING" if rules.masquerades => masquerade(rules),
            _ => Vec::new(),
        }
    }

    /// Whether a line of this table is ours.
    fn holds(&self, line: &str) -> bool {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("-A") => words.next().is_some_and(|chain| {
                self.chains.contains(&chain)
                    || chain == self.hook && line.ends_with(&format!("-j {}", self.chains[0]))
            }),
            Some(first) => first
                .strip_prefix(':')
                .is_some_and(|chain| self.chains.contains(&chain)),
            None => false,
        }
    }
}

/// Packets of the balancer that may begin a connection.
fn new_connections() -> String {
    format!("-m mark --mark {MARK_BIT:#x}/{MARK_BIT:#x} -m conntrack --ctstate NEW")
}

/// Here the client's address is still to be seen: IPVS comes later.
fn input(family: Family, rules: &Rules) -> Vec<String> {
    let mut lines = invalid(rules);
    if !rules.marks.is_empty() {
        lines.push("-A PLB-INPUT -j PLB-MARK".to_owned());
    }
    lines.extend(rules.marks.iter().map(mark));
    if rules.sources.is_some() {
        lines.push(format!("-A PLB-INPUT {} -j PLB-SOURCES", new_connections()));
    }
    if rules.rate.is_some() || rules.source_rate.is_some() {
        lines.push(format!("-A PLB-INPUT {} -j PLB-LIMITS", new_connections()));
    }
    lines.extend(limits(family, rules));
    if let Some(sources) = &rules.sources {
        let allow = |source: &ipnetwork::IpNetwork| match source.prefix() {
            0 => "-A PLB-SOURCES -j RETURN".to_owned(),
            _ => format!("-A PLB-SOURCES -s {source} -j RETURN"),
        };
        lines.extend(sources.iter().map(allow));
        lines.push("-A PLB-SOURCES -j DROP".to_owned());
    }
    lines
}

/// An INVALID reply is not un-NATed; the pod's own stack would reset its server's connection. Without NAT answers go
/// another way, and so all that a client sends after its SYN is INVALID here. The pod's own connections are spared: the end
/// of one that began before these rules did, and with them the tracking of connections, is INVALID too.
fn invalid(rules: &Rules) -> Vec<String> {
    if !rules.masquerades {
        return Vec::new();
    }
    let rule = |of: String, target| format!("-A PLB-INPUT {of} -m conntrack --ctstate INVALID -j {target}");
    let virtual_addresses = rules.virtual_addresses.iter();
    let mut lines: Vec<String> = virtual_addresses
        .map(|address| rule(format!("-d {}", host(*address)), "RETURN"))
        .collect();
    lines.push(rule("! -i lo".to_owned(), "DROP"));
    lines
}

fn limits(family: Family, rules: &Rules) -> Vec<String> {
    let limit = |rate: u32, more: &str| {
        format!(
            "-A PLB-LIMITS -m hashlimit --hashlimit-above {rate}/sec --hashlimit-burst {rate} {more} -j DROP"
        )
    };
    let mask = match family {
        Family::V4 => "",
        Family::V6 => " --hashlimit-srcmask 64",
    };
    let by_source = format!("--hashlimit-mode srcip --hashlimit-name plb-source{mask}");
    // First what is of one source, so that it doesn't use up what is for all.
    let of_source = rules.source_rate.map(|rate| limit(rate, &by_source));
    let of_all = rules.rate.map(|rate| limit(rate, "--hashlimit-name plb-all"));
    of_source.into_iter().chain(of_all).collect()
}

/// Without --random-fully concurrent connections choose the same port, and one of them loses a second. What DR sends
/// still goes to the balancer's own address, and its source has to stay too.
fn masquerade(rules: &Rules) -> Vec<String> {
    let spared = rules.virtual_addresses.iter();
    let mut lines: Vec<String> = spared
        .map(|address| format!("-A PLB-MASQ -d {} -j RETURN", host(*address)))
        .collect();
    lines.push(format!(
        "-A PLB-MASQ -m mark --mark {MARK_BIT:#x}/{MARK_BIT:#x} -j MASQUERADE --random-fully"
    ));
    lines
}

/// An address as iptables prints it.
fn host(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

/// Only packets of the client's direction: replies to the agent's own connections would be balanced too.
fn mark(rule: &MarkRule) -> String {
    let protocol = rule.protocol.as_str().to_ascii_lowercase();
    let mut line = "-A PLB-MARK".to_owned();
    if let Some(destination) = rule.destination {
        let _ = write!(line, " -d {}", host(destination));
    }
    let _ = write!(line, " -p {protocol} -m {protocol} --dport {}", rule.first);
    if rule.last != rule.first {
        let _ = write!(line, ":{}", rule.last);
    }
    let _ = write!(
        line,
        " -m conntrack --ctdir ORIGINAL -j MARK --set-xmark {}/0xffffffff",
        rule.mark
    );
    line
}

/// Our lines of one family's `iptables-save`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Printed(Vec<String>);

impl Printed {
    /// What is printed where these rules, and nothing else, were put in.
    #[must_use]
    pub fn of(family: Family, rules: &Rules) -> Self {
        let mut lines = Vec::new();
        for place in &PLACES {
            let table = place.table;
            lines.extend(place.chains.iter().map(|chain| format!("{table} :{chain} -")));
            lines.push(format!("{table} {}", place.jump()));
            let rules = place.rules(family, rules);
            lines.extend(rules.into_iter().map(|rule| format!("{table} {rule}")));
        }
        Self::sorted(lines)
    }

    /// Picks our lines out of a save's output: chains, their rules, and jumps to them.
    #[must_use]
    pub fn parse(save: &str) -> Self {
        let mut table = "";
        let mut lines = Vec::new();
        for line in save.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('*') {
                table = name;
            } else if PLACES
                .iter()
                .any(|place| place.table == table && place.holds(line))
            {
                lines.push(format!("{table} {}", without_counters(line)));
            }
        }
        Self::sorted(lines)
    }

    /// Tables and chains are printed in no particular order; rules of one chain keep theirs.
    fn sorted(mut lines: Vec<String>) -> Self {
        lines.sort_by(|a, b| chain_of(a).cmp(&chain_of(b)));
        Self(lines)
    }

    /// Whether nothing of ours is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rules, each with its table.
    pub fn rules(&self) -> impl Iterator<Item = (&str, &str)> {
        let lines = self.0.iter().filter_map(|line| line.split_once(' '));
        lines.filter(|(_, line)| line.starts_with("-A "))
    }

    /// Whether these are just the rules that we would have put in.
    #[must_use]
    pub fn is(&self, family: Family, rules: &Rules) -> bool {
        *self == Self::of(family, rules)
    }

    /// The jumps to our first chain.
    fn jumps<'a>(&'a self, place: &Place) -> impl Iterator<Item = &'a str> + use<'a> {
        let start = format!("{} -A {} ", place.table, place.hook);
        let ours = self.0.iter().filter(move |line| line.starts_with(&start));
        ours.filter_map(|line| line.split_once(' ').map(|(_, rule)| rule))
    }
}

/// The table, whether it is a rule, and the chain of a line.
fn chain_of(line: &str) -> (Option<&str>, bool, Option<&str>) {
    let mut words = line.split(' ');
    let table = words.next();
    match words.next() {
        Some("-A") => (table, true, words.next()),
        chain => (table, false, chain),
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

/// Input of `iptables-restore --noflush` that makes our rules of one family these.
///
/// Naming a chain empties it, so the text says all of it, and each table changes at once. Jumps are made to be there
/// exactly once, before what others have there by then: an ACCEPT of theirs would end the way to ours.
#[must_use]
pub fn render(family: Family, rules: &Rules, printed: &Printed) -> String {
    let mut text = String::new();
    for place in &PLACES {
        open(&mut text, place);
        let jump = place.jump();
        if !printed.jumps(place).eq([jump.as_str()]) {
            remove_jumps(&mut text, place, printed);
            let _ = writeln!(text, "-I {} -j {}", place.hook, place.chains[0]);
        }
        for rule in place.rules(family, rules) {
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
    for place in PLACES.iter().rev() {
        let prefix = format!("{} ", place.table);
        if !printed.0.iter().any(|line| line.starts_with(&prefix)) {
            continue;
        }
        open(&mut text, place);
        remove_jumps(&mut text, place, printed);
        for chain in place.chains {
            let _ = writeln!(text, "-X {chain}");
        }
        text.push_str("COMMIT\n");
    }
    text
}

/// Begins a table, with our chains empty.
fn open(text: &mut String, place: &Place) {
    let _ = writeln!(text, "*{}", place.table);
    for chain in place.chains {
        let _ = writeln!(text, ":{chain} - [0:0]");
    }
}

/// Removes every jump to our first chain, as it was printed: somebody may have given it matches.
fn remove_jumps(text: &mut String, place: &Place, printed: &Printed) {
    for rule in printed.jumps(place).filter_map(|line| line.strip_prefix("-A ")) {
        let _ = writeln!(text, "-D {rule}");
    }
}

#[cfg(test)]
mod tests;
