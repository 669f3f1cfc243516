//! Frames between the files and the packet pool.

use std::fs::File;
use std::io::BufReader;
use std::time::{SystemTime, UNIX_EPOCH};

use io_pkt_sdk::{Batch, DriverStats, ETHERNET_HEADER, Error, Host, PushError, Stock, TxBatch, Work};

use crate::file;
use crate::read::{Capture, Record};
use crate::replay::{Clock, Pace};
use crate::write::{Format, PATIENCE, Recorder};

/// Bytes that are read from the file at once.
const READ_AHEAD: usize = 64 * 1024;
/// How long until a full packet pool is tried again. Nanoseconds.
const RETRY: u64 = 10_000_000;

/// What the options say.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) read: Option<String>,
    pub(crate) write: Option<String>,
    pub(crate) pace: Pace,
    /// How often to replay; 0 for ever.
    pub(crate) rounds: u64,
    pub(crate) snaplen: u32,
}

impl Wanted {
    /// What stands for the interface in lists.
    pub(crate) fn name(&self) -> String {
        [&self.read, &self.write].into_iter().flatten().cloned().collect::<Vec<_>>().join(" ")
    }
}

/// Running totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) rx_packets: u64,
    pub(crate) rx_bytes: u64,
    pub(crate) rx_no_memory: u64,
    /// Cut by the capture, shorter than a header, or longer than a batch.
    pub(crate) rx_unusable: u64,
    pub(crate) tx_packets: u64,
    pub(crate) tx_bytes: u64,
    /// Not recorded: the file could not be written, or there is none.
    pub(crate) tx_lost: u64,
}

impl Counters {
    pub(crate) fn report(&self) -> DriverStats {
        DriverStats {
            tx_packets: self.tx_packets,
            tx_bytes: self.tx_bytes,
            rx_packets: self.rx_packets,
            rx_bytes: self.rx_bytes,
            rx_no_memory: self.rx_no_memory,
            rx_dropped: self.rx_unusable,
            tx_dropped: self.tx_lost,
            ..DriverStats::unknown()
        }
    }
}

/// The replay.
#[derive(Debug)]
struct Replay {
    path: String,
    capture: Capture<BufReader<File>>,
    clock: Clock,
    /// The record that waits for its time; its bytes are in the capture.
    waiting: Option<Record>,
    /// Rounds that follow this one; `None`: for ever.
    left: Option<u64>,
    /// Frames of this round.
    frames: u64,
}

/// One use of the driver.
#[derive(Debug)]
pub(crate) struct Files {
    host: Host,
    replay: Option<Replay>,
    recorder: Option<(String, Recorder<File>)>,
    /// When recorded frames go to the file.
    flush_at: Option<u64>,
    stock: Stock,
    out: Batch,
    pub(crate) counters: Counters,
}

impl Files {
    /// Opens the files; the head of the one to read must be right.
    pub(crate) fn open(host: &Host, wanted: &Wanted) -> Result<Self, Error> {
        let replay = wanted.read.as_ref().map(|path| Replay::open(path, wanted)).transpose()?;
        if wanted.read.is_some() && wanted.read == wanted.write {
            return Err(Error::new(libc::EINVAL, "read= and write= name the same file".to_owned()));
        }
        let recorder = match &wanted.write {
            None => None,
            Some(path) => {
                let recorder = Recorder::new(file::to_write(path)?, Format::of(path), wanted.snaplen);
                Some((path.clone(), recorder.map_err(|error| Error::os(format!("write={path}"), &error))?))
            }
        };
        Ok(Self {
            host: host.clone(),
            replay,
            recorder,
            flush_at: None,
            stock: Stock::new(host),
            out: host.batch(),
            counters: Counters::default(),
        })
    }

