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

/// Draws `lines`; the result is empty if there is nothing to draw. On a `logarithmic` vertical
/// axis, all values must be above 0.
pub(super) fn plot(
    lines: &[Line],
    horizontal: &Axis,
    vertical: &Axis,
    logarithmic: bool,
) -> Result<String, Error> {
    let points = || lines.iter().flat_map(|(_, points)| points);
    let highest = points().map(|(_, y)| *y).fold(0.0, f64::max);
    let farthest = points().map(|(x, _)| *x).fold(0.0, f64::max);
    if highest <= 0.0 || farthest <= 0.0 {
        return Ok(String::new());
    }
    let mut svg = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        if logarithmic {
            let lowest = points().map(|(_, y)| *y).fold(f64::INFINITY, f64::min);
            let range = (lowest * 0.8..highest * 1.25).log_scale();
            draw(&area, lines, horizontal, vertical, farthest, range)
        } else {
            draw(
                &area,
                lines,
                horizontal,
                vertical,
                farthest,
                0.0..highest * 1.08,
            )
        }
    };
    drawn.map_err(|error| Error::new(format!("cannot draw a plot: {error}")))?;
    // Inside an HTML page, the namespace is implied.
    let svg = svg.replacen(" xmlns=\"http://www.w3.org/2000/svg\"", "", 1);
    Ok(svg + &legend(lines))
}

/// The names of the lines with their colors. It is below the plot, where it does not cover a line.
fn legend(lines: &[Line]) -> String {
    let mut legend = "<p>".to_owned();
    for (index, (name, _)) in lines.iter().enumerate() {
        let (red, green, blue) = Palette99::pick(index).to_rgba().rgb();
        let name = escape(name);
        legend += &format!(
            "<span style=\"color:#{red:02x}{green:02x}{blue:02x}\">&#9632;</span> {name} &ensp; "
        );
    }
    legend + "</p>\n"
}

fn draw<'a, Range>(
    area: &DrawingArea<SVGBackend<'a>, plotters::coord::Shift>,
    lines: &[Line],
    horizontal: &Axis,
    vertical: &Axis,
    farthest: f64,
    range: Range,
) -> Result<(), Box<dyn std::error::Error + 'a>>
where
    Range: plotters::coord::ranged1d::AsRangedCoord<Value = f64>,
    Range::CoordDescType: plotters::coord::ranged1d::ValueFormatter<f64>,
{
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(42)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..farthest, range)?;
    chart
        .configure_mesh()
        .x_labels(LABELS)
        .x_desc(horizontal.name)
        .y_desc(vertical.name)
        .x_label_formatter(&horizontal.label)
        .y_label_formatter(&vertical.label)
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (index, (_, points)) in lines.iter().enumerate() {
        let style = Palette99::pick(index).stroke_width(2);
        chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
    }
    area.present()?;
    Ok(())
}
