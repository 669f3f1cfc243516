//! A driver on another loop, as loop 0 sees it: it is polled and offered frames like any driver.
//!
//! `poll` carries out what the driver called on its own thread, against loop 0's books, and refills its stock of chunks.
//! `transmit` puts frames into a ring. Everything else is a request to the driver's thread.
//!
//! The use's deadline on loop 0 (the driver's own one is on its thread) is when loop 0 looks whether that thread turns. It is
//! set when there is a reason to look: the thread has been given work, or is in a turn while loop 0 goes to sleep.

use std::{rc::Rc, sync::Arc, time::Duration};

use io_pkt_abi::{DriverStats, FrameDesc, PollWork};
use io_pkt_host::{Build, CallError, State, UseError, UseSpec};

use super::{
    channel::{Near, Note, Op, Record, channel, whole_frames},
    handle::{NoAnswer, PacketThread},
    pulse::LOOK,
};
use crate::{
    border::UseContext,
    core::Core,
    switchboard::{BATCH, MAX_PIECES},
    uses::UseId,
};

/// How long `create`, `start` and `stop` may take while the thread turns: several drivers share it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long loop 0 waits for counters.
const PATIENCE_STATS: Duration = Duration::from_millis(200);
/// Most records in one poll; no more frames than the switchboard takes at once.
const RECORDS_PER_POLL: usize = 4 * BATCH;
/// Most fresh chunks that lie ready for one driver.
const MAX_SUPPLY: usize = 1024;
/// All stocks together are at most this part of the pool.
const SUPPLY_PART: usize = 4;

/// What a new use is told, in a form that may go to another thread.
#[derive(Clone, Debug)]
pub struct Owned {
    /// Its name.
    pub name: String,
    /// Number of the io-pkt instance.
    pub instance: u32,
    /// The node's root directory.
    pub root: String,
    /// Directory of device names.
    pub devices: String,
    /// The network directory.
    pub net: String,
    /// Options for the module.
    pub options: Vec<(String, String)>,
}

impl Owned {
    /// Borrowed, for `create`. The border fills in host and context.
    #[must_use]
    pub fn spec(&self) -> UseSpec<'_> {
        UseSpec {
            name: &self.name,
            instance: self.instance,
            host: std::ptr::null(),
            ctx: std::ptr::null_mut(),
            root: &self.root,
            devices: &self.devices,
            net: &self.net,
            options: &self.options,
            state: &[],
        }
    }
}

/// A driver on another loop.
#[derive(Debug)]
pub struct PinnedDriver {
    thread: Rc<PacketThread>,
    near: Near,
    build: Arc<Build>,
    name: String,
    /// Its context on loop 0.
    context: Rc<UseContext>,
    state: State,
    /// Descriptors of consecutive records of one kind; between polls, a frame whose end has not come yet.
    run: Vec<FrameDesc>,
    /// The stock is filled up to this.
    level: usize,
    /// The counters when it was asked last.
    stats: DriverStats,
    /// The driver's thread has the use.
    there: bool,
}

impl PinnedDriver {
    /// Makes the use on that thread. `context` is the one on loop 0.
    ///
    /// # Errors
    /// The module's sentence, or that the thread does not answer; nothing remains.
    pub fn create(
        thread: Rc<PacketThread>,
        core: &Core,
        build: &Arc<Build>,
        spec: Owned,
        context: &Rc<UseContext>,
    ) -> Result<Self, UseError> {
        let (near, far) = channel(MAX_SUPPLY, Arc::clone(&core.bell), Arc::clone(&thread.bell));
        let mut made = Self {
            thread,
            near,
            build: Arc::clone(build),
            name: spec.name.clone(),
            context: Rc::clone(context),
            state: State::Created,
            run: Vec::with_capacity(RECORDS_PER_POLL + MAX_PIECES),
            level: BATCH,
            stats: DriverStats::unknown(),
            there: true,
        };
        made.refill();
        let (id, role, holder, verbose) = (context.id(), context.role(), context.holder(), context.verbose());
        let build = Arc::clone(build);
        let answer = made.thread.ask(PATIENCE, move |packet_loop| {
            packet_loop.create(far, &build, &spec, (id, &spec.name, role, holder, verbose))
        });
        match answer {
            Ok(Ok(())) => Ok(made),
            Ok(Err(error)) => {
                made.there = false;
                Err(error)
            }
            Err(no_answer) => Err(made.silent("create", no_answer)),
        }
    }

