//! A plot of the cost of recording.

use std::path::Path;

use anyhow::{Context, Result};
use plotters::prelude::*;

use super::step::Step;

const SIZE: (u32, u32) = (800, 400);
const MILLION: f64 = 1e6;

/// Draws the processor time per execution over the number of executions stored before.
pub fn cost(file: &Path, steps: &[Step]) -> Result<()> {
    let most = steps.iter().map(|step| step.cpu_us).fold(0.0, f64::max);
    let stored = steps.last().map_or(1.0, |step| step.stored as f64 / MILLION);
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(10)
        .x_label_area_size(40)
        .y_label_area_size(50)
        .build_cartesian_2d(0.0..stored.max(1.0), 0.0..most * 1.2)?;
    chart
        .configure_mesh()
        .x_desc("millions of executions stored")
        .y_desc("µs of CPU per execution: aggregator, Postgres, NATS")
        .draw()?;
    let points = steps.iter().map(|step| (step.stored as f64 / MILLION, step.cpu_us));
    chart.draw_series(LineSeries::new(points, &BLUE))?;
    area.present().context("cannot write the plot")
}
