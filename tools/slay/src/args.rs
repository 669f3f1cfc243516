//! The command line: `slay [-SIGNAL] [options] name|pid…`.
//!
//! QNX writes a signal as an option of its own (`-9`, `-KILL`); it is turned into `-s 9` before the rest is parsed. `-h` is
//! "hold", so help is had by `--help` only.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ArgAction, Parser, ValueEnum};
use nix::sys::signal::Signal;

use crate::action::{Action, Cpus, Priority};

/// What a word on the command line may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Match {
    /// The name of a process
    Name,
    /// The number of a process
    Pid,
}

/// Signal processes by name or number, or change how they are scheduled
#[derive(Debug, Parser)]
#[command(name = "qnx-slay", version, disable_help_flag = true, after_help = EXAMPLES)]
struct RawArgs {
    /// Signal to send, a number or a name; also written as an option of its own: -9, -KILL, -SIGKILL [default: TERM]
    #[arg(short = 's', value_name = "SIGNAL", value_parser = signal)]
    signal: Option<Signal>,
    /// Hold: send SIGSTOP
    #[arg(short = 'h', conflicts_with_all = ["signal", "go_on"])]
    hold: bool,
    /// Let a held process go on: send SIGCONT
    #[arg(short = 'u', conflicts_with = "signal")]
    go_on: bool,
    /// Act on all processes of that name without asking
    #[arg(short = 'f')]
    force: bool,
    /// Ask for each process, even if there is only one; stronger than -f
    #[arg(short = 'q')]
    query: bool,
    /// Say nothing on standard error
    #[arg(short = 'Q')]
    quiet: bool,
    /// Only print the numbers of the processes, one a line
    #[arg(short = 'p', conflicts_with_all = ["signal", "hold", "go_on", "priority", "cpus", "mask"])]
    print: bool,
    /// Leave processes alone that have children
    #[arg(short = 'S')]
    childless: bool,
    /// Take the words for names only, or for numbers only
    #[arg(short = 'm', value_name = "WHAT", value_enum)]
    matching: Option<Match>,
    /// Only processes with this controlling terminal; /dev/ may be left out
    #[arg(short = 't', value_name = "TTY")]
    tty: Option<String>,
    /// Instead of a signal, set the priority: PRIO or PRIOo for nice (10 is nice 0), PRIOf for FIFO, PRIOr for round robin
    #[arg(short = 'P', value_name = "PRIO[f|r|o]", value_parser = Priority::parse)]
    priority: Option<Priority>,
    /// Instead of a signal, let them run on this processor only; may be given several times
    #[arg(short = 'C', value_name = "CPU", value_parser = clap::value_parser!(u32).range(0..1024))]
    cpus: Vec<u32>,
    /// The same with a mask: bit 0 stands for processor 0; 0x begins a hexadecimal one
    #[arg(short = 'R', value_name = "MASK", value_parser = mask, conflicts_with = "cpus")]
    mask: Option<u64>,
    /// With -C or -R: children too, as they always are on Linux
    #[arg(short = 'i')]
    _inherit: bool,
    /// With -P, -C or -R: only this thread, counted from 1 as in pidin, or by Linux's number [default: all]
    #[arg(short = 'T', value_name = "TID")]
    thread: Option<u32>,
    /// Act on processes of that node
    #[arg(short = 'n', value_name = "NODE", conflicts_with_all = ["priority", "cpus", "mask"])]
    node: Option<String>,
    /// Say what was done
    #[arg(short = 'v')]
    verbose: bool,
    /// Print help
    #[arg(long, action = ArgAction::HelpLong)]
    help: Option<bool>,
    /// Names without path, or numbers, of processes
    #[arg(value_name = "NAME|PID", required = true)]
    names: Vec<String>,
}

const EXAMPLES: &str = "Examples:
  slay io-pkt-v4-hc
  slay -f -9 sleep
  slay -P 15 4242
  slay -n joseph -f sleep

Exit status:
  the number of processes acted on, 0 also for a wrong call";

/// A call, understood.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// The words that mean processes.
    pub(crate) names: Vec<String>,
    /// Whose processes; `None` for this node's.
    pub(crate) node: Option<String>,
    /// What to take them for.
    pub(crate) matching: Option<Match>,
    /// The terminal, with its folder.
    pub(crate) tty: Option<String>,
    /// What to do.
    pub(crate) action: Action,
    pub(crate) force: bool,
    pub(crate) query: bool,
    pub(crate) quiet: bool,
    pub(crate) childless: bool,
    pub(crate) verbose: bool,
}

impl Wanted {
    /// Whether it is worth asking: printing a number harms nobody.
    pub(crate) fn asks(&self) -> bool {
        self.action != Action::Print
    }
}

/// Reads the arguments, the program's name first. What ends the program here has been printed.
pub(crate) fn read(args: impl Iterator<Item = OsString>) -> Result<Wanted, ExitCode> {
    let raw = RawArgs::try_parse_from(with_signal_option(args)).map_err(|error| {
        // Help is no error; its text and that of a wrong call go where they belong.
        let _ = error.print();
        ExitCode::SUCCESS
    })?;
    resolve(raw).map_err(|why| {
        eprintln!("slay: {why}");
        ExitCode::SUCCESS
    })
}

