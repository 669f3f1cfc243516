//! The tables for people and the JSON for programs.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::spread::Spread;

/// One measured thing in a table: a value for each round.
#[derive(Clone, Debug)]
pub struct Line {
    /// Name.
    pub name: String,
    /// The rounds' values, in the table's unit.
    pub rounds: Vec<f64>,
    /// The rounds' values for the table's further columns.
    pub more: Vec<Vec<f64>>,
}

/// A further column: no ratios are made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its head.
    pub name: &'static str,
    /// Digits behind the point.
    pub digits: usize,
}

/// Lines that are compared with each other.
#[derive(Clone, Debug)]
pub struct Table {
    /// What it is about.
    pub title: String,
    /// Unit of the values.
    pub unit: &'static str,
    /// Digits behind the point.
    pub digits: usize,
    /// Names of the lines that all others are divided by.
    pub yardsticks: Vec<&'static str>,
    /// Further columns.
    pub columns: Vec<Column>,
    /// The lines, in order.
    pub lines: Vec<Line>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(title: String, unit: &'static str, digits: usize, yardsticks: &[&'static str]) -> Self {
        let yardsticks = yardsticks.to_vec();
        Self { title, unit, digits, yardsticks, columns: Vec::new(), lines: Vec::new() }
    }

    /// The same with further columns.
    #[must_use]
    pub fn with_columns(self, columns: &[(&'static str, usize)]) -> Self {
        let columns = columns.iter().map(|&(name, digits)| Column { name, digits }).collect();
        Self { columns, ..self }
    }

    /// Adds the value of a round to a line.
    pub fn add(&mut self, name: &str, value: f64) {
        self.add_row(name, value, &[]);
    }

    /// Adds the values of a round to a line: one in the table's unit, and one for each further column.
    pub fn add_row(&mut self, name: &str, value: f64, more: &[f64]) {
        eprintln!("{}: {name}: {value:.1$} {unit}", self.title, self.digits, unit = self.unit);
        let index = self.lines.iter().position(|line| line.name == name).unwrap_or_else(|| {
            let more = vec![Vec::new(); self.columns.len()];
            self.lines.push(Line { name: name.to_owned(), rounds: Vec::new(), more });
            self.lines.len() - 1
        });
        let line = &mut self.lines[index];
        line.rounds.push(value);
        line.more.iter_mut().zip(more).for_each(|(column, value)| column.push(*value));
    }

    /// Ratios of a line to another, round by round.
    #[must_use]
    pub fn ratio(&self, line: &Line, to: &str) -> Option<Spread> {
        let to = self.lines.iter().find(|line| line.name == to)?;
        Spread::of(line.rounds.iter().zip(&to.rounds).filter(|(_, to)| **to > 0.0).map(|(a, b)| a / b))
    }

    fn print(&self) {
        println!("\n{}: {}, median (minimum to maximum) of the rounds\n", self.title, self.unit);
        let ratios = self.yardsticks.iter().map(|name| format!(" to {name} |"));
        let heads: String =
            ratios.chain(self.columns.iter().map(|column| format!(" {} |", column.name))).collect();
        println!("| line | {} |{heads}", self.unit);
        println!("|---|---|{}", "---|".repeat(self.yardsticks.len() + self.columns.len()));
        for line in &self.lines {
            let Some(spread) = Spread::of(line.rounds.iter().copied()) else { continue };
            let cells: Vec<String> = self
                .yardsticks
                .iter()
                .map(|name| match self.ratio(line, name) {
                    Some(ratio) => format!(" {} |", ratio.show(2)),
                    None => " – |".to_owned(),
                })
                .collect();
            let more = self.columns.iter().zip(&line.more).map(|(column, rounds)| {
                let spread = Spread::of(rounds.iter().copied());
                spread
                    .map_or_else(|| " – |".to_owned(), |spread| format!(" {} |", spread.show(column.digits)))
            });
            let (cells, more) = (cells.concat(), more.collect::<String>());
            println!("| {} | {} |{cells}{more}", line.name, spread.show(self.digits));
        }
    }

    fn json(&self) -> Value {
        let lines: Vec<Value> = self
            .lines
            .iter()
            .map(|line| {
                let ratios: serde_json::Map<String, Value> = self
                    .yardsticks
                    .iter()
                    .filter_map(|name| Some(((*name).to_owned(), self.ratio(line, name)?.json())))
                    .collect();
                let spread = Spread::of(line.rounds.iter().copied()).map(Spread::json);
                let more: serde_json::Map<String, Value> = self
                    .columns
                    .iter()
                    .zip(&line.more)
                    .map(|(column, rounds)| (column.name.to_owned(), json!(rounds)))
                    .collect();
                let name = &line.name;
                json!({"line": name, "rounds": line.rounds, "spread": spread, "ratios": ratios, "more": more})
            })
            .collect();
        json!({"title": self.title, "unit": self.unit, "lines": lines})
    }
}

/// Prints all tables of a benchmark and writes them as JSON.
///
/// # Errors
/// The file cannot be written.
pub fn publish(benchmark: &str, tables: &[Table], path: &Path) -> Result<()> {
    tables.iter().for_each(Table::print);
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let tables: Vec<Value> = tables.iter().map(Table::json).collect();
    let all = json!({"benchmark": benchmark, "machine": machine(), "tables": tables});
    std::fs::write(path, serde_json::to_string_pretty(&all)?)
        .with_context(|| format!("{}", path.display()))?;
    println!("\nwritten to {}", path.display());
    Ok(())
}

/// Processor, number of CPUs, kernel.
fn machine() -> Value {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    json!({"processor": model.map(|(_, name)| name), "cpus": count, "kernel": kernel.trim()})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let mut table = Table::new("bulk".to_owned(), "MB/s", 0, &["flood"]);
        for (ours, flood) in [(50.0, 100.0), (10.0, 10.0)] {
            table.add("wire", ours);
            table.add("flood", flood);
        }
        let ratio = table.ratio(&table.lines[0], "flood");
        assert_eq!(ratio, Some(Spread { min: 0.5, median: 0.75, max: 1.0 }));
        assert_eq!(table.ratio(&table.lines[0], "nobody"), None);
    }
}
