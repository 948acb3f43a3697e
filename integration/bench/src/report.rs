//! A table for people, a line of JSON a figure for programs.

use clap::ValueEnum;
use serde::Serialize;

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    #[default]
    Table,
    Json,
}

#[derive(Clone, Copy, Serialize)]
pub(crate) enum Unit {
    #[serde(rename = "ms")]
    Milliseconds,
    #[serde(rename = "µs")]
    Microseconds,
    #[serde(rename = "/s")]
    PerSecond,
    MiB,
    #[serde(rename = "B")]
    Bytes,
    #[serde(rename = "Gbit/s")]
    Gigabits,
    /// A pure number.
    #[serde(rename = "1")]
    One,
}

#[derive(Serialize)]
pub(crate) struct Figure {
    name: String,
    unit: Unit,
    pub(crate) ours: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
}

impl Figure {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Of values by engine, ours first.
    pub(crate) fn of(name: &str, unit: Unit, values: &[f64]) -> Self {
        Self::new(name, unit, values[0], values.get(1).copied())
    }

    pub(crate) fn new(name: &str, unit: Unit, ours: f64, peer: Option<f64>) -> Self {
        Self { name: name.to_owned(), unit, ours, peer, ratio: peer.map(|peer| ours / peer) }
    }
}

pub(crate) fn print(figures: &[Figure], format: Format) {
    if format == Format::Json {
        for figure in figures {
            println!("{}", serde_json::to_string(figure).expect("a figure is plain data"));
        }
        return;
    }
    let width = figures.iter().map(|f| f.name.len()).max().unwrap_or(0);
    println!("{:width$}  {:>12}  {:>12}  {:>6}", "", "causeway", "peer", "ratio");
    for figure in figures {
        let value = |value: f64| match figure.unit {
            Unit::Milliseconds => format!("{value:.1} ms"),
            Unit::Microseconds => format!("{value:.1} µs"),
            Unit::PerSecond => format!("{value:.0} /s"),
            Unit::MiB => format!("{value:.1} MiB"),
            Unit::Bytes => format!("{value:.0} B"),
            Unit::Gigabits => format!("{value:.2} Gbit/s"),
            Unit::One => format!("{value:.2}"),
        };
        let peer = figure.peer.map_or("-".into(), value);
        let ratio = figure.ratio.map_or("-".into(), |ratio| format!("{ratio:.2}"));
        println!("{:width$}  {:>12}  {peer:>12}  {ratio:>6}", figure.name, value(figure.ours));
    }
}
