//! What is told of latency.

use std::fmt::Write as _;

use anyhow::Result;

use super::{FIGURE, KERNELS, LASTING, LEVELS, Level, RATE};
use crate::plot::{Axes, Line, lines};
use crate::record::{OURS, Records};
use crate::row::{Row, Target};
use crate::site::contender::Contender;
use crate::spread::{Number, Spread};
use crate::suite::Section;

/// Percentiles that rows are of, and their names.
const ROWS: [(f64, &str); 2] = [(50.0, "median"), (99.0, "p99")];

pub(super) fn of(records: &Records) -> Result<Section> {
    let mut section = Section {
        title: "Latency at constant load",
        text: format!("{HOW} A round lasts {} s for each.", LASTING.as_secs_f64()),
        ..Section::default()
    };
    for level in &LEVELS {
        let values = records.of(FIGURE, level.setting);
        let rate = Spread::of(&records.of(RATE, level.setting).values());
        let Some(rate) = rate else { continue };
        let name = format!("latency-{}", level.setting);
        let percent = level.share * 100.0;
        let title = format!("Latency at {} requests/s", Number(rate.median));
        section.pictures.push((name.clone(), picture(&title, &values)?));
        let _ = write!(
            section.text,
            "\n\n![{title}]({name}.svg)\n\n{} requests/s are {percent} % of what iptables DNAT could do at its most. \
             Each line: the medians of all rounds.\n",
            Number(rate.median)
        );
        section.text += &beside_dnat(&values);
        section.rows.extend(rows(level, &values));
    }
    section.text.push_str(LIMITS);
    Ok(section)
}

const HOW: &str = "Requests come at a constant rate over 32 connections that stay open, whether or not earlier ones were \
answered. A request's time counts from when it was due, so one that had to wait behind others is not forgotten (no \
coordinated omission). Each balancer is in a machine of its own with one processor; client and 8 web pods are in network \
namespaces beside it.";

const LIMITS: &str = "\nIPVS with NAT has more to do than iptables DNAT, whoever made its table: both track each connection, \
and IPVS looks up its own beside (see *Where a packet's time goes*). While a processor is busy, that little counts more \
than once, since others wait behind. DR needs no NAT.\n\nThe proxies are in the picture of the low load only: the high one is more than they can do, and \
their times would grow as long as it lasts.\n";

/// Beside those who bear just this load, and beside iptables DNAT.
fn rows(level: &Level, values: &Records) -> Vec<Row> {
    let dnat = Contender::Dnat.name();
    let bears_more = |name: &str| level.share < 0.5 && KERNELS.iter().any(|one| one.name() == name);
    let wanted = |name: &&str| !name.starts_with(OURS) && (*name == dnat || !bears_more(name));
    let rivals: Vec<&str> = values.contenders().into_iter().filter(wanted).collect();
    let row = |(x, name): (f64, &str), rival: &str| {
        let what = format!("latency, {name}, {} % load", level.share * 100.0);
        let target = (rival == dnat).then_some(Target::AtMost(1.0));
        Row::compare(&what, &values.at(x), rival, target)
    };
    let both = ROWS
        .into_iter()
        .flat_map(|what| rivals.iter().map(move |rival| (what, *rival)));
    both.filter_map(|(what, rival)| row(what, rival)).collect()
}

/// How those who balance by the kernel compare with iptables DNAT.
fn beside_dnat(values: &Records) -> String {
    let dnat = Contender::Dnat.name();
    let mut text = format!("\n| ÷ {dnat} | median | p99 |\n|---|---|---|\n");
    let others = KERNELS
        .map(Contender::name)
        .into_iter()
        .filter(|name| *name != dnat);
    for name in others {
        let [median, late] = ROWS.map(|(x, _)| {
            let values = values.at(x);
            Spread::ratio_text(&values.by(name), &values.by(dnat))
        });
        let _ = writeln!(text, "| {name} | {median} | {late} |");
    }
    text
}

fn picture(title: &str, values: &Records) -> Result<String> {
    let line = |name: &str| {
        let of = values.by(name);
        let median = |x: f64| Some((Spread::of(&of.at(x).values())?.median, x));
        Line {
            name: name.to_owned(),
            points: of.xs().into_iter().filter_map(median).collect(),
        }
    };
    let all: Vec<Line> = values.contenders().into_iter().map(line).collect();
    let axes = Axes {
        title,
        x: "ms",
        y: "% of requests",
        x_by_factors: true,
        y_by_factors: false,
    };
    lines(axes, &all)
}
