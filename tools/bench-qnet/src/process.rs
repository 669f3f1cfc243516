//! From one process's memory to another's, by messages: the client of line `process`, which measures a flood.

use std::{
    io::{self, BufRead},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use qnet::{Connection, Netmgr, Root, netmgr::meter::Plan};

/// What one measurement is about; on the wire between the benchmark and its parts `SIZE IN_FLIGHT MILLIS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Bytes of a message.
    pub size: u32,
    /// Messages under way at a time.
    pub in_flight: u32,
    /// How long.
    pub span: Duration,
}

impl Load {
    /// As a line for a part.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} {} {}", self.size, self.in_flight, self.span.as_millis())
    }

    fn parse(line: &str) -> Result<Self> {
        let words: Vec<u32> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let &[size, in_flight, millis] = words.as_slice() else { bail!("SIZE IN_FLIGHT MILLIS is expected") };
        Ok(Self { size, in_flight, span: Duration::from_millis(millis.into()) })
    }
}

/// What a part answers: `MESSAGES NANOS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Messages that were answered.
    pub messages: u64,
    /// In this time, nanoseconds.
    pub nanos: u64,
}

impl Done {
    /// Reads a part's answer.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(line: &str) -> Result<Self> {
        let (messages, nanos) = line.split_once(' ').with_context(|| format!("`{line}` is no result"))?;
        Ok(Self { messages: messages.parse()?, nanos: nanos.parse()? })
    }

    /// Bytes a second with messages of that size.
    #[must_use]
    pub fn rate(&self, size: u32) -> f64 {
        self.messages as f64 * f64::from(size) * 1e9 / self.nanos.max(1) as f64
    }

    /// Time of one message, seconds.
    #[must_use]
    pub fn each(&self) -> f64 {
        self.nanos as f64 / self.messages.max(1) as f64 / 1e9
    }
}

/// Attaches to a server on node `nd`, then answers each line with what it measured.
///
/// # Errors
/// When the server cannot be reached or a message fails.
pub fn client(root: &Path, nd: u32, (pid, chid): (i32, i32)) -> Result<()> {
    let root = Root::at(root)?;
    let connection = Connection::attach(&root, nd, pid, chid)?;
    println!("ready");
    for line in io::stdin().lock().lines() {
        let done = send_all(&connection, Load::parse(&line?)?)?;
        println!("{} {}", done.messages, done.nanos);
    }
    Ok(())
}

fn send_all(connection: &Connection, load: Load) -> Result<Done> {
    let message: Vec<u8> = (0..load.size).map(|n| n as u8).collect();
    let (total, stop, failure) = (Mutex::new(0), AtomicBool::new(false), Mutex::new(None));
    let start = Instant::now();
    let send = || {
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) && start.elapsed() < load.span {
            if let Err(error) = connection.send(&message, &mut []) {
                stop.store(true, Ordering::Relaxed);
                *failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                break;
            }
            count += 1;
        }
        *total.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += count;
    };
    if load.in_flight == 1 {
        send();
    } else {
        std::thread::scope(|scope| (0..load.in_flight).for_each(|_| drop(scope.spawn(send))));
    }
    let nanos = start.elapsed().as_nanos() as u64; // minutes fit
    if let Some(error) = failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        return Err(error.into());
    }
    let messages = total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Ok(Done { messages, nanos })
}

/// Asks the node's meter: line `wire`.
///
/// # Errors
/// The measurement failed.
pub fn meter(root: &Root, nd: u32, load: Load) -> Result<Done> {
    let millis = u32::try_from(load.span.as_millis())?;
    let plan = Plan { nd, size: load.size, in_flight: load.in_flight, millis };
    let outcome = Netmgr::attach(root)?.meter(&plan)?;
    Ok(Done { messages: outcome.messages, nanos: outcome.nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_parts_say_to_each_other_is_understood() {
        let load = Load { size: 64, in_flight: 3, span: Duration::from_millis(250) };
        assert_eq!(Load::parse(&load.line()).unwrap(), load);
        assert_eq!(Done::parse("12 3000").unwrap(), Done { messages: 12, nanos: 3000 });
        assert!(Done::parse("no").is_err());
    }

    #[test]
    fn rates_are_bytes_a_second() {
        let done = Done { messages: 1000, nanos: 500_000_000 };
        assert!((done.rate(64) - 128_000.0).abs() < 1e-6);
        assert!((done.each() - 0.000_5).abs() < 1e-12);
    }
}
