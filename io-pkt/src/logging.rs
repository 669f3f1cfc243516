//! Logging: `tracing` to stderr, with a filter that can be changed while the daemon runs.
//!
//! On a terminal a line has a time and colours. Under systemd it has the journal's priority prefix instead, because
//! the journal adds the time. In the background, with stderr gone, lines go to the system log (`/dev/log`), as
//! QNX's go to slogger. Lines of modules carry the name of the use in front (`en0: link is up`).

mod line;
mod sink;

use std::{env, io, sync::OnceLock};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{EnvFilter, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

use line::LineFormat;
pub use sink::detach;
use sink::{Sink, Style};

type Handle = reload::Handle<EnvFilter, Registry>;

static HANDLE: OnceLock<Handle> = OnceLock::new();

/// Starts logging. `verbose` is the number of `-v`: 0 info, 1 debug, 2 trace; `RUST_LOG` wins when it is set.
///
/// # Errors
/// A sentence when `RUST_LOG` cannot be read as a filter, or when logging has been started before.
pub fn start(verbose: u8) -> Result<(), String> {
    let filter = match env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => parse(&text).map_err(|e| format!("RUST_LOG: {e}"))?,
        _ => EnvFilter::new(["info", "debug", "trace"][usize::from(verbose.min(2))]),
    };
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer()
        .event_format(LineFormat)
        .with_ansi(Style::of_stderr() == Style::Terminal)
        .with_writer(|| Sink);
    tracing_subscriber::registry().with(filter).with(lines).try_init().map_err(|e| e.to_string())?;
    HANDLE.set(handle).map_err(|_| "logging was started before".to_owned())
}

/// The filter in force.
#[must_use]
pub fn filter() -> String {
    HANDLE.get().and_then(|handle| handle.with_current(ToString::to_string).ok()).unwrap_or_default()
}

/// Changes the filter.
///
/// # Errors
/// A sentence when it cannot be read.
pub fn set_filter(text: &str) -> Result<(), String> {
    let filter = parse(text)?;
    let handle = HANDLE.get().ok_or("logging was not started")?;
    handle.reload(filter).map_err(|e| e.to_string())
}

/// The most detailed level that is kept, as modules are told: 0 none … 5 trace.
#[must_use]
pub fn module_level() -> u32 {
    match LevelFilter::current() {
        LevelFilter::OFF => 0,
        LevelFilter::ERROR => 1,
        LevelFilter::WARN => 2,
        LevelFilter::INFO => 3,
        LevelFilter::DEBUG => 4,
        _ => 5,
    }
}

/// Writes a line for a module. `level` as in the ABI: 1 error … 5 trace; other values count as trace.
pub fn module_line(name: &str, level: u32, text: &str) {
    // Some modules begin with their own name, as they would have to elsewhere.
    let text = text.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(text);
    match level {
        1 => tracing::error!(target: "module", subject = name, "{text}"),
        2 => tracing::warn!(target: "module", subject = name, "{text}"),
        3 => tracing::info!(target: "module", subject = name, "{text}"),
        4 => tracing::debug!(target: "module", subject = name, "{text}"),
        _ => tracing::trace!(target: "module", subject = name, "{text}"),
    }
}

/// A filter in the syntax of `RUST_LOG`; a level that does not exist is an error, not the name of a target. With a level
/// behind it any target is fine: the helpers and other programs of the environment read the same variable.
fn parse(text: &str) -> Result<EnvFilter, String> {
    let known = ["off", "error", "warn", "info", "debug", "trace", "io_pkt", "module", "mio"];
    for part in text.split(',') {
        let word = part.split(['=', '[']).next().unwrap_or_default().trim().to_ascii_lowercase();
        let root = word.split("::").next().unwrap_or_default();
        let has_level = part.split_once('=').is_some_and(|(target, _)| !target.trim().is_empty());
        let number = !word.is_empty() && word.chars().all(|c| c.is_ascii_digit());
        if !number && !has_level && !known.contains(&root) {
            return Err(format!(
                "`{part}` is not a log filter; levels are off, error, warn, info, debug, trace, for all or for \
                 one target: io_pkt=debug, module=trace"
            ));
        }
    }
    EnvFilter::builder().parse(text).map_err(|e| format!("`{text}` is not a log filter: {}", chain(&e)))
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Writes one error to stderr before logging has been started.
pub fn say(text: impl std::fmt::Display) {
    // Nobody can be told when stderr is gone.
    let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("io-pkt: {text}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_levels_and_targets() {
        for good in [
            "info,qnet_netfs=debug,hyper=warn",
            "debug",
            "info,module=trace",
            "off",
            "io_pkt=debug",
            "io_pkt::registry=trace,warn",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_misspelt_level_is_named() {
        for bad in ["loud", "", "info,,", "module=loud", "=debug", "hyper"] {
            let error = parse(bad).unwrap_err();
            assert!(error.contains("not a log filter"), "{bad}: {error}");
        }
    }
}
