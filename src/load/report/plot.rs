//! Line plots as SVG, with a legend below.

use plotters::prelude::*;

use super::super::error::Error;
use super::markup::escape;

/// The name of a line and its points.
pub(super) type Line = (String, Vec<(f64, f64)>);

/// The labels of an axis.
pub(super) struct Axis {
    pub(super) name: &'static str,
    /// Formats a value.
    pub(super) label: fn(&f64) -> String,
}

const SIZE: (u32, u32) = (920, 340);

/// The largest number of labels on the horizontal axis; few enough that percentiles are labeled at
/// whole nines.
const LABELS: usize = 7;

/// A part of the horizontal axis that is marked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Band {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) meaning: Meaning,
}

/// Why a part is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    WarmUp,
    /// Requests were sent, and none was answered.
    Outage,
}

/// What a plot shows.
pub(super) struct Plot<'a> {
    pub(super) lines: &'a [Line],
    pub(super) bands: &'a [Band],
    pub(super) horizontal: &'a Axis,
    pub(super) vertical: &'a Axis,
    /// The vertical axis is logarithmic; all values must be above 0.
    pub(super) logarithmic: bool,
}

impl Plot<'_> {
    /// Draws it as SVG in the text color of the page; the result is empty if there is nothing to
    /// draw.
    pub(super) fn svg(&self) -> Result<String, Error> {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let highest = points().map(|(_, y)| *y).fold(0.0, f64::max);
        let farthest = points().map(|(x, _)| *x).fold(0.0, f64::max);
        if highest <= 0.0 || farthest <= 0.0 {
            return Ok(String::new());
        }
        let mut svg = String::new();
        let drawn = {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            if self.logarithmic {
                let lowest = points().map(|(_, y)| *y).fold(f64::INFINITY, f64::min);
                let (lowest, highest) = (lowest * 0.8, highest * 1.25);
                let range = (lowest..highest).log_scale();
                self.draw(&area, farthest, range, (lowest, highest))
            } else {
                let highest = highest * 1.08;
                self.draw(&area, farthest, 0.0..highest, (0.0, highest))
            }
        };
        drawn.map_err(|error| Error::new(format!("cannot draw a plot: {error}")))?;
        // Inside an HTML page, the namespace is implied, and the page has the color scheme.
        let svg = svg.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1);
        let svg = svg.replace("\"#000000\"", "\"currentColor\"");
        Ok(format!(
            "<div class=\"plot\">{svg}</div>\n{}",
            self.legend()
        ))
    }

    /// The names of the lines with their colors, and the meaning of the bands. It is below the
    /// plot, where it does not cover a line.
    fn legend(&self) -> String {
        let mut legend = "<p>".to_owned();
        for (index, (name, _)) in self.lines.iter().enumerate() {
            let (red, green, blue) = Palette99::pick(index).to_rgba().rgb();
            let name = escape(name);
            legend += &format!(
                "<span style=\"color:#{red:02x}{green:02x}{blue:02x}\">&#9632;</span> {name} &ensp; "
            );
        }
        for meaning in [Meaning::WarmUp, Meaning::Outage] {
            if self.bands.iter().any(|band| band.meaning == meaning) {
                let RGBColor(red, green, blue) = meaning.color();
                let name = meaning.name();
                legend += &format!(
                    "<span style=\"color:rgba({red},{green},{blue},.5)\">&#9632;</span> {name} &ensp; "
                );
            }
        }
        legend + "</p>\n"
    }

    fn draw<'b, Range>(
        &self,
        area: &DrawingArea<SVGBackend<'b>, plotters::coord::Shift>,
        farthest: f64,
        range: Range,
        (lowest, highest): (f64, f64),
    ) -> Result<(), Box<dyn std::error::Error + 'b>>
    where
        Range: plotters::coord::ranged1d::AsRangedCoord<Value = f64>,
        Range::CoordDescType: plotters::coord::ranged1d::ValueFormatter<f64>,
    {
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .x_label_area_size(42)
            .y_label_area_size(72)
            .build_cartesian_2d(0.0..farthest, range)?;
        chart
            .configure_mesh()
            .x_labels(LABELS)
            .x_desc(self.horizontal.name)
            .y_desc(self.vertical.name)
            .x_label_formatter(&self.horizontal.label)
            .y_label_formatter(&self.vertical.label)
            .light_line_style(TRANSPARENT)
            .draw()?;
        for band in self.bands {
            let corners = [(band.from, lowest), (band.to.min(farthest), highest)];
            let style = band.meaning.color().mix(0.2).filled();
            chart.draw_series([Rectangle::new(corners, style)])?;
        }
        for (index, (_, points)) in self.lines.iter().enumerate() {
            let style = Palette99::pick(index).stroke_width(2);
            chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
        }
        area.present()?;
        Ok(())
    }
}

impl Meaning {
    fn color(self) -> RGBColor {
        match self {
            Self::WarmUp => RGBColor(128, 128, 128),
            Self::Outage => RGBColor(220, 30, 30),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::WarmUp => "warm-up",
            Self::Outage => "no answer",
        }
    }
}
