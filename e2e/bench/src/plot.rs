//! Pictures, as SVG.

use std::error::Error;
use std::ops::Range;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::spread::Number;

/// A named line through points.
#[derive(Clone, Debug)]
pub struct Line {
    /// For the legend.
    pub name: String,
    /// In ascending order of x.
    pub points: Vec<(f64, f64)>,
}

/// Words and scales of a picture.
#[derive(Clone, Copy, Debug)]
pub struct Axes<'a> {
    /// Above it.
    pub title: &'a str,
    /// Below it, with the unit.
    pub x: &'a str,
    /// At its side, with the unit.
    pub y: &'a str,
    /// Whether x grows by factors.
    pub x_by_factors: bool,
    /// Whether y grows by factors. Otherwise it begins with 0.
    pub y_by_factors: bool,
}

const SIZE: (u32, u32) = (900, 420);
/// Where the legend begins, right of the picture.
const LEGEND: i32 = 760;
const COLOURS: [RGBColor; 12] = [
    RGBColor(0, 90, 181),
    RGBColor(220, 50, 32),
    RGBColor(0, 128, 96),
    RGBColor(230, 150, 0),
    RGBColor(130, 70, 160),
    RGBColor(90, 90, 90),
    RGBColor(200, 90, 150),
    RGBColor(100, 170, 220),
    RGBColor(140, 90, 40),
    RGBColor(120, 190, 60),
    RGBColor(0, 0, 0),
    RGBColor(250, 130, 110),
];

/// Lines through points that are marked if they are few.
pub fn lines(axes: Axes<'_>, lines: &[Line]) -> Result<String> {
    let mut svg = String::new();
    let drawn = draw(&mut svg, axes, lines);
    drawn.map_err(|error| anyhow!("the picture {:?}: {error}", axes.title))?;
    Ok(svg)
}

/// So many points are still told apart.
const FEW: usize = 30;

fn draw(svg: &mut String, axes: Axes<'_>, lines: &[Line]) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (x, y) = (Scale::new(axes.x_by_factors), Scale::new(axes.y_by_factors));
    let points = || lines.iter().flat_map(|line| &line.points);
    let (wide, high) = (
        x.range(points().map(|point| point.0)),
        y.range(points().map(|point| point.1)),
    );
    let (picture, legend) = root.split_horizontally(LEGEND);
    let mut builder = ChartBuilder::on(&picture);
    builder.caption(axes.title, ("sans-serif", 18)).margin(12);
    let mut chart = builder
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(wide, high)?;
    chart
        .configure_mesh()
        .x_desc(axes.x)
        .y_desc(axes.y)
        .light_line_style(WHITE)
        .x_label_formatter(&|value| x.label(*value))
        .y_label_formatter(&|value| y.label(*value))
        .draw()?;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let placed = line.points.iter().map(|(a, b)| (x.place(*a), y.place(*b)));
        let marked = line.points.len() <= FEW;
        let series = LineSeries::new(placed, colour.stroke_width(2)).point_size(if marked { 3 } else { 0 });
        chart.draw_series(series)?;
    }
    for ((line, colour), top) in lines.iter().zip(COLOURS.iter().cycle()).zip((60..).step_by(22)) {
        legend.draw(&PathElement::new([(0, top), (18, top)], colour.stroke_width(3)))?;
        legend.draw(&Text::new(line.name.as_str(), (24, top - 6), ("sans-serif", 13)))?;
    }
    root.present()?;
    Ok(())
}

/// Where a value lies on an axis.
#[derive(Clone, Copy)]
struct Scale {
    by_factors: bool,
}

impl Scale {
    fn new(by_factors: bool) -> Self {
        Self { by_factors }
    }

    fn place(self, value: f64) -> f64 {
        if self.by_factors {
            value.max(f64::MIN_POSITIVE).log10()
        } else {
            value
        }
    }

    fn label(self, place: f64) -> String {
        let value = if self.by_factors {
            10_f64.powf(place)
        } else {
            place
        };
        if value.fract() == 0.0 {
            value.to_string()
        } else {
            Number(value).to_string()
        }
    }

    /// From 0, or from the least value if by factors, with a little room above.
    fn range(self, values: impl Iterator<Item = f64>) -> Range<f64> {
        let (mut low, mut high) = if self.by_factors {
            (f64::MAX, f64::MIN)
        } else {
            (0.0, 0.0)
        };
        for place in values.map(|value| self.place(value)) {
            (low, high) = (f64::min(low, place), f64::max(high, place));
        }
        if high <= low {
            return low.min(0.0)..low.max(0.0) + 1.0;
        }
        low..high + (high - low) * 0.06
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_names_its_lines() {
        let axes = Axes {
            title: "speed",
            x: "servers",
            y: "requests/s",
            x_by_factors: true,
            y_by_factors: false,
        };
        let line = |name: &str, points: &[(f64, f64)]| Line {
            name: name.to_owned(),
            points: points.to_vec(),
        };
        let svg = lines(
            axes,
            &[line("ours", &[(1.0, 5.0), (10.0, 7.0)]), line("nobody", &[])],
        )
        .unwrap();
        for word in ["<svg", "speed", "servers", "requests/s", "ours", "nobody"] {
            assert!(svg.contains(word), "{word} in {svg}");
        }
        lines(axes, &[]).unwrap();
    }
}
