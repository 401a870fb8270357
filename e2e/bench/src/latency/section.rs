//! What is told of latency.

use std::fmt::Write as _;

use anyhow::Result;

use super::{FIGURE, LEVELS, RATE};
use crate::plot::{Axes, Line, lines};
use crate::record::Records;
use crate::row::{Row, Target};
use crate::site::contender::Contender;
use crate::spread::{Number, Spread};
use crate::suite::Section;

/// Percentiles that rows are of, and their names.
const ROWS: [(f64, &str); 2] = [(50.0, "median"), (99.0, "p99")];

pub(super) fn of(records: &Records) -> Result<Section> {
    let mut section = Section {
        title: "Latency at constant load",
        text: HOW.to_owned(),
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
        section.rows.extend(rows(&values, &format!("{percent} % load")));
    }
    section.text.push_str(LIMITS);
    Ok(section)
}

const HOW: &str = "Requests come at a constant rate over 32 connections that stay open, whether or not earlier ones were \
answered. A request's time counts from when it was due, so one that had to wait behind others is not forgotten (no \
coordinated omission). Each balancer is in a machine of its own with one processor; client and 8 web pods are in network \
namespaces beside it.";

const LIMITS: &str = "\nThe proxies are in the picture of the low load only: the high one is more than they can do, and \
their times would grow as long as it lasts.\n";

fn rows(values: &Records, load: &str) -> Vec<Row> {
    let dnat = Contender::Dnat.name();
    let rivals = values
        .contenders()
        .into_iter()
        .filter(|name| !name.starts_with("ours"));
    let row = |(x, name): (f64, &str), rival: &str| {
        let target = (rival == dnat).then_some(Target::AtMost(1.0));
        Row::compare(&format!("latency, {name}, {load}"), &values.at(x), rival, target)
    };
    let rivals: Vec<&str> = rivals.collect();
    let both = ROWS
        .into_iter()
        .flat_map(|what| rivals.iter().map(move |rival| (what, *rival)));
    both.filter_map(|(what, rival)| row(what, rival)).collect()
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
