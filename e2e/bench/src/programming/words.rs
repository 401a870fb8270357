//! What the page says of programming tables: computed from the values alone.

use std::fmt::Write as _;

use anyhow::Result;

use super::contender::MESSAGES;
use super::rounds::{ADD, AT_ONCE, AT_ONCE_FIGURE, CALL, FILE_ADD, FILE_FILL, FILL, REMOVE, WEIGHT};
use super::table::Spread;
use crate::plot::{Axes, Line, lines};
use crate::record::{OURS, Records};
use crate::row::{Row, Target};
use crate::spread::{self, Number};
use crate::suite::Section;

const RESTORE: &str = "ipvsadm -R";
/// Ours is to need at most this part of the time of `ipvsadm -R`, and of a call each.
const OF_RESTORE: f64 = 0.2;
const OF_CALLS: f64 = 0.002;
/// One change in the largest table is to need at most so many times what it needs in the smallest.
const OF_SMALLEST: f64 = 1.5;

pub(super) fn section(records: &Records) -> Result<Section> {
    let mut section = Section {
        title: "Programming speed",
        text: INTRODUCTION.to_owned(),
        ..Section::default()
    };
    for spread in Spread::ALL {
        rows(records, spread, &mut section.rows);
        pictures(records, spread, &mut section)?;
    }
    for figure in [
        FILL,
        WEIGHT,
        ADD,
        REMOVE,
        AT_ONCE_FIGURE,
        CALL,
        FILE_FILL,
        FILE_ADD,
    ] {
        let _ = write!(
            section.text,
            "\n**{}**\n\n{}",
            heading(figure),
            table(records, figure)
        );
    }
    for spread in Spread::ALL {
        section.text.push_str(&verdict(records, spread));
    }
    section.text.push_str(LIMITS);
    Ok(section)
}

fn heading(figure: &str) -> String {
    match figure {
        FILL => "From nothing, ms".to_owned(),
        WEIGHT => "One weight set, ms".to_owned(),
        ADD => "One server added, ms".to_owned(),
        REMOVE => "One server removed, ms".to_owned(),
        AT_ONCE_FIGURE => format!("{AT_ONCE} weights set at once, ms"),
        FILE_FILL => {
            "`serve --file`, from nothing, ms from the file's rename until the kernel holds it".to_owned()
        }
        FILE_ADD => {
            "`serve --file`, one server added, ms from the file's rename until the kernel holds it".to_owned()
        }
        _ => "A call of ipvsadm that sets one weight, ms".to_owned(),
    }
}

fn rows(records: &Records, spread: Spread, rows: &mut Vec<Row>) {
    let name = spread.name();
    let Some((smallest, largest)) = sizes(records, name) else {
        return;
    };
    let restore = Some(Target::AtMost(OF_RESTORE));
    let what = format!("programming {largest} servers from nothing, {name}");
    let fill = records.of(FILL, name).at(largest);
    rows.extend(Row::compare(&what, &fill, RESTORE, restore));
    let each = per_server(&fill.by(OURS));
    let calls = records.of(CALL, name).at(largest);
    let one = format!("one of {largest} servers from nothing, {name}");
    rows.extend(Row::between(&one, &each, &calls, Some(Target::AtMost(OF_CALLS))));
    rows.extend(Row::compare(&what, &fill, "keepalived", None));
    let at_once = records.of(AT_ONCE_FIGURE, name).at(largest);
    let what = format!("{AT_ONCE} changes at once among {largest} servers, {name}");
    rows.extend(Row::compare(&what, &at_once, RESTORE, restore));
    rows.extend(Row::compare(&what, &at_once, "keepalived", None));
    let (few, many) = (
        one_change(records, name, smallest),
        one_change(records, name, largest),
    );
    let what = format!("one change among {largest} servers, {name}");
    rows.extend(Row::between(
        &what,
        &many,
        &few,
        Some(Target::AtMost(OF_SMALLEST)),
    ));
}

/// The fewest and the most servers.
fn sizes(records: &Records, setting: &str) -> Option<(f64, f64)> {
    let all = records.of(FILL, setting).xs();
    all.first().copied().zip(all.last().copied())
}

