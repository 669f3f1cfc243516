//! `pidin mem`: one line per thread, then one line per module build.
//!
//! ```text
//!      pid tid name               prio STATE             code   data        stack
//!     4242   1 sbin/io-pkt-v4-hc   20o SLEEPING         1820K   672K   8192(132K)
//!             devn-packet.so     @7f21c3a00000           128K   4096 /opt/lib/io-pkt/devn-packet.so en0
//! ```
//!
//! A thread with a name of its own (`packet 1`, of `io-pkt -t 2`) has that in place of the program's; a driver that runs on it
//! has it behind its own name.
//!
//! DEVIATION: module lines also name the file and the uses; states are Linux's, a thread is never RECEIVE-blocked.

use std::fmt::Write;
use std::path::Path;

use ctl::report::Thread;
use ctl::{Build, Modules, UseState};

/// Width of the name column; of a longer name the right end is kept.
const NAME: usize = 18;

const HEADING: &str = "     pid tid name               prio STATE             code   data        stack\n";

/// The report for these processes.
pub(crate) fn table(processes: &[Modules]) -> String {
    let mut text = HEADING.to_owned();
    for process in processes {
        let program = right_end(&process.program, NAME);
        let main = process.threads.first().map(|thread| thread.name.as_str());
        for (index, thread) in process.threads.iter().enumerate() {
            let name = if Some(thread.name.as_str()) == main { &program } else { &thread.name };
            text.push_str(&thread_line(process, name, index + 1, thread));
        }
        for build in &process.builds {
            text.push_str(&build_line(build));
        }
        for failed in &process.failed {
            let reason = failed.reason.as_deref().unwrap_or("no reason given");
            // Writing to a string cannot fail, here and below.
            let _ = writeln!(text, "{:12}{} ({}) failed: {reason}", "", failed.name, failed.module);
        }
    }
    text
}

/// Threads are counted from 1, as in QNX; Linux's own numbers are longer than the column.
fn thread_line(process: &Modules, name: &str, number: usize, thread: &Thread) -> String {
    format!(
        "{:>8} {:>3} {name:<NAME$} {:>4} {:<15} {:>6} {:>6} {:>12}\n",
        process.version.pid,
        number,
        priority(thread.priority),
        state(thread.state),
        size(process.code),
        size(process.data),
        stack(thread),
    )
}

fn build_line(build: &Build) -> String {
    let name = format!("{}.so", build.name);
    let mut line = format!(
        "{:12}{name:<NAME$} {:<21}{:>7} {:>6} {}",
        "",
        format!("@{:x}", build.address),
        size(build.code),
        size(build.data),
        build.path.display(),
    );
    for one in &build.uses {
        let mark = if one.state == UseState::Failed { " (failed)" } else { "" };
        let _ = write!(line, " {}{mark}", one.name);
        if one.thread > 0 {
            // As the thread is called in the lines above.
            let _ = write!(line, " (packet {})", one.thread);
        }
    }
    if build.uses.is_empty() {
        line.push_str(" (not in use)");
    }
    line.push('\n');
    line
}

/// Linux's number for real-time priorities is negative, minus one further.
fn priority(kernel: i64) -> String {
    if kernel < 0 { format!("{}r", -1 - kernel) } else { format!("{kernel}o") }
}

fn state(letter: char) -> &'static str {
    match letter {
        'R' => "RUNNING",
        'S' => "SLEEPING",
        'D' => "DISK",
        'I' => "IDLE",
        'T' | 't' => "STOPPED",
        'Z' | 'X' => "DEAD",
        _ => "?",
    }
}

fn stack(thread: &Thread) -> String {
    let shown = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), size);
    format!("{}({})", shown(thread.stack_used), shown(thread.stack_size))
}

/// Small sizes in bytes, larger ones in K and M, as the original does.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => bytes.to_string(),
        10_000..10_240_000 => format!("{}K", bytes / 1024),
        _ => format!("{}M", bytes / (1024 * 1024)),
    }
}

/// The end of a path that fits: `sbin/io-pkt-v4-hc`.
fn right_end(path: &Path, width: usize) -> String {
    let text = path.to_string_lossy();
    let text = text.trim_start_matches('/');
    let skip = text.chars().count().saturating_sub(width);
    text.chars().skip(skip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(4096), "4096");
        assert_eq!(size(168 * 1024), "168K");
        assert_eq!(size(64 << 20), "64M");
    }

    #[test]
    fn of_a_long_path_the_right_end_is_kept() {
        assert_eq!(right_end(Path::new("/usr/sbin/io-pkt-v4-hc"), 18), "r/sbin/io-pkt-v4-hc"[1..].to_owned());
        assert_eq!(right_end(Path::new("/sbin/io-pkt"), 18), "sbin/io-pkt");
    }

    #[test]
    fn real_time_priorities_are_told_apart() {
        assert_eq!(priority(20), "20o");
        assert_eq!(priority(-51), "50r");
    }

    #[test]
    fn columns_stand_below_their_headings() {
        let thread = Thread {
            tid: 1,
            name: "io-pkt".into(),
            state: 'S',
            priority: 20,
            stack_used: Some(8192),
            stack_size: Some(132 * 1024),
        };
        let end = |text: &str, word: &str| text.find(word).map(|at| at + word.len());
        let line =
            format!("{:>8} {:>3} {:<NAME$} {:>4}", 42, thread.tid, "sbin/io-pkt", priority(thread.priority));
        assert_eq!(end(HEADING, "prio"), end(&line, "20o"));
        assert_eq!(stack(&thread), "8192(132K)");
    }
}
