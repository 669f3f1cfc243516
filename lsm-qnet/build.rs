//! Tells the statistics when Qnet was compiled, so that the same source always gives the same file.
//!
//! The date is `SOURCE_DATE_EPOCH`, else that of the last commit; without either it is "an unknown day". Never that of the
//! clock: two builds of one source must not differ.

use std::env;
use std::path::Path;
use std::process::Command;

use qnet_iomsg::calendar::Utc;

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
    let Utc { year, month, day, hour, minute, second } = Utc::of(seconds);
    format!("{month} {day:02} {year} at {hour:02}:{minute:02}:{second:02}")
}