    pub(crate) fn poll(&mut self, work: &mut Work<'_>) {
        let now = work.now();
        let due = self.replay_due(work);
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush();
        }
        self.host.set_deadline(due.into_iter().chain(self.flush_at).min());
    }

    /// Delivers what is due; tells when the next frame is.
    fn replay_due(&mut self, work: &mut Work<'_>) -> Option<u64> {
        let now = work.now();
        loop {
            let replay = self.replay.as_mut()?;
            match replay.look_ahead() {
                Ok(true) => {}
                Ok(false) => {
                    self.deliver();
                    self.replay = None;
                    return None;
                }
                Err(why) => {
                    tracing::error!("{why}; the replay ends after {} frames of this round", replay.frames);
                    self.deliver();
                    self.replay = None;
                    return None;
                }
            }
            let due = replay.due(now);
            if due > now {
                self.deliver();
                return Some(due);
            }
            if !work.may_go_on() {
                self.deliver();
                work.more();
                return None;
            }
            let frame = replay.capture.frame();
            let pushed = match frame.len() {
                _ if !replay.waiting.is_some_and(|record| record.whole) => Err(PushError::TooLarge),
                0..ETHERNET_HEADER => Err(PushError::TooLarge),
                _ => self.stock.push(&mut self.out, &[frame]),
            };
            match pushed {
                Ok(()) => {
                    self.counters.rx_packets += 1;
                    self.counters.rx_bytes += frame.len() as u64;
                    work.handled(1, frame.len());
                }
                Err(PushError::Full) => {
                    self.deliver();
                    continue;
                }
                // A capture loses nothing by waiting until the pool has room again.
                Err(PushError::NoMemory) => {
                    self.counters.rx_no_memory += 1;
                    self.deliver();
                    return Some(now.saturating_add(RETRY));
                }
                Err(PushError::TooLarge) => {
                    self.counters.rx_unusable += 1;
                    work.handled(1, 0);
                }
            }
            replay.done();
        }
    }

    fn deliver(&mut self) {
        self.host.deliver(&mut self.out);
    }

    pub(crate) fn transmit(&mut self, frames: &mut TxBatch<'_>) {
        let count = frames.len();
        let stamp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let stamp = u64::try_from(stamp.as_nanos()).unwrap_or(u64::MAX);
        let mut failed = None;
        for frame in frames.frames() {
            let recorded = match &mut self.recorder {
                Some((_, recorder)) if failed.is_none() => {
                    recorder.record(stamp, frame.len(), frame.pieces())
                }
                _ => {
                    self.counters.tx_lost += 1;
                    continue;
                }
            };
            match recorded {
                Ok(()) => {
                    self.counters.tx_packets += 1;
                    self.counters.tx_bytes += frame.len() as u64;
                }
                Err(error) => {
                    self.counters.tx_lost += 1;
                    failed = Some(error);
                }
            }
        }
        frames.finish(count);
        if let Some(error) = failed {
            self.give_up(&error);
        } else if self.recorder.is_some() && self.flush_at.is_none() {
            // The deadline is `poll`'s to set: it knows of the replay's, too.
            self.flush_at = Some(self.host.now().saturating_add(PATIENCE));
            self.host.wake();
        }
    }

    fn flush(&mut self) {
        self.flush_at = None;
        if let Some((_, recorder)) = &mut self.recorder
            && let Err(error) = recorder.flush()
        {
            self.give_up(&error);
        }
    }

    /// A full disk, usually: the interface goes on without recording.
    fn give_up(&mut self, error: &std::io::Error) {
        if let Some((path, _)) = self.recorder.take() {
            tracing::error!("write={path}: {error}; nothing more is recorded");
        }
        self.flush_at = None;
    }

    /// Hands what was recorded to the file.
    pub(crate) fn close(&mut self) {
        self.flush();
        self.replay = None;
        self.recorder = None;
    }
}

impl Replay {
    fn open(path: &str, wanted: &Wanted) -> Result<Self, Error> {
        let file = file::to_read(path)?;
        let capture = Capture::open(BufReader::with_capacity(READ_AHEAD, file));
        let capture = capture.map_err(|why| Error::new(libc::EINVAL, format!("read={path} {why}")))?;
        Ok(Self {
            path: path.to_owned(),
            capture,
            clock: Clock::new(wanted.pace),
            waiting: None,
            left: wanted.rounds.checked_sub(1),
            frames: 0,
        })
    }

    /// Makes sure that a record waits; false when the replay is over.
    fn look_ahead(&mut self) -> Result<bool, String> {
        while self.waiting.is_none() {
            match self.capture.next() {
                Ok(Some(record)) => self.waiting = Some(record),
                Ok(None) if self.left == Some(0) => {
                    tracing::info!("read={}: replayed, {} frames in the last round", self.path, self.frames);
                    return Ok(false);
                }
                // A file without frames would go round for ever.
                Ok(None) if self.frames == 0 => return Err(self.complaint(&"holds no frame to repeat")),
                Ok(None) => self.begin_again()?,
                Err(why) => return Err(self.complaint(&why)),
            }
        }
        Ok(true)
    }

    /// `read=PATH is cut off at offset …`.
    fn complaint(&self, why: &dyn std::fmt::Display) -> String {
        format!("read={} {why}", self.path)
    }

    fn begin_again(&mut self) -> Result<(), String> {
        self.left = self.left.map(|left| left.saturating_sub(1));
        self.frames = 0;
        self.clock.next_round();
        let file = file::to_read(&self.path).map_err(|error| error.to_string())?;
        let capture = Capture::open(BufReader::with_capacity(READ_AHEAD, file));
        self.capture = capture.map_err(|why| self.complaint(&why))?;
        Ok(())
    }

    fn due(&mut self, now: u64) -> u64 {
        self.waiting.map_or(now, |record| self.clock.due(now, record.stamp))
    }

    fn done(&mut self) {
        self.waiting = None;
        self.frames += 1;
        self.clock.next();
    }
}

#[cfg(test)]
mod tests;
