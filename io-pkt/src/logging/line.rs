//! What a log line looks like.
//!
//! ```text
//! 2026-11-22T03:39:14.845385Z  INFO en0: mounted devn-segment (path=/tmp/seg)      terminal, file
//! <6>en0: mounted devn-segment (path=/tmp/seg)                                     journal, system log
//! ```

use std::fmt;

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer, time::FormatTime},
    registry::LookupSpan,
};

use super::sink::Style;

/// Formats one event: time (terminal only), level, subject, text, other fields.
pub(super) struct LineFormat;

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = *event.metadata().level();
        match Style::current() {
            // The journal and syslog read the priority from the prefix and add the time themselves.
            Style::Journal | Style::Syslog => write!(out, "<{}>", priority(level))?,
            Style::Terminal | Style::Plain => {
                tracing_subscriber::fmt::time::SystemTime.format_time(&mut out)?;
                let (on, off) = if out.has_ansi_escapes() { colour(level) } else { ("", "") };
                write!(out, " {on}{level:>5}{off} ")?;
            }
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        if !fields.subject.is_empty() {
            write!(out, "{}: ", fields.subject)?;
        }
        // One event is one line, whatever text a module or a peer got into it.
        let text = fields.message.replace('\n', "\\n").replace('\r', "\\r");
        writeln!(out, "{text}{}", fields.rest)
    }
}

/// The number that syslog gives a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

fn colour(level: Level) -> (&'static str, &'static str) {
    match level {
        Level::ERROR => ("\x1b[31m", "\x1b[0m"),
        Level::WARN => ("\x1b[33m", "\x1b[0m"),
        Level::INFO => ("\x1b[32m", "\x1b[0m"),
        _ => ("\x1b[2m", "\x1b[0m"),
    }
}

#[derive(Default)]
struct Fields {
    subject: String,
    message: String,
    rest: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "subject" => value.clone_into(&mut self.subject),
            "message" => value.clone_into(&mut self.message),
            name => self.rest.push_str(&format!(" {name}={value}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "subject" => self.subject = format!("{value:?}"),
            "message" => self.message = format!("{value:?}"),
            name => self.rest.push_str(&format!(" {name}={value:?}")),
        }
    }
}