/// What one server of a table from nothing took.
fn per_server(fill: &Records) -> Records {
    let mut each = fill.clone();
    each.0.iter_mut().for_each(|record| record.value /= record.x);
    each
}

/// Our single changes at a size. Those of one kind are compared, so the kind is told by x.
fn one_change(records: &Records, setting: &str, size: f64) -> Records {
    let mut found = Records::default();
    for (kind, figure) in [(0.0, WEIGHT), (1.0, ADD), (2.0, REMOVE)] {
        let of_kind = records.of(figure, setting).at(size).by(OURS);
        found.0.extend(of_kind.0.into_iter().map(|mut record| {
            record.x = kind;
            record.contender = format!("ours among {size}");
            record
        }));
    }
    found
}

/// Medians with the middle half, of every contender.
fn table(records: &Records, figure: &str) -> String {
    let mut text = String::new();
    for setting in records.settings(figure) {
        let found = records.of(figure, setting);
        let names = found.contenders();
        let _ = writeln!(text, "| {setting} | {} |", names.join(" | "));
        let _ = writeln!(text, "|---|{}", "---|".repeat(names.len()));
        for x in found.xs() {
            let cells = names.iter().map(|name| {
                let spread = spread::Spread::of(&found.at(x).by(name).values());
                spread.map_or_else(String::new, |spread| spread.to_string())
            });
            let _ = writeln!(
                text,
                "| {x} servers | {} |",
                cells.collect::<Vec<_>>().join(" | ")
            );
        }
        text.push('\n');
    }
    text
}

fn median(ours: &Records, theirs: &Records) -> Option<f64> {
    spread::Spread::of_ratios(ours, theirs).map(|spread| spread.median)
}

/// What one change costs in the largest table, beside the smallest.
fn growth(records: &Records, name: &str) -> String {
    let Some((smallest, largest)) = sizes(records, name) else {
        return String::new();
    };
    let (large, small) = (
        one_change(records, name, largest),
        one_change(records, name, smallest),
    );
    let middle = |of: &Records| spread::Spread::of(&of.values()).map(|spread| spread.median);
    let (Some(growth), Some((more, less))) = (median(&large, &small), middle(&large).zip(middle(&small)))
    else {
        return String::new();
    };
    let word = if growth <= OF_SMALLEST {
        "which meets the target".to_owned()
    } else {
        let own = |size| {
            let weights = records.of(WEIGHT, name).at(size).by(MESSAGES);
            Some(spread::Spread::of(&weights.values())?.median)
        };
        let of_kernel = own(largest).zip(own(smallest)).map(|(more, less)| {
            let more = Number((more - less).max(0.0));
            format!(", {more} ms of it the kernel's, as the messages alone tell that set a weight")
        });
        format!(
            "{} ms more{}, which misses the target",
            Number(more - less),
            of_kernel.unwrap_or_default()
        )
    };
    format!(
        " One change among {largest} servers takes {} times what it takes among {smallest}, {word} of {OF_SMALLEST}.",
        Number(growth)
    )
}

/// From which size on the targets are met.
fn verdict(records: &Records, spread: Spread) -> String {
    let name = spread.name();
    let fill = records.of(FILL, name);
    let met = |ratio: &dyn Fn(f64) -> Option<f64>, bound: f64| {
        let sizes = fill.xs().into_iter();
        let met = sizes.filter(|x| ratio(*x).is_some_and(|ratio| ratio <= bound));
        let sizes: Vec<String> = met.map(|x| x.to_string()).collect();
        if sizes.is_empty() {
            "no size".to_owned()
        } else {
            sizes.join(", ")
        }
    };
    let restore = |x| median(&fill.at(x).by(OURS), &fill.at(x).by(RESTORE));
    let calls = |x| median(&per_server(&fill.at(x).by(OURS)), &records.of(CALL, name).at(x));
    let growth = growth(records, name);
    format!(
        "\n{}: programming from nothing takes at most 1/{:.0} of `ipvsadm -R` at {} servers, and each of them at most 1/{:.0} of a call at \
         {}.{growth}\n",
        match spread {
            Spread::One => "One service",
            Spread::Many => "Services of ten",
        },
        1.0 / OF_RESTORE,
        met(&restore, OF_RESTORE),
        1.0 / OF_CALLS,
        met(&calls, OF_CALLS)
    )
}

