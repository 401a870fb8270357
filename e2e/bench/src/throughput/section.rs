//! What is told of throughput.

use anyhow::Result;

use super::{FIGURE, OWN};
use crate::plot::{Axes, Line, lines};
use crate::record::Records;
use crate::spread::Spread;
use crate::suite::Section;

pub(super) fn of(records: &Records) -> Result<Section> {
    let values = records.of(FIGURE, OWN);
    let picture = picture(&values)?;
    Ok(Section {
        title: "Throughput",
        pictures: vec![("throughput".to_owned(), picture)],
        ..Section::default()
    })
}

fn picture(values: &Records) -> Result<String> {
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
        title: "Requests/s over the number of web pods",
        x: "web pods",
        y: "requests/s",
        x_by_factors: false,
        y_by_factors: false,
    };
    lines(axes, &all)
}