fn resolve(raw: RawArgs) -> Result<Wanted, String> {
    let cpus = match raw.mask {
        Some(mask) => Some(Cpus::of_mask(mask)),
        None if raw.cpus.is_empty() => None,
        None => Some(Cpus(raw.cpus)),
    };
    let signal = match (raw.hold, raw.go_on) {
        (true, _) => Some(Signal::SIGSTOP),
        (_, true) => Some(Signal::SIGCONT),
        _ => raw.signal,
    };
    let schedules = raw.priority.is_some() || cpus.is_some();
    if raw.thread.is_some() && !schedules {
        return Err("-T: a signal goes to a whole process; -T is for -P, -C and -R".to_owned());
    }
    if let Some(name) = raw.names.iter().find(|name| raw.node.is_some() && name.contains('/')) {
        return Err(format!("{name}: with -n a program goes by its name without a path"));
    }
    let action = if raw.print {
        Action::Print
    } else if schedules {
        Action::Schedule { priority: raw.priority, cpus, thread: raw.thread, signal }
    } else {
        Action::Signal(signal.unwrap_or(Signal::SIGTERM))
    };
    let with_folder = |tty: String| if tty.starts_with('/') { tty } else { format!("/dev/{tty}") };
    Ok(Wanted {
        names: raw.names,
        node: raw.node,
        matching: raw.matching,
        tty: raw.tty.map(with_folder),
        action,
        force: raw.force,
        query: raw.query,
        quiet: raw.quiet,
        childless: raw.childless,
        verbose: raw.verbose,
    })
}

/// Turns `-9` and `-KILL` into `-s 9` and `-s KILL`, as far as options go and unless they are the value of one.
fn with_signal_option(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut out: Vec<OsString> = Vec::new();
    let mut options = true;
    for arg in args {
        let is_value = out.last().is_some_and(takes_value);
        let text = arg.to_str().unwrap_or_default();
        options &= text != "--";
        let word = text.strip_prefix('-').filter(|word| word.len() > 1 || word.parse::<i32>().is_ok());
        match word.filter(|word| options && !is_value && !out.is_empty() && signal(word).is_ok()) {
            Some(word) => out.extend(["-s".into(), word.into()]),
            None => out.push(arg),
        }
    }
    out
}

fn takes_value(arg: &OsString) -> bool {
    let cluster = arg.to_str().and_then(|text| text.strip_prefix('-')).unwrap_or_default();
    !cluster.starts_with('-') && cluster.ends_with(['s', 'm', 't', 'P', 'C', 'R', 'T', 'n'])
}

/// A signal by number, or by name with or without SIG.
fn signal(text: &str) -> Result<Signal, String> {
    let unknown = || format!("{text} is no signal of this system");
    if let Ok(number) = text.parse::<i32>() {
        return Signal::try_from(number).map_err(|_| unknown());
    }
    let name = if text.starts_with("SIG") { text.to_owned() } else { format!("SIG{text}") };
    name.parse().map_err(|_| unknown())
}

fn mask(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    match parsed {
        Ok(0) => Err("a process needs one processor at least".to_owned()),
        Ok(mask) => Ok(mask),
        Err(_) => Err(format!("{text} is not a number of 64 bits")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Wanted {
        read(line.split(' ').map(OsString::from)).expect("a right call")
    }

    fn is_wrong(line: &str) -> bool {
        RawArgs::try_parse_from(with_signal_option(line.split(' ').map(OsString::from)))
            .map_err(|error| error.to_string())
            .and_then(resolve)
            .is_err()
    }

    #[test]
    fn a_signal_may_be_an_option_of_its_own() {
        for (line, signal) in [
            ("slay x", Signal::SIGTERM),
            ("slay -9 x", Signal::SIGKILL),
            ("slay -KILL x", Signal::SIGKILL),
            ("slay -SIGHUP x", Signal::SIGHUP),
            ("slay -f -1 x", Signal::SIGHUP),
            ("slay -s USR1 x", Signal::SIGUSR1),
            ("slay -sUSR1 x", Signal::SIGUSR1),
            ("slay -s 15 x", Signal::SIGTERM),
            ("slay -h x", Signal::SIGSTOP),
            ("slay -u x", Signal::SIGCONT),
        ] {
            assert_eq!(call(line).action, Action::Signal(signal), "{line}");
        }
    }

    #[test]
    fn words_behind_the_options_are_names() {
        assert_eq!(call("slay -- -9").names, ["-9"]);
        assert_eq!(call("slay -f x 42").names, ["x", "42"]);
    }

    #[test]
    fn scheduling_comes_instead_of_a_signal() {
        let Action::Schedule { priority, cpus, thread, signal } = call("slay -P 15r -C 0 -C2 -T 3 x").action
        else {
            panic!("not scheduling")
        };
        assert_eq!(priority, Priority::parse("15r").ok());
        assert_eq!((cpus, thread, signal), (Some(Cpus(vec![0, 2])), Some(3), None));
        let Action::Schedule { cpus, signal, .. } = call("slay -R 0x5 -9 x").action else {
            panic!("not scheduling")
        };
        assert_eq!((cpus, signal), (Some(Cpus(vec![0, 2])), Some(Signal::SIGKILL)));
    }

    #[test]
    fn wrong_calls_are_found() {
        for line in [
            "slay",
            "slay -s NOPE x",
            "slay -99 x",
            "slay -T 1 x",
            "slay -R 0 x",
            "slay -p -9 x",
            "slay -P x y",
            "slay -m all x",
        ] {
            assert!(is_wrong(line), "{line}");
        }
    }

    #[test]
    fn a_terminal_is_below_dev() {
        assert_eq!(call("slay -t pts/3 x").tty.as_deref(), Some("/dev/pts/3"));
        assert_eq!(call("slay -t /dev/tty1 x").tty.as_deref(), Some("/dev/tty1"));
    }
}
