//! What is told of throughput.

use std::fmt::Write as _;

use anyhow::Result;

use super::{COST, ERRORS, FIGURE, LIMIT, ONE, OWN, connections};
use crate::plot::{Axes, Line, lines};
use crate::record::{OURS, Records};
use crate::row::{Row, Target};
use crate::site::contender::Contender;
use crate::spread::{Number, Spread};
use crate::suite::Section;

pub(super) fn of(records: &Records) -> Result<Section> {
    let own = records.of(FIGURE, OWN);
    let one = records.of(FIGURE, ONE);
    let mut section = Section {
        title: "Throughput",
        text: HOW.to_owned(),
        pictures: vec![(
            "throughput".to_owned(),
            picture(&own, ("Requests/s over the number of web pods", "web pods"))?,
        )],
        ..Section::default()
    };
    if let Some(most) = own.xs().last().copied() {
        let what = format!("throughput, {most} pods, own kernel");
        section.rows.extend(rows(&what, &own.at(most), target));
        let cost = records.of(COST, OWN).at(most);
        let what = format!("processor time of the balancer, {most} pods");
        section.rows.extend(rows(&what, &cost, |_| None));
        section.text.push_str(&facts(records, most));
        section.text.push_str(&why(&own.at(most), &cost));
    }
    section.rows.extend(rows("throughput, one kernel", &one, target));
    section
        .text
        .push_str(&bound(&one, &records.of(COST, OWN)).unwrap_or_default());
    connections::tell(records, &mut section)?;
    section.text.push_str(&ways(&own, &one));
    Ok(section)
}

const HOW: &str = "![Requests/s over the number of web pods](throughput.svg)

The papers' main figure. wrk keeps 64 connections busy with small questions (a pod answers its own address), which is a \
severe case for a balancer. Each balancer is in a User Mode Linux machine of its own with one processor, the last of this \
machine, and the only one that is loaded at the time; wrk and the web pods, an nginx each, are in network namespaces on the \
other processors (*own kernel*). In *one kernel* all of them share the single processor of one machine, so that the \
balancer is only a part of what takes time. All have the same connection tracking and no other rules than those that they \
need. `ipvsadm` is a hand-made table for an address, without a mark; `ipvsadm-fwmark` is one for a mark that iptables \
sets, as in the papers and as ours.\n\n";

/// What the targets are.
pub(super) fn target(rival: &str) -> Option<Target> {
    let is = |contender: Contender| contender.name() == rival;
    if is(Contender::Ipvsadm) || is(Contender::IpvsadmMark) {
        Some(Target::AtLeast(1.0))
    } else if is(Contender::Dnat) {
        Some(Target::AtLeast(1.05))
    } else if is(Contender::NginxStream) || is(Contender::NginxHttp) {
        Some(Target::AtLeast(2.5))
    } else {
        None
    }
}

/// Whether a name is of one of our ways.
fn is_ours(name: &str) -> bool {
    name.starts_with(OURS)
}

pub(super) fn rows(what: &str, values: &Records, target: impl Fn(&str) -> Option<Target>) -> Vec<Row> {
    let row = |rival| Row::compare(what, values, rival, target(rival));
    let rivals = values.contenders().into_iter().filter(|name| !is_ours(name));
    rivals.filter_map(row).collect()
}

/// How pods were limited, and whether anything failed.
fn facts(records: &Records, most: f64) -> String {
    let mut text = String::new();
    if let Some(limit) = records.of(LIMIT, OWN).values().first() {
        let _ = writeln!(
            text,
            "In *own kernel* each pod answers at most {} requests/s, a quarter of what iptables DNAT could pass in this \
             run. So the first pods are the bottleneck, and with {most} pods the balancer is.\n",
            Number(*limit)
        );
    }
    let full = records.of(FIGURE, OWN).at(most);
    let rounds = |name| full.by(name).0.len();
    let (close, others) = (rounds(OURS), rounds(Contender::NginxStream.name()));
    if close > others {
        let _ = writeln!(
            text,
            "Those that do NAT in the kernel are close to each other, so with {most} pods they have {close} rounds, and the \
             others {others}.\n"
        );
    }
    let failed: f64 = [OWN, connections::SETTING, ONE]
        .iter()
        .flat_map(|setting| records.of(ERRORS, setting).values())
        .sum();
    let _ = match failed {
        0.0 => writeln!(text, "No request failed.\n"),
        count => writeln!(text, "{} requests failed.\n", Number(count)),
    };
    text
}