fn pictures(records: &Records, spread: Spread, section: &mut Section) -> Result<()> {
    for (figure, word) in [(FILL, "from-nothing"), (WEIGHT, "one-change")] {
        let found = records.of(figure, spread.name());
        let line = |name: &&str| {
            let of = found.by(name);
            let point = |x: f64| Some((x, spread::Spread::of(&of.at(x).values())?.median));
            Line {
                name: (*name).to_owned(),
                points: of.xs().into_iter().filter_map(point).collect(),
            }
        };
        let drawn: Vec<Line> = found.contenders().iter().map(line).collect();
        if drawn.is_empty() {
            continue;
        }
        let title = match figure {
            FILL => format!("Programming from nothing, {}", spread.name()),
            _ => format!("Setting one weight, {}", spread.name()),
        };
        let axes = Axes {
            title: &title,
            x: "servers",
            y: "ms",
            x_by_factors: true,
            y_by_factors: true,
        };
        let name = format!("programming-{word}-{}", spread.name().replace(' ', "-"));
        let _ = write!(section.text, "\n![{title}]({name}.svg)\n");
        section.pictures.push((name, lines(axes, &drawn)?));
    }
    Ok(())
}

const INTRODUCTION: &str = "Who programs IPVS how fast, in one kernel, each table in a network namespace of its own: all servers in \
one service, and ten in each of many. Every table is checked with the kernel's own list, `/proc/net/ip_vs`.

- **ours** is the agent's own way in a release build: from the moment that the wanted table is known until the kernel has \
acknowledged all of it. The first time it opens its socket and reads what is there. A server that is removed gets weight 0 first, \
and that is what is timed: nothing new is sent to it.
- **the messages alone** are those that the change takes, made beforehand and sent by the agent's library: the kernel's own part of the \
time. A server is removed by them at once.
- **ipvsadm -R** is one call that reads the same commands from a file, from its start to its end. With one command it is a call of \
`ipvsadm` for one change.
- **ipvsadm, a call each** is a call for each change: as many as are affordable are made in a full table, and the time of one \
is told.
- **keepalived** reads its file again after SIGHUP: from the signal until the kernel's list shows the new table. It has no checkers.

Nobody sets iptables' rules here, but for the whole agent: **`serve --file`** is timed from the rename of its file until the \
kernel's list has all servers. It looks at its file each second, so half a second of that is waiting in the mean; it reads and \
checks all of the file, and with the first table it sets its rules.
";

const LIMITS: &str = "
To start a program costs much in an emulated machine, so few changes by `ipvsadm` look worse here than on hardware; \
the larger the table, the less that counts. The kernel looks through all servers of a service for each that is added or changed: this \
part of the time everybody pays, and it grows with the square of the servers of one service.

kube-proxy cannot be given a table, only a cluster: how long its syncs take in ipvs mode, beside what our agent takes for as \
many servers in the same cluster, stands [where convergence is measured](#convergence-from-a-changed-endpointslice-to-the-kernel).
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    fn value(figure: &str, contender: &str, x: f64, value: f64) -> Record {
        Record {
            figure: figure.to_owned(),
            setting: Spread::One.name().to_owned(),
            contender: contender.to_owned(),
            x,
            round: 0,
            value,
            unit: "ms".to_owned(),
        }
    }

    #[test]
    fn what_is_met_is_told_by_sizes() {
        let records = Records(vec![
            value(FILL, OURS, 10.0, 9.0),
            value(FILL, RESTORE, 10.0, 10.0),
            value(FILL, OURS, 10_000.0, 100.0),
            value(FILL, RESTORE, 10_000.0, 1000.0),
            value(CALL, "ipvsadm, a call each", 10_000.0, 10.0),
            value(WEIGHT, OURS, 10.0, 1.0),
            value(WEIGHT, OURS, 10_000.0, 3.0),
        ]);
        let section = section(&records).unwrap();
        for part in [
            "at most 1/5 of `ipvsadm -R` at 10000 servers",
            "3.00 times what it takes among 10, 2.00 ms more, which misses the target of 1.5.",
        ] {
            assert!(section.text.contains(part), "{part} in {}", section.text);
        }
        assert_eq!(section.rows.len(), 3);
        assert_eq!(section.pictures.len(), 2);
    }
}
