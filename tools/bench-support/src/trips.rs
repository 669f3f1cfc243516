//! Round trips: how many of what kind are wanted, and what came of it.
//!
//! Between a benchmark and its parts both are a line of numbers, so that parts can be written in any language.

use std::{
    io::{self, BufRead},
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::time::{ClockId, clock_gettime};

/// What is wanted. As a line: `SIZE BACK IN_FLIGHT NANOS PAUSE START`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Bytes of a message.
    pub size: usize,
    /// Bytes of the answer: all of the message's, or none.
    pub echo: bool,
    /// Messages under way at a time.
    pub in_flight: usize,
    /// How long.
    pub span: Duration,
    /// Silence before each trip.
    pub pause: Duration,
    /// Start at this time of [`monotonic`] without warming up, so that many start together; zero: at once.
    pub start: Duration,
}

impl Plan {
    /// Trips there and back, one at a time, without pauses.
    #[must_use]
    pub fn echo(size: usize, span: Duration) -> Self {
        Self { size, echo: true, in_flight: 1, span, pause: Duration::ZERO, start: Duration::ZERO }
    }

    /// As a line for a part.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { size, in_flight, .. } = self;
        let [span, pause, start] = [self.span, self.pause, self.start].map(|time| time.as_nanos());
        format!("{size} {} {in_flight} {span} {pause} {start}", u8::from(self.echo))
    }
}

impl FromStr for Plan {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let words: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let &[size, echo, in_flight, span, pause, start] = words.as_slice() else {
            bail!("`{line}`: SIZE BACK IN_FLIGHT NANOS PAUSE START is expected");
        };
        let [span, pause, start] = [span, pause, start].map(Duration::from_nanos);
        ensure!(in_flight > 0, "at least one message must be under way");
        Ok(Self {
            size: usize::try_from(size)?,
            echo: echo != 0,
            in_flight: usize::try_from(in_flight)?,
            span,
            pause,
            start,
        })
    }
}

/// What came of it. As a line: `ALL COUNT NANOS P50 P99`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trips {
    /// All trips, those to warm up too.
    pub all: u64,
    /// Those that were measured.
    pub count: u64,
    /// They took that long, nanoseconds; pauses do not count.
    pub nanos: u64,
    /// Half of them took no longer, nanoseconds.
    pub p50: u64,
    /// 99 of a hundred took no longer, nanoseconds.
    pub p99: u64,
}

impl Trips {
    /// Of the times of some trips, in any order, that took `nanos` together.
    #[must_use]
    pub fn of(all: u64, nanos: u64, mut times: Vec<u32>) -> Self {
        times.sort_unstable();
        let at = |percent: usize| times.get(times.len() * percent / 100).copied().map_or(0, u64::from);
        Self { all, count: times.len() as u64, nanos, p50: at(50), p99: at(99) }
    }

    /// As a line for the benchmark.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { all, count, nanos, p50, p99 } = self;
        format!("{all} {count} {nanos} {p50} {p99}")
    }

    /// Trips a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.count as f64 * 1e9 / self.nanos.max(1) as f64
    }

    /// Mean time of a trip, seconds.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.nanos as f64 / self.count.max(1) as f64 / 1e9
    }
}

impl FromStr for Trips {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let words: Vec<u64> = line
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .with_context(|| format!("`{line}` is no result"))?;
        let &[all, count, nanos, p50, p99] = words.as_slice() else { bail!("`{line}` is no result") };
        Ok(Self { all, count, nanos, p50, p99 })
    }
}

/// The clock that all processes of a machine share.
///
/// # Errors
/// The kernel has none.
pub fn monotonic() -> Result<Duration> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?))
}

/// Answers plans on standard input with results on standard output, until it ends.
///
/// # Errors
/// A plan is none, or it failed.
pub fn answer(mut measure: impl FnMut(Plan) -> Result<Trips>) -> Result<()> {
    for line in io::stdin().lock().lines() {
        println!("{}", measure(line?.parse()?)?.line());
    }
    Ok(())
}

/// Makes trips for as long as the plan says: number of all, and the times of those that count.
///
/// # Errors
/// A trip failed.
pub fn repeat(plan: &Plan, mut trip: impl FnMut() -> Result<()>) -> Result<(u64, Vec<u32>)> {
    let mut all = 0;
    if plan.start.is_zero() {
        let warm = Instant::now() + plan.span / 10;
        while all < 4 || Instant::now() < warm {
            trip()?;
            all += 1;
        }
    }
    let end = if plan.start.is_zero() { monotonic()? } else { plan.start } + plan.span;
    std::thread::sleep(plan.start.saturating_sub(monotonic()?));
    let last = Instant::now() + end.saturating_sub(monotonic()?);
    let mut times = Vec::new();
    let mut before = Instant::now();
    while before < last {
        if !plan.pause.is_zero() {
            std::thread::sleep(plan.pause);
            before = Instant::now();
        }
        trip()?;
        let after = Instant::now();
        times.push(u32::try_from((after - before).as_nanos()).unwrap_or(u32::MAX));
        before = after;
    }
    Ok((all + times.len() as u64, times))
}

/// Makes trips one at a time.
///
/// # Errors
/// A trip failed.
pub fn take(plan: &Plan, trip: impl FnMut() -> Result<()>) -> Result<Trips> {
    let (all, times) = repeat(plan, trip)?;
    let nanos = times.iter().copied().map(u64::from).sum();
    Ok(Trips::of(all, nanos, times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_parts_say_to_each_other_is_understood() {
        let plan = Plan {
            in_flight: 4,
            pause: Duration::from_micros(300),
            ..Plan::echo(64, Duration::from_millis(5))
        };
        assert_eq!(plan.line().parse::<Plan>().unwrap(), plan);
        assert!("64 1 0 1 0 0".parse::<Plan>().is_err(), "nothing under way");
        let trips = Trips { all: 9, count: 7, nanos: 700, p50: 99, p99: 120 };
        assert_eq!(trips.line().parse::<Trips>().unwrap(), trips);
        assert!("ready".parse::<Trips>().is_err());
    }

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let trips = Trips::of(100, 5050, (1..=100).rev().collect());
        assert_eq!((trips.p50, trips.p99, trips.count), (51, 100, 100));
        assert!((trips.rate() - 100.0 * 1e9 / 5050.0).abs() < 1e-3);
        assert_eq!(Trips::of(0, 0, Vec::new()).p50, 0);
    }

    #[test]
    fn every_trip_counts_and_those_before_are_not_measured() {
        let mut made = 0;
        let trips = take(&Plan::echo(1, Duration::from_millis(1)), || {
            made += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(trips.all, made);
        assert!(trips.count > 0 && trips.count + 4 <= trips.all);
    }
}
