//! The table for people and the JSON for programs.

use bench_support::spread::Spread;
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

/// Ratio of a series to the better of the minimal forwarders, round by round; none when none of them took part.
fn ratio(of: &Series, all: &[Series], rate: fn(&Rates) -> f64) -> Option<Spread> {
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
            offered.map_or(0.0, |spread| spread.median),
            show(overload, 0),
            show(ratio(series, all, |r| r.overload), 2),
            show(loss_free, 0),
            show(ratio(series, all, |r| r.loss_free), 2),
        );
    }
}

/// The same as JSON.
#[must_use]
pub fn json(all: &[Series]) -> Value {
    let rows: Vec<Value> = all
        .iter()
        .map(|series| {
            let rate = |pick: fn(&Rates) -> f64| Spread::of(series.rounds.iter().map(pick)).map(Spread::json);
            json!({
                "forwarder": series.name,
                "bytes": series.size,
                "rounds": series.rounds.len(),
                "offered_per_second": rate(|r| r.offered),
                "overload_per_second": rate(|r| r.overload),
                "overload_ratio": ratio(series, all, |r| r.overload).map(Spread::json),
                "loss_free_per_second": rate(|r| r.loss_free),
                "loss_free_ratio": ratio(series, all, |r| r.loss_free).map(Spread::json),
            })
        })
        .collect();
    json!({"benchmark": "forward", "rows": rows})
}

/// A dash where there is nothing to show.
fn show(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or("–".to_owned(), |spread| spread.show(digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_taken_within_a_round() {
        let series = |name: &str, rates: [f64; 2]| Series {
            name: name.to_owned(),
            size: 64,
            rounds: rates.map(|overload| Rates { offered: 0.0, overload, loss_free: 0.0 }).to_vec(),
        };
        let all = [series("io-pkt bridge", [50.0, 10.0]), series("minimal, V2 ring", [100.0, 10.0])];
        let expected = Spread { min: 0.5, median: 0.75, max: 1.0 };
        assert_eq!(ratio(&all[0], &all, |r| r.overload), Some(expected));
        assert_eq!(ratio(&all[0], &all[..1], |r| r.overload), None);
    }
}
