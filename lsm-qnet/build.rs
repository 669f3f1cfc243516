//! Tells the statistics when Qnet was compiled, so that the same source always gives the same file.
//!
//! The date is `SOURCE_DATE_EPOCH`, else that of the last commit; without either it is "an unknown day". Never that of the
//! clock: two builds of one source must not differ.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let told = env::var("SOURCE_DATE_EPOCH").ok();
    let seconds = told.or_else(last_commit).and_then(|text| text.trim().parse::<i64>().ok());
    let date = seconds.map_or_else(|| "an unknown day".to_owned(), date);
    println!("cargo::rustc-env=QNET_COMPILED={date}");
}

/// Seconds since 1970 of the last commit, when this is a clone with git at hand.
fn last_commit() -> Option<String> {
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(log.trim()).exists() {
        println!("cargo::rerun-if-changed={}", log.trim());
    }
    git(&["log", "-1", "--format=%ct"])
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// `Nov 22 2026 at 05:26:36`, in UTC.
fn date(seconds: i64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years that begin in March have their leap day at their end; 719468 days lie between 0000-03-01 and 1970-01-01.
    let day = days + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12;
    let year = era * 400 + year + i64::from(month < 2);
    let month = MONTHS[usize::try_from(month).unwrap_or_default()];
    let (hour, minute, second) = (rest / 3600, rest % 3600 / 60, rest % 60);
    format!("{month} {of_month:02} {year} at {hour:02}:{minute:02}:{second:02}")
}
