//! Plots beside the tables.

use std::path::Path;

use anyhow::Result;
use plotters::{
    coord::{ranged1d::ValueFormatter, types::RangedCoordf64},
    prelude::*,
};

/// A line of a plot.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it is about.
    pub name: String,
    /// Its points.
    pub points: Vec<(f64, f64)>,
}

/// How the axis to the right counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Each step the same.
    Linear,
    /// Each step ten times.
    Logarithmic,
}

/// Draws lines into a file.
///
/// # Errors
/// If it cannot be written, or there is nothing to draw.
pub fn draw(path: &Path, title: &str, axes: [&str; 2], scale: Scale, lines: &[Line]) -> Result<()> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let [right, up] =
        [points().map(|p| p.0).fold(1.0, f64::max), points().map(|p| p.1).fold(1.0, f64::max)];
    let left = points().map(|point| point.0).fold(right, f64::min);
    let area = SVGBackend::new(path, (900, 480)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut builder = ChartBuilder::on(&area);
    builder
        .caption(title, ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(60);
    let height = 0.0..up * 1.1;
    match scale {
        Scale::Linear => {
            let mut chart = builder.build_cartesian_2d(0.0..right, height)?;
            fill(&mut chart, axes, lines)
        }
        Scale::Logarithmic => {
            let mut chart = builder.build_cartesian_2d((left..right).log_scale(), height)?;
            fill(&mut chart, axes, lines)
        }
    }?;
    area.present()?;
    Ok(())
}

fn fill<'a, X>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, RangedCoordf64>>,
    [right, up]: [&str; 2],
    lines: &[Line],
) -> Result<()>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart.configure_mesh().x_desc(right).y_desc(up).draw()?;
    for (index, line) in lines.iter().enumerate() {
        let colour = Palette99::pick(index).to_rgba();
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), style).point_size(3))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    Ok(())
}