/// What IPVS itself takes, and what ours takes beside it.
fn why(values: &Records, cost: &Records) -> String {
    let ratio = |values: &Records, one: &str, other: Contender| {
        Spread::ratio_text(&values.by(one), &values.by(other.name()))
    };
    let (by_hand, marked) = (Contender::Ipvsadm.name(), Contender::IpvsadmMark.name());
    format!(
        "What IPVS itself can do: the table for an address reaches {} × the throughput of iptables DNAT and takes {} × its \
         processor time, the table for a mark {} × and {} ×. Ours takes {} × the processor time of the table for a mark. It \
         has the same services and servers, but sets its marks in INPUT of `filter`, where a packet passes fewer hooks than \
         in the `mangle` of the papers and of the hand-made table; and beside them a rule that drops INVALID packets, a look \
         at the connection's direction, and its own process, which looks at its file each second. The balancer's \
         processor time is that of its whole machine, with the cable to this one; *Where a packet's time goes* tells its \
         parts. It is less troubled by other work of this machine than throughput is.\n\n",
        ratio(values, by_hand, Contender::Dnat),
        ratio(cost, by_hand, Contender::Dnat),
        ratio(values, marked, Contender::Dnat),
        ratio(cost, marked, Contender::Dnat),
        ratio(cost, OURS, Contender::IpvsadmMark),
    )
}

/// How far ahead of a proxy anybody could be where client and pods share the balancer's processor.
fn bound(one: &Records, cost: &Records) -> Option<String> {
    let median = |of: &Records, name: &str| Some(Spread::of(&of.by(name).values())?.median);
    let most = cost.at(cost.xs().last().copied()?);
    let each = |name: &str| Some(1e6 / median(one, name)?);
    let (whole, own) = (each(OURS)?, median(&most, OURS)?);
    let rest = whole - own;
    let ahead = |rival: Contender| Some(Number(each(rival.name())? / rest));
    let (stream, http) = (ahead(Contender::NginxStream)?, ahead(Contender::NginxHttp)?);
    (rest > 0.0).then(|| {
        format!(
            "In *one kernel* a request by ours takes {} µs of the only processor. At most {} µs of that are the balancer's, as \
             *own kernel* tells, whose cables cost more; the rest is the client's and the pods'. A balancer that takes no \
             time at all would so reach at most {stream} × nginx-stream and {http} × nginx-http there.\n\n",
            Number(whole),
            Number(own)
        )
    })
}

/// Our other ways beside NAT, in the medians of each setting.
fn ways(own: &Records, one: &Records) -> String {
    let mut text = "| ours, by way of forwarding | ÷ ours with NAT, own kernel | ÷ ours with NAT, one kernel |\n|---|---|---|\n".to_owned();
    for way in [Contender::OursDr, Contender::OursTun] {
        let ratio = |values: &Records| {
            let most = values.xs().last().copied().unwrap_or_default();
            let values = values.at(most);
            Spread::ratio_text(&values.by(way.name()), &values.by(OURS))
        };
        let _ = writeln!(text, "| {} | {} | {} |", way.name(), ratio(own), ratio(one));
    }
    text + "\nTUN is measured in one kernel only: its servers need `ipip`, which a machine's own kernel may lack.\n"
}

/// A picture with this title, of what is named below it.
pub(super) fn picture(values: &Records, (title, x): (&str, &str)) -> Result<String> {
    let line = |name: &str| {
        let of = values.by(name);
        let median = |x: f64| Some((x, Spread::of(&of.at(x).values())?.median));
        Line {
            name: name.to_owned(),
            points: of.xs().into_iter().filter_map(median).collect(),
        }
    };
    let all: Vec<Line> = values.contenders().into_iter().map(line).collect();
    let axes = Axes {
        title,
        x,
        y: "requests/s",
        x_by_factors: false,
        y_by_factors: false,
    };
    lines(axes, &all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record((figure, setting): (&str, &str), contender: &str, value: f64) -> crate::record::Record {
        crate::record::Record {
            figure: figure.to_owned(),
            setting: setting.to_owned(),
            contender: contender.to_owned(),
            x: 16.0,
            round: 0,
            value,
            unit: "requests/s".to_owned(),
        }
    }

    #[test]
    fn nobody_is_further_ahead_than_who_takes_no_time() {
        let one = [
            (OURS, 10_000.0),
            ("nginx-stream", 5_000.0),
            ("nginx-http", 4_000.0),
        ];
        let one = Records(
            one.map(|(name, value)| record((FIGURE, ONE), name, value))
                .to_vec(),
        );
        let cost = Records(vec![record((COST, OWN), OURS, 20.0)]);
        let text = bound(&one, &cost).unwrap();
        for part in [
            "takes 100 µs of",
            "At most 20.0 µs",
            "at most 2.50 × nginx-stream and 3.12 × nginx-http",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(bound(&one, &Records::default()), None);
    }

    #[test]
    fn only_rivals_get_rows() {
        let names = [OURS, "ours-dr", "ipvsadm", "nginx-http"];
        let records = Records(names.map(|name| record((FIGURE, OWN), name, 10.0)).to_vec());
        let section = of(&records).unwrap();
        let rivals: Vec<&str> = section.rows.iter().map(|row| row.rival.as_str()).collect();
        assert_eq!(rivals, ["ipvsadm", "nginx-http"]);
        assert!(
            section
                .text
                .contains("| ours-dr | 1.00 [1.00 to 1.00] | not measured |"),
            "{}",
            section.text
        );
        assert!(section.text.contains("No request failed."), "{}", section.text);
    }
}
