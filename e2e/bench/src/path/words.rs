//! What the page says of a packet's time: computed from the values alone.

use super::part::Part;
use super::{ALL, CONTENDERS, COST, FUNCTION, PART};
use crate::record::{OURS, Record, Records};
use crate::site::contender::Contender;
use crate::spread::{Number, Spread};
use crate::suite::Section;

/// So many functions are told.
const TOLD: usize = 16;

pub(super) fn section(records: &Records) -> Section {
    let mut text = format!("{INTRODUCTION}\n{}", head("µs for a request"));
    for part in Part::ALL {
        text.push_str(&row(part.name(), |name| {
            spread(&records.of(PART, part.name()).by(name))
        }));
    }
    let all = records.of(COST, ALL);
    let own = all_but(&all, &records.of(PART, Part::Below.name()));
    text.push_str(&row("all", |name| spread(&all.by(name))));
    text.push_str(&row("all but the emulation", |name| spread(&own.by(name))));
    text.push_str(&verdict(records));
    text.push_str("The functions that take longest with ours, themselves and without what they call:\n\n");
    text.push_str(&head("µs for a request"));
    for function in longest(records) {
        let values = records.of(FUNCTION, &function);
        text.push_str(&row(&format!("`{function}`"), |name| {
            let value = values.by(name).values().first().copied();
            value.map(|value| Number(value).to_string())
        }));
    }
    Section {
        title: "Where a packet's time goes",
        text,
        ..Section::default()
    }
}

const INTRODUCTION: &str = "Why none of those that balance by the kernel alone is far ahead of another. Each has a machine of \
its own with one processor, as in *own kernel* above, with 8 web pods and as much load as 64 connections make; `perf` looks \
2000 times a second what the machine runs. A part is told by the module whose function runs; time is that of the machine's \
processor. A request and its answer are several packets, in both directions. *Emulation* \
is what the kernel below does for the machine: it reads and writes packets by system calls, and has signals for interrupts, \
which hardware does without.\n";

/// Names of those who were measured.
fn names() -> impl Iterator<Item = &'static str> {
    CONTENDERS.into_iter().map(Contender::name)
}

fn head(what: &str) -> String {
    let names: Vec<&str> = names().collect();
    format!(
        "| {what} | {} |\n|---|{}\n",
        names.join(" | "),
        "---|".repeat(names.len())
    )
}

/// A row, with what is known of each.
fn row(what: &str, of: impl Fn(&str) -> Option<String>) -> String {
    let cells: Vec<String> = names().map(|name| of(name).unwrap_or_default()).collect();
    format!("| {what} | {} |\n", cells.join(" | "))
}

fn spread(values: &Records) -> Option<String> {
    Spread::of(&values.values()).map(|spread| spread.to_string())
}

/// Why it is as it is, and what ours could gain at the most.
fn verdict(records: &Records) -> String {
    let all = records.of(COST, ALL);
    let ipvs = records.of(PART, Part::Ipvs.name());
    let below = records.of(PART, Part::Below.name());
    let own = all_but(&all, &below);
    let ratio = |one: &Records, of: Contender, other: &Records| {
        Spread::ratio_text(&one.by(of.name()), &other.by(OURS))
    };
    format!(
        "\nThe emulation takes {} of the time that ours takes, and IPVS itself {}. If IPVS took none at all, ours would \
         reach {} × the throughput of iptables DNAT. Of what is no emulation, DNAT takes {} × of what ours takes, the \
         hand-made table for the same mark {} ×. DNAT asks its rules for the first packet of a connection only, and \
         connection tracking does the rest; IPVS with NAT needs the same connection tracking for its masquerade, and \
         looks up each packet in its own table beside it. So it can be ahead of DNAT where connections are short and \
         rules many, not here, where connections stay open.\n\n",
        ratio(&below, Contender::Ours, &all),
        ratio(&ipvs, Contender::Ours, &all),
        ratio(&all, Contender::Dnat, &all_but(&all, &ipvs)),
        ratio(&own, Contender::Dnat, &own),
        ratio(&own, Contender::IpvsadmMark, &own),
    )
}

/// What is left of each value without its part.
fn all_but(all: &Records, part: &Records) -> Records {
    let mut left = all.clone();
    for record in &mut left.0 {
        let of_it = |other: &&Record| other.round == record.round && other.contender == record.contender;
        record.value -= part.0.iter().find(of_it).map_or(0.0, |part| part.value);
    }
    left
}

/// The functions that take longest with ours.
fn longest(records: &Records) -> Vec<String> {
    let ours = |record: &&Record| record.figure == FUNCTION && record.contender == OURS;
    let mut own: Vec<&Record> = records.0.iter().filter(ours).collect();
    own.sort_by(|one, other| other.value.total_cmp(&one.value));
    let names = own.iter().take(TOLD).map(|record| record.setting.clone());
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::value;

    fn of(figure: &str, setting: &str, (contender, time): (&str, f64)) -> Record {
        Record {
            figure: figure.to_owned(),
            setting: setting.to_owned(),
            ..value(contender, 0.0, 0, time)
        }
    }

    #[test]
    fn what_could_be_gained_is_told() {
        let dnat = Contender::Dnat.name();
        let records = Records(vec![
            of(COST, ALL, (OURS, 40.0)),
            of(COST, ALL, (dnat, 38.0)),
            of(PART, Part::Ipvs.name(), (OURS, 2.0)),
            of(FUNCTION, "ip_vs_in", (OURS, 1.0)),
            of(FUNCTION, "ip_rcv", (OURS, 3.0)),
        ]);
        let text = section(&records).text;
        assert!(text.contains("IPVS itself 0.0500 [0.0500 to 0.0500]."), "{text}");
        assert!(
            text.contains("reach 1.00 [1.00 to 1.00] × the throughput"),
            "{text}"
        );
        let (first, second) = (text.find("`ip_rcv`"), text.find("`ip_vs_in`"));
        assert!(first < second, "{text}");
    }
}