    /// Opens the device.
    ///
    /// # Errors
    /// The module's sentence, or that the thread does not answer; drop the use then.
    pub fn start(&mut self) -> Result<(), UseError> {
        let id = self.id();
        let answer = self.thread.ask(PATIENCE, move |packet_loop| packet_loop.start(id));
        let result = answer.unwrap_or_else(|no_answer| Err(self.silent("start", no_answer)));
        self.take_notes();
        match &result {
            Ok(()) => {
                self.state = State::Started;
                // Only now is it polled: what it says from here on is ordinary life, not the outcome of its start.
                drop(self.thread.request(move |packet_loop| packet_loop.go(id)));
            }
            Err(error) => self.fail(error.text.clone()),
        }
        result
    }

    /// Fills the stock of chunks up to its share from now on: the part of the pool for all stocks goes to `drivers` of them.
    pub fn share(&mut self, pool: usize, drivers: usize) {
        let level = (pool / SUPPLY_PART / drivers.max(1)).clamp(1, MAX_SUPPLY);
        if level < self.level && self.there {
            let id = self.id();
            drop(self.thread.request(move |packet_loop| packet_loop.trim(id, level)));
        }
        self.level = level;
    }

    /// True when there is something to do for [`PinnedDriver::poll`].
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.state == State::Started
            && (!self.near.records.is_empty()
                || self.near.is_noted()
                || (self.is_low() && self.context.free_chunks() > 0)
                || self.near.records.is_abandoned())
    }

    /// Has loop 0 look at the thread in a while if it is in the middle of a turn, which may never end.
    pub fn watch_if_busy(&self, now: u64) {
        if !self.thread.pulse.is_resting() {
            self.watch(now);
        }
    }

    /// Carries out what the driver called since the last time.
    pub fn poll(&mut self, work: &mut PollWork) {
        if self.state != State::Started {
            return;
        }
        self.take_notes();
        if self.thread.is_stuck(work.now) {
            return self.context.fail(&self.thread.excuse(self.id(), NoAnswer::Late));
        }
        self.watch_if_busy(work.now);
        // Asked first: what came before the end of the other side is carried out still.
        let abandoned = self.near.records.is_abandoned();
        let mut op = Op::Deliver;
        let mut done = 0;
        while done < RECORDS_PER_POLL {
            let Ok(record) = self.near.records.pop() else { break };
            self.carry_out(&mut op, record);
            done += 1;
        }
        self.settle(op);
        if abandoned && done == 0 {
            self.context.fail(&self.thread.excuse(self.id(), NoAnswer::Ended));
        }
        let refilled = self.refill();
        if done > 0 || refilled {
            self.near.far.ring();
        }
        work.done = done as u32;
        work.more = u32::from(!self.near.records.is_empty());
    }

    /// Offers frames; returns how many descriptors went.
    pub fn transmit(&mut self, frames: &[FrameDesc]) -> usize {
        if self.state != State::Started {
            return 0;
        }
        let pushed = self.near.push_frames(frames);
        if pushed > 0 {
            self.near.far.ring();
        }
        if self.context.deadline() == 0 {
            self.watch(self.thread.now());
        }
        pushed
    }

    /// The driver's counters; when its thread has no time to answer, those of the last time.
    ///
    /// # Errors
    /// When it gives none; the use lives on.
    pub fn stats(&mut self) -> Result<DriverStats, CallError> {
        let id = self.id();
        let answer = self.thread.ask(PATIENCE_STATS, move |packet_loop| packet_loop.stats(id));
        self.take_notes();
        if let Ok(stats) = answer {
            self.stats = stats?;
        }
        Ok(self.stats)
    }

    /// Takes the use down, device and all, and gets back what it held. A driver that does not go in time is left to its
    /// thread, with its chunks. Doing it twice does nothing.
    ///
    /// # Errors
    /// When the driver could not restore something or its thread does not answer.
    pub fn stop(&mut self) -> Result<(), CallError> {
        if !std::mem::take(&mut self.there) {
            return Ok(());
        }
        let id = self.id();
        let ended = self.thread.request(move |packet_loop| packet_loop.end(id));
        let answer = self.thread.wait(&ended, PATIENCE);
        self.take_notes();
        if self.state == State::Started {
            self.state = State::Stopped;
        }
        let mut op = Op::Deliver;
        while let Ok(record) = self.near.records.pop() {
            self.carry_out(&mut op, record);
        }
        let result = match answer {
            Ok((result, left)) => {
                left.into_iter().for_each(|record| self.carry_out(&mut op, record));
                result
            }
            Err(no_answer) => {
                if no_answer == NoAnswer::Late {
                    self.context.lose();
                    self.thread.adopt(&self.name, self.context.holder(), ended);
                }
                let errno = errno_of(no_answer);
                Err(CallError { call: "stop", errno, text: self.thread.excuse(id, no_answer) })
            }
        };
        self.apply(op);
        result
    }

    /// Marks it failed; the first reason stays.
    pub fn fail(&mut self, reason: impl Into<String>) {
        self.state.fail(reason);
    }

    /// Number of its packet thread.
    #[must_use]
    pub fn thread(&self) -> u32 {
        self.thread.number
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its build.
    #[must_use]
    pub fn build(&self) -> &Arc<Build> {
        &self.build
    }

    /// Takes news of the driver into the context on loop 0, where the registry looks.
    fn take_notes(&self) {
        if !self.near.take_noted() {
            return;
        }
        self.context.count_exhausted(self.near.take_short());
        while let Some(note) = self.near.next_note() {
            match note {
                Note::Failed(reason) => self.context.fail(&reason),
                Note::Interface(data) => {
                    // Refused to protocols only.
                    let _ = self.context.set_interface(data);
                }
            }
        }
    }

    fn carry_out(&mut self, op: &mut Op, record: Record) {
        if *op != record.op && record.op != Op::Cut {
            self.apply(*op);
        }
        *op = record.op;
        self.run.push(record.desc);
        if record.op == Op::Cut {
            self.apply(Op::Cut);
            *op = Op::Deliver;
        }
    }

    /// Hands the run over.
    fn apply(&mut self, op: Op) {
        match op {
            _ if self.run.is_empty() => return,
            Op::Deliver | Op::Cut => self.context.deliver(&self.run),
            Op::Free => self.context.free(&self.run),
            Op::Retain => self.context.retain(&self.run),
        }
        self.run.clear();
    }

    /// Hands over what is complete; a frame whose end is still on its way waits.
    fn settle(&mut self, op: Op) {
        let whole = whole_frames(&self.run);
        let begun = self.run.len() - whole;
        if op != Op::Deliver || begun == 0 || begun > MAX_PIECES {
            return self.apply(op);
        }
        self.context.deliver(&self.run[..whole]);
        self.run.drain(..whole);
    }

    /// Chunks that lie ready.
    fn stock(&self) -> usize {
        self.near.chunks.buffer().capacity() - self.near.chunks.slots()
    }

    /// A quarter of the stock is gone.
    fn is_low(&self) -> bool {
        self.stock() * 4 <= self.level * 3
    }

    /// Fills the stock of chunks up, as far as the pool has some. True when some went.
    fn refill(&mut self) -> bool {
        if !self.is_low() {
            return false;
        }
        let mut want = (self.level - self.stock()).min(self.context.free_chunks());
        let some = want > 0;
        let mut fresh = [FrameDesc::default(); BATCH];
        while want > 0 {
            let n = self.context.alloc(&mut fresh[..want.min(BATCH)]);
            let pushed = self.near.chunks.push_entire_slice(&fresh[..n]);
            debug_assert!(pushed.is_ok(), "there was room, and only this side fills the ring");
            want = if n == 0 { 0 } else { want - n };
        }
        some
    }

    /// Has loop 0 look at the thread in a while, unless it will.
    fn watch(&self, now: u64) {
        if self.context.deadline() == 0 {
            self.context.set_deadline(now + LOOK);
        }
    }

    fn id(&self) -> UseId {
        self.context.id()
    }

    fn silent(&self, step: &'static str, no_answer: NoAnswer) -> UseError {
        UseError {
            module: self.build.name().to_owned(),
            name: self.name.clone(),
            step,
            errno: errno_of(no_answer),
            text: self.thread.excuse(self.id(), no_answer),
        }
    }
}

impl Drop for PinnedDriver {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!(subject = self.name, "while stopping: {error}");
        }
    }
}

fn errno_of(no_answer: NoAnswer) -> i32 {
    match no_answer {
        NoAnswer::Late => libc::ETIMEDOUT,
        NoAnswer::Ended => libc::ENODEV,
    }
}
