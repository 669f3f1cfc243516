//! The table for people and the JSON for programs.

use serde_json::{Value, json};

use crate::measure::Rates;

/// All rounds of one forwarder and frame size.
#[derive(Clone, Debug)]
pub struct Series {
    /// Forwarder.
    pub name: String,
    /// Frame size in bytes, without the checksum.
    pub size: usize,
    /// One measurement a round.
    pub rounds: Vec<Rates>,
}

/// Minimum, median and maximum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Smallest.
    pub min: f64,
    /// Middle one, or the mean of the middle two.
    pub median: f64,
    /// Largest.
    pub max: f64,
}

impl Spread {
    /// Of those values; zeros when there are none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let Some((&min, &max)) = values.first().zip(values.last()) else {
            return Self { min: 0.0, median: 0.0, max: 0.0 };
        };
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Self { min, median, max }
    }

    fn json(self) -> Value {
        json!({"min": self.min, "median": self.median, "max": self.max})
    }
}

/// Ratio of a series to the better of the minimal forwarders, round by round.
fn ratio(of: &Series, all: &[Series], rate: fn(&Rates) -> f64) -> Spread {
    let yardsticks: Vec<&Series> =
        all.iter().filter(|series| series.size == of.size && series.name.starts_with("minimal")).collect();
    Spread::of(of.rounds.iter().enumerate().filter_map(|(round, rates)| {
        let best = yardsticks.iter().filter_map(|y| y.rounds.get(round)).map(rate).fold(0.0, f64::max);
        (best > 0.0).then(|| rate(rates) / best)
    }))
}

/// Prints the table to standard output.
pub fn print(all: &[Series]) {
    println!(
        "rates in thousand frames a second: median (minimum to maximum) of the rounds; ratio to the better minimal"
    );
    println!("forwarder of the same round\n");
    println!("| forwarder | bytes | offered | overload | ratio | loss-free | ratio |");
    println!("|---|---|---|---|---|---|---|");
    for series in all {
        let rate = |pick: fn(&Rates) -> f64| Spread::of(series.rounds.iter().map(|r| pick(r) / 1e3));
        let (offered, overload, loss_free) =
            (rate(|r| r.offered), rate(|r| r.overload), rate(|r| r.loss_free));
        println!(
            "| {} | {} | {:.0} | {} | {} | {} | {} |",
            series.name,
            series.size,
            offered.median,
            show(overload, 0),
            show_ratio(ratio(series, all, |r| r.overload)),
            show(loss_free, 0),
            show_ratio(ratio(series, all, |r| r.loss_free)),
        );
    }
}

/// The same as JSON.
#[must_use]
pub fn json(all: &[Series]) -> Value {
    let rows: Vec<Value> = all
        .iter()
        .map(|series| {
            let rate = |pick: fn(&Rates) -> f64| Spread::of(series.rounds.iter().map(pick)).json();
            json!({
                "forwarder": series.name,
                "bytes": series.size,
                "rounds": series.rounds.len(),
                "offered_per_second": rate(|r| r.offered),
                "overload_per_second": rate(|r| r.overload),
                "overload_ratio": ratio(series, all, |r| r.overload).json(),
                "loss_free_per_second": rate(|r| r.loss_free),
                "loss_free_ratio": ratio(series, all, |r| r.loss_free).json(),
            })
        })
        .collect();
    json!({"benchmark": "forward", "rows": rows})
}

fn show(spread: Spread, digits: usize) -> String {
    format!("{:.digits$} ({:.digits$} to {:.digits$})", spread.median, spread.min, spread.max)
}

/// A dash when no minimal forwarder took part.
fn show_ratio(ratio: Spread) -> String {
    if ratio.max > 0.0 { show(ratio, 2) } else { "–".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]), Spread { min: 1.0, median: 2.5, max: 4.0 });
    }

    #[test]
    fn the_ratio_is_taken_within_a_round() {
        let series = |name: &str, rates: [f64; 2]| Series {
            name: name.to_owned(),
            size: 64,
            rounds: rates.map(|overload| Rates { offered: 0.0, overload, loss_free: 0.0 }).to_vec(),
        };
        let all = [series("io-pkt bridge", [50.0, 10.0]), series("minimal, V2 ring", [100.0, 10.0])];
        assert_eq!(ratio(&all[0], &all, |r| r.overload), Spread { min: 0.5, median: 0.75, max: 1.0 });
    }
}
