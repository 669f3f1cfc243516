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
    /// The lines, in order.
    pub lines: Vec<Line>,
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(title: String, unit: &'static str, digits: usize, yardsticks: &[&'static str]) -> Self {
        Self { title, unit, digits, yardsticks: yardsticks.to_vec(), lines: Vec::new() }
    }

    /// Adds the value of a round to a line.
    pub fn add(&mut self, name: &str, value: f64) {
        eprintln!("{}: {name}: {value:.1$} {unit}", self.title, self.digits, unit = self.unit);
        match self.lines.iter_mut().find(|line| line.name == name) {
            Some(line) => line.rounds.push(value),
            None => self.lines.push(Line { name: name.to_owned(), rounds: vec![value] }),
        }
    }

    /// Ratios of a line to another, round by round.
    #[must_use]
    pub fn ratio(&self, line: &Line, to: &str) -> Option<Spread> {
        let to = self.lines.iter().find(|line| line.name == to)?;
        Spread::of(line.rounds.iter().zip(&to.rounds).filter(|(_, to)| **to > 0.0).map(|(a, b)| a / b))
    }

    fn print(&self) {
        println!("\n{}: {}, median (minimum to maximum) of the rounds\n", self.title, self.unit);
        let ratios: Vec<String> = self.yardsticks.iter().map(|name| format!(" to {name} |")).collect();
        println!("| line | {} |{}", self.unit, ratios.concat());
        println!("|---|---|{}", "---|".repeat(self.yardsticks.len()));
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
            println!("| {} | {} |{}", line.name, spread.show(self.digits), cells.concat());
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
                json!({"line": line.name, "rounds": line.rounds, "spread": spread, "ratios": ratios})
            })
            .collect();
        json!({"title": self.title, "unit": self.unit, "lines": lines})
    }
}

/// Prints all tables and writes them as JSON.
///
/// # Errors
/// The file cannot be written.
pub fn publish(tables: &[Table], path: &Path) -> Result<()> {
    tables.iter().for_each(Table::print);
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let tables: Vec<Value> = tables.iter().map(Table::json).collect();
    let all = json!({"benchmark": "qnet", "machine": machine(), "tables": tables});
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
