//! What the page says of footprints.

use std::fmt::Write as _;

use anyhow::Result;

use super::{
    AGENT, ANONYMOUS, BUSY, CALLS, DESCRIPTORS, IMAGE, LOAD, MEMORY, OPERATOR, REST, RESTARTED, SIZE,
    THREADS, WRITES,
};
use crate::plot::{self, Axes, Line};
use crate::record::{OURS, Record, Records};
use crate::row::{Row, Target};
use crate::spread::Number;
use crate::suite::Section;

/// What agents may take, in MiB, with so many servers; and the operator, with so many balancers.
const AGENT_BOUND: (f64, f64) = (1000.0, 12.0);
const OPERATOR_BOUND: (f64, f64) = (1000.0, 40.0);

/// The columns of both tables.
const COLUMNS: [(&str, &str); 6] = [
    (MEMORY, "resident MiB"),
    (ANONYMOUS, "of no file, MiB"),
    (THREADS, "threads"),
    (DESCRIPTORS, "descriptors"),
    (REST, "% of a processor at rest"),
    (BUSY, "under load"),
];

pub(super) fn section(records: &Records) -> Result<Section> {
    let mut text = AGENTS.to_owned();
    text += &table(records, AGENT, "servers");
    let _ = write!(text, "\n{}", load(records, AGENT));
    let _ = write!(
        text,
        " {}\n\n![memory](footprint-memory.svg)\n",
        at_rest(records, AGENT)
    );
    text += OPERATORS;
    text += &table(records, OPERATOR, "balancers");
    let _ = write!(
        text,
        "\n{} {}\n",
        load(records, OPERATOR),
        at_rest(records, OPERATOR)
    );
    text += &images(records);
    Ok(Section {
        title: "Footprint: memory, processor, calls",
        rows: rows(records),
        text,
        pictures: vec![("footprint-memory".to_owned(), picture(records)?)],
    })
}

const AGENTS: &str = "Agents: one on a node, with made-up servers in slices of 100. The kube-proxies run on other nodes, in \
a network namespace of their own, with a Service of as many servers. Values are those of a process as its node's `/proc` \
tells them, after a rest; time that a program it started has taken (iptables, ipset) counts only where it is the program \
itself that is told of, so kube-proxy's real cost is higher.\n\n";

const OPERATORS: &str = "\nThe operator: the program of its image, run on this machine with an API server of its own. Two \
pods a balancer, and what their agents report, are written by the benchmark, since three small nodes could not run that \
many agents. Load is agents that report a changed number of healthy servers. At the end the operator is started \
anew, and reads everything at once.\n\n";

fn rows(records: &Records) -> Vec<Row> {
    let mut rows = Vec::new();
    let agents = records.of(MEMORY, AGENT).at(AGENT_BOUND.0);
    let rivals = agents.contenders().into_iter().filter(|name| *name != OURS);
    let what = "agent's memory, 1,000 servers";
    rows.extend(rivals.filter_map(|rival| Row::compare(what, &agents, rival, None)));
    for (setting, contender, (x, most), what) in [
        (AGENT, OURS, AGENT_BOUND, what),
        (
            OPERATOR,
            OURS,
            OPERATOR_BOUND,
            "operator's memory, 1,000 balancers",
        ),
        (
            OPERATOR,
            RESTARTED,
            OPERATOR_BOUND,
            "operator's memory, started among 1,000 balancers",
        ),
    ] {
        let values = records.of(MEMORY, setting).at(x).by(contender);
        let bound = bound(&values, most);
        rows.extend(Row::between(what, &values, &bound, Some(Target::AtMost(1.0))));
    }
    rows
}

fn bound(values: &Records, most: f64) -> Records {
    let record = values.0.first().map(|record| Record {
        value: most,
        contender: "the bound".to_owned(),
        ..record.clone()
    });
    Records(record.into_iter().collect())
}

fn table(records: &Records, setting: &str, count_of: &str) -> String {
    let mut text = format!("| {count_of} | who |");
    for (_, title) in COLUMNS {
        let _ = write!(text, " {title} |");
    }
    let _ = writeln!(text, "\n|---|---|{}", "---|".repeat(COLUMNS.len()));
    let memory = records.of(MEMORY, setting);
    for x in memory.xs() {
        let at = memory.at(x);
        for contender in at.contenders() {
            let _ = write!(text, "| {x} | {contender} |");
            for (figure, _) in COLUMNS {
                let value = records.of(figure, setting).at(x).by(contender).values();
                let value = value.first().map(|value| Number(*value).to_string());
                let _ = write!(text, " {} |", value.unwrap_or_default());
            }
            text.push('\n');
        }
    }
    text
}

fn load(records: &Records, setting: &str) -> String {
    let rates = records.of(LOAD, setting).values();
    let (Some(least), Some(most)) = (
        rates.iter().copied().min_by(f64::total_cmp),
        rates.iter().copied().max_by(f64::total_cmp),
    ) else {
        return String::new();
    };
    format!("Load was {} to {} changes a second.", Number(least), Number(most))
}

/// What was called while nothing changed. Watches end after a minute and are begun again, which are calls too.
fn at_rest(records: &Records, setting: &str) -> String {
    let most = |figure| {
        let values = records.of(figure, setting).values();
        values.into_iter().max_by(f64::total_cmp)
    };
    let (Some(calls), Some(writes)) = (most(CALLS), most(WRITES)) else {
        return String::new();
    };
    let wrote = if writes > 0.0 {
        format!(
            "**{} of them writes**, where there should be none",
            Number(writes)
        )
    } else {
        "none of them a write".to_owned()
    };
    format!(
        "At rest the API server was called at most {} times a minute, {wrote}.",
        Number(calls)
    )
}

fn images(records: &Records) -> String {
    let sizes = records.of(SIZE, IMAGE);
    let words = sizes.0.iter().map(|record| {
        format!(
            "the {}'s is {} {}",
            record.contender,
            Number(record.value),
            record.unit
        )
    });
    let words: Vec<String> = words.collect();
    if words.is_empty() {
        return String::new();
    }
    format!("\nImages: {}, as archives.\n", words.join(", "))
}

fn picture(records: &Records) -> Result<String> {
    let memory = records.of(MEMORY, AGENT);
    let line = |contender: &str| Line {
        name: contender.to_owned(),
        points: memory
            .by(contender)
            .0
            .iter()
            .map(|record| (record.x, record.value))
            .collect(),
    };
    let axes = Axes {
        title: "Resident memory on a node",
        x: "servers",
        y: "MiB",
        x_by_factors: true,
        y_by_factors: false,
    };
    plot::lines(
        axes,
        &memory.contenders().into_iter().map(line).collect::<Vec<_>>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::footprint::{Point, push};

    #[test]
    fn writes_at_rest_are_told() {
        let mut records = Records::default();
        let point = Point {
            setting: AGENT,
            contender: OURS,
            x: 1000,
        };
        push(&mut records, &point, MEMORY, (15.0, "MiB"));
        push(&mut records, &point, CALLS, (6.0, "calls/min"));
        push(&mut records, &point, WRITES, (0.0, "calls/min"));
        let told = section(&records).unwrap();
        assert!(told.text.contains("none of them a write"), "{}", told.text);
        assert!((told.rows[0].ratio.median - 1.25).abs() < 1e-9);
        push(&mut records, &point, WRITES, (2.0, "calls/min"));
        let told = section(&records).unwrap();
        assert!(told.text.contains("**2.00 of them writes**"), "{}", told.text);
    }
}
