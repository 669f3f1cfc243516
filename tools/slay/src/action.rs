//! What is done to a process.
//!
//! DEVIATION: QNX's priorities 1 to 255 exist on Linux only as far as they fit: FIFO and round robin go from 1 to 99, and an
//! ordinary priority is a nice value (10, QNX's usual one, is nice 0; each step up is one step of nice down).

use std::fmt;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use crate::process::Process;
use crate::sys;

/// QNX's usual priority of a process, which stands for nice 0.
const USUAL: i32 = 10;

/// What is wanted of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send a signal.
    Signal(Signal),
    /// Change how it runs, then perhaps send a signal.
    Schedule { priority: Option<Priority>, cpus: Option<Cpus>, thread: Option<u32>, signal: Option<Signal> },
    /// Print its number.
    Print,
}

/// A priority with its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    /// `SCHED_OTHER` with this nice value.
    Nice(i32),
    /// `SCHED_FIFO`.
    Fifo(i32),
    /// `SCHED_RR`.
    RoundRobin(i32),
}

impl Priority {
    /// `15`, `15o`, `15f`, `15r`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (digits, policy) = match text.find(|c: char| !c.is_ascii_digit()) {
            Some(at) => text.split_at(at),
            None => (text, "o"),
        };
        let number: i32 = digits.parse().map_err(|_| format!("{text} does not begin with a priority"))?;
        let real_time = |number| match number {
            1..=99 => Ok(number),
            _ => Err(format!("{text}: Linux has real-time priorities from 1 to 99")),
        };
        match policy {
            "o" if (1..=255).contains(&number) => Ok(Self::Nice((USUAL - number).clamp(-20, 19))),
            "o" => Err(format!("{text}: priorities go from 1 to 255")),
            "f" => real_time(number).map(Self::Fifo),
            "r" => real_time(number).map(Self::RoundRobin),
            _ => Err(format!("{text}: behind the priority stands f, r, o or nothing")),
        }
    }
}

/// Processors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cpus(pub(crate) Vec<u32>);

impl Cpus {
    /// Those whose bits are set.
    pub(crate) fn of_mask(mask: u64) -> Self {
        Self((0..64).filter(|bit| mask & 1 << bit != 0).collect())
    }
}

impl Action {
    /// Does it.
    pub(crate) fn apply(&self, process: &Process) -> Result<(), String> {
        match self {
            Self::Print => println!("{}", process.pid),
            Self::Signal(signal) => send(process, *signal)?,
            Self::Schedule { priority, cpus, thread, signal } => {
                for tid in threads(process, *thread)? {
                    let told = |what: &str, result: Result<(), Errno>| {
                        result.map_err(|errno| format!("{what}: {}", errno.desc()))
                    };
                    if let Some(priority) = priority {
                        told("-P", set_priority(tid, *priority))?;
                    }
                    if let Some(Cpus(cpus)) = cpus {
                        told("-C or -R", sys::set_affinity(tid, cpus))?;
                    }
                }
                if let Some(signal) = signal {
                    send(process, *signal)?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Print => f.write_str("print"),
            Self::Signal(signal) => f.write_str(signal.as_str()),
            Self::Schedule { priority, cpus, signal, .. } => {
                let words = [
                    priority.map(|_| "set priority"),
                    cpus.as_ref().map(|_| "set processors"),
                    signal.map(Signal::as_str),
                ];
                let words: Vec<&str> = words.into_iter().flatten().collect();
                f.write_str(&words.join(", "))
            }
        }
    }
}

fn send(process: &Process, signal: Signal) -> Result<(), String> {
    process.send(signal).map_err(|errno| {
        let hint = match errno {
            Errno::EPERM if process.is_elsewhere() => {
                " (does its node say allow=signal, or map you to a user?)"
            }
            _ => "",
        };
        format!("{signal}: {}{hint}", errno.desc())
    })
}

fn set_priority(tid: i32, priority: Priority) -> Result<(), Errno> {
    match priority {
        Priority::Nice(nice) => {
            sys::set_policy(tid, libc::SCHED_OTHER, 0)?;
            sys::set_nice(tid, nice)
        }
        Priority::Fifo(number) => sys::set_policy(tid, libc::SCHED_FIFO, number),
        Priority::RoundRobin(number) => sys::set_policy(tid, libc::SCHED_RR, number),
    }
}

/// The threads that are meant, by Linux's numbers: all of them, the n-th, or the one of that number.
fn threads(process: &Process, wanted: Option<u32>) -> Result<Vec<i32>, String> {
    let all = process.threads();
    let Some(wanted) = wanted else { return Ok(all) };
    let nth = (wanted as usize).checked_sub(1).and_then(|index| all.get(index));
    let named = all.iter().find(|tid| u32::try_from(**tid) == Ok(wanted));
    named.or(nth).map(|tid| vec![*tid]).ok_or_else(|| format!("-T {wanted}: it has {} threads", all.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_are_linuxs_as_far_as_they_fit() {
        assert_eq!(Priority::parse("10"), Ok(Priority::Nice(0)));
        assert_eq!(Priority::parse("15o"), Ok(Priority::Nice(-5)));
        assert_eq!(Priority::parse("255"), Ok(Priority::Nice(-20)));
        assert_eq!(Priority::parse("1"), Ok(Priority::Nice(9)));
        assert_eq!(Priority::parse("63f"), Ok(Priority::Fifo(63)));
        assert_eq!(Priority::parse("21r"), Ok(Priority::RoundRobin(21)));
        for text in ["", "f", "0", "256", "100f", "0r", "10x", "-5"] {
            assert!(Priority::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_mask_names_processors() {
        assert_eq!(Cpus::of_mask(0b1010), Cpus(vec![1, 3]));
        assert_eq!(Cpus::of_mask(1 << 63), Cpus(vec![63]));
    }
}
