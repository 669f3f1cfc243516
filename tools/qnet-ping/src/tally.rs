//! What came of all questions together.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// Running totals.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    times: Vec<Duration>,
    links: BTreeMap<String, u64>,
    silences: BTreeMap<String, u64>,
    silent: u64,
}

impl Tally {
    /// An answer came.
    pub(crate) fn answer(&mut self, rtt: Duration, link: &str) {
        self.times.push(rtt);
        *self.links.entry(link.to_owned()).or_default() += 1;
    }

    /// No answer came.
    pub(crate) fn silence(&mut self, why: String) {
        self.silent += 1;
        *self.silences.entry(why).or_default() += 1;
    }

    pub(crate) fn answered(&self) -> u64 {
        self.times.len() as u64
    }

    pub(crate) fn asked(&self) -> u64 {
        self.answered() + self.silent
    }

    /// The last lines.
    pub(crate) fn summary(&self, node: &str) -> String {
        let (asked, answered) = (self.asked(), self.answered());
        let lost = (self.silent * 100).checked_div(asked).unwrap_or(0);
        let mut text = format!("--- {node}\n{asked} asked, {answered} answered, {lost}% lost\n");
        // Writing to a string cannot fail, here and below.
        if let (Some(least), Some(most)) = (self.times.iter().min(), self.times.iter().max()) {
            let mean = self.times.iter().sum::<Duration>().as_secs_f64() / answered as f64;
            let ms = |seconds: f64| seconds * 1000.0;
            let (least, most) = (ms(least.as_secs_f64()), ms(most.as_secs_f64()));
            let _ = writeln!(text, "round trip min/avg/max = {least:.3}/{:.3}/{most:.3} ms", ms(mean));
        }
        let links: Vec<String> = self
            .links
            .iter()
            .filter(|(link, _)| !link.is_empty())
            .map(|(link, count)| format!("{link} {count}"))
            .collect();
        if !links.is_empty() {
            let _ = writeln!(text, "links: {}", links.join(", "));
        }
        for (why, count) in &self.silences {
            let _ = writeln!(text, "{count} times {why}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_tells_loss_times_links_and_reasons() {
        let mut tally = Tally::default();
        tally.answer(Duration::from_micros(100), "en0");
        tally.answer(Duration::from_micros(300), "en1");
        tally.answer(Duration::from_micros(200), "en0");
        tally.silence("no answer within 1 s".to_owned());
        let expected =
            "--- joseph\n4 asked, 3 answered, 25% lost\nround trip min/avg/max = 0.100/0.200/0.300 ms
links: en0 2, en1 1\n1 times no answer within 1 s\n";
        assert_eq!(tally.summary("joseph"), expected);
    }

    #[test]
    fn nothing_asked_is_no_loss() {
        assert_eq!(Tally::default().summary("joseph"), "--- joseph\n0 asked, 0 answered, 0% lost\n");
    }
}
