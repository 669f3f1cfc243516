//! A driver on another loop, as loop 0 sees it: it is polled and offered frames like any driver.
//!
//! `poll` carries out what the driver called on its own thread, against loop 0's books, and refills its stock of chunks.
//! `transmit` puts frames into a ring. Everything else is a request to the driver's thread.

use std::{rc::Rc, sync::Arc};

use io_pkt_abi::{DriverStats, FrameDesc, PollWork};
use io_pkt_host::{Build, CallError, State, UseError, UseSpec};

use super::{
    NoAnswer, PATIENCE, PATIENCE_STATS, PacketThread,
    channel::{Near, Note, Op, Record, channel, whole_frames},
};
use crate::{
    border::UseContext,
    core::Core,
    switchboard::{BATCH, MAX_PIECES},
    uses::UseId,
};

/// Most records in one poll; no more frames than the switchboard takes at once.
const RECORDS_PER_POLL: usize = 4 * BATCH;
/// Most fresh chunks that lie ready for one driver.
const MAX_SUPPLY: usize = 1024;
/// The stock is at most this part of the pool.
const SUPPLY_PART: usize = 8;

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

/// A driver on another loop. Dropping it without [`PinnedDriver::stop`] has it taken down without waiting.
#[derive(Debug)]
pub struct PinnedDriver {
    thread: Rc<PacketThread>,
    near: Near,
    build: Arc<Build>,
    name: String,
    id: UseId,
    state: State,
    /// Descriptors of consecutive records of one kind; between polls, a frame whose end has not come yet.
    run: Vec<FrameDesc>,
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
        context: &UseContext,
    ) -> Result<Self, UseError> {
        let pool = core.pool.borrow().config().chunks as usize;
        let supply = (pool / SUPPLY_PART).min(MAX_SUPPLY);
        let (near, far) = channel(supply, Arc::clone(&core.bell), Arc::clone(&thread.bell));
        let mut made = Self {
            thread,
            near,
            build: Arc::clone(build),
            name: spec.name.clone(),
            id: context.id(),
            state: State::Created,
            run: Vec::with_capacity(RECORDS_PER_POLL + MAX_PIECES),
            there: true,
        };
        made.refill(context);
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
            Err(no_answer) => Err(made.silent("create", no_answer, context)),
        }
    }

    /// Opens the device.
    ///
    /// # Errors
    /// The module's sentence, or that the thread does not answer; drop the use then.
    pub fn start(&mut self, context: &UseContext) -> Result<(), UseError> {
        let id = self.id;
        let answer = self.thread.ask(PATIENCE, move |packet_loop| packet_loop.start(id));
        let result = match answer {
            Ok(result) => result,
            Err(no_answer) => Err(self.silent("start", no_answer, context)),
        };
        self.take_notes(context);
        match &result {
            Ok(()) => {
                self.state = State::Started;
                // Only now is it polled: what it says from here on is ordinary life, not the outcome of its start.
                self.thread.tell(move |packet_loop| packet_loop.go(id));
            }
            Err(error) => self.fail(error.text.clone()),
        }
        result
    }

    /// True when there is something to do for [`PinnedDriver::poll`].
    #[must_use]
    pub fn has_news(&self, context: &UseContext) -> bool {
        self.state == State::Started
            && (!self.near.records.is_empty()
                || self.near.is_noted()
                || (self.is_low() && context.free_chunks() > 0)
                || self.near.records.is_abandoned())
    }

    /// Carries out what the driver called since the last time.
    pub fn poll(&mut self, context: &UseContext, work: &mut PollWork) {
        if self.state != State::Started {
            return;
        }
        self.take_notes(context);
        // Asked first: what came before the end of the other side is carried out still.
        let abandoned = self.near.records.is_abandoned();
        let mut op = Op::Deliver;
        let mut done = 0;
        while done < RECORDS_PER_POLL {
            let Ok(record) = self.near.records.pop() else { break };
            self.carry_out(context, &mut op, record);
            done += 1;
        }
        self.settle(context, op);
        if abandoned && done == 0 {
            context.fail(&format!("its packet thread {} has ended", self.thread.number));
        }
        let refilled = self.refill(context);
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
        pushed
    }

    /// The driver's counters.
    ///
    /// # Errors
    /// When it gives none or does not answer; the use lives on.
    pub fn stats(&mut self, context: &UseContext) -> Result<DriverStats, CallError> {
        let id = self.id;
        let answer = self.thread.ask(PATIENCE_STATS, move |packet_loop| packet_loop.stats(id));
        self.take_notes(context);
        answer.unwrap_or_else(|no_answer| Err(self.unanswered("stats", no_answer)))
    }

    /// Takes the use down, device and all, and gets back what it held. Doing it twice does nothing.
    ///
    /// # Errors
    /// When the driver could not restore something or its thread does not answer.
    pub fn stop(&mut self, context: &UseContext) -> Result<(), CallError> {
        if !std::mem::take(&mut self.there) {
            return Ok(());
        }
        let id = self.id;
        let answer = self.thread.ask(PATIENCE, move |packet_loop| packet_loop.end(id));
        self.take_notes(context);
        if self.state == State::Started {
            self.state = State::Stopped;
        }
        let (result, left) = match answer {
            Ok(answer) => answer,
            Err(no_answer) => {
                self.give_up(no_answer, context);
                (Err(self.unanswered("stop", no_answer)), Vec::new())
            }
        };
        let mut op = Op::Deliver;
        while let Ok(record) = self.near.records.pop() {
            self.carry_out(context, &mut op, record);
        }
        for record in left {
            self.carry_out(context, &mut op, record);
        }
        self.apply(context, op);
        result
    }

    /// Marks it failed; the first reason stays.
    pub fn fail(&mut self, reason: impl Into<String>) {
        if !matches!(self.state, State::Failed { .. }) {
            self.state = State::Failed { reason: reason.into() };
        }
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
    fn take_notes(&self, context: &UseContext) {
        if !self.near.take_noted() {
            return;
        }
        while let Some(note) = self.near.next_note() {
            match note {
                Note::Failed(reason) => context.fail(&reason),
                Note::Short(chunks) => context.count_exhausted(chunks),
                Note::Interface(data) => {
                    // Refused to protocols only.
                    let _ = context.set_interface(data);
                }
            }
        }
    }

    fn carry_out(&mut self, context: &UseContext, op: &mut Op, record: Record) {
        if *op != record.op && record.op != Op::Cut {
            self.apply(context, *op);
        }
        *op = record.op;
        self.run.push(record.desc);
        if record.op == Op::Cut {
            self.apply(context, Op::Cut);
            *op = Op::Deliver;
        }
    }

    /// Hands the run over.
    fn apply(&mut self, context: &UseContext, op: Op) {
        match op {
            _ if self.run.is_empty() => return,
            Op::Deliver | Op::Cut => context.deliver(&self.run),
            Op::Free => context.free(&self.run),
            Op::Retain => context.retain(&self.run),
        }
        self.run.clear();
    }

    /// Hands over what is complete; a frame whose end is still on its way waits.
    fn settle(&mut self, context: &UseContext, op: Op) {
        let whole = whole_frames(&self.run);
        let begun = self.run.len() - whole;
        if op != Op::Deliver || begun == 0 || begun > MAX_PIECES {
            return self.apply(context, op);
        }
        context.deliver(&self.run[..whole]);
        self.run.drain(..whole);
    }

    /// A quarter of the stock is gone.
    fn is_low(&self) -> bool {
        self.near.chunks.slots() * 4 >= self.near.chunks.buffer().capacity()
    }

    /// Fills the stock of chunks up, as far as the pool has some. True when some went.
    fn refill(&mut self, context: &UseContext) -> bool {
        if !self.is_low() {
            return false;
        }
        let mut want = self.near.chunks.slots().min(context.free_chunks());
        let some = want > 0;
        let mut fresh = [FrameDesc::default(); BATCH];
        while want > 0 {
            let n = context.alloc(&mut fresh[..want.min(BATCH)]);
            let pushed = self.near.chunks.push_entire_slice(&fresh[..n]);
            debug_assert!(pushed.is_ok(), "there was room, and only this side fills the ring");
            want = if n == 0 { 0 } else { want - n };
        }
        some
    }

    fn give_up(&self, no_answer: NoAnswer, context: &UseContext) {
        if no_answer == NoAnswer::Late {
            self.thread.give_up();
            context.lose();
        }
    }

    fn silent(&self, step: &'static str, no_answer: NoAnswer, context: &UseContext) -> UseError {
        self.give_up(no_answer, context);
        let CallError { errno, text, .. } = self.unanswered(step, no_answer);
        UseError { module: self.build.name().to_owned(), name: self.name.clone(), step, errno, text }
    }

    fn unanswered(&self, call: &'static str, no_answer: NoAnswer) -> CallError {
        let number = self.thread.number;
        let (errno, text) = match no_answer {
            NoAnswer::Late => (libc::ETIMEDOUT, format!("its packet thread {number} does not answer")),
            NoAnswer::Ended => (libc::ENODEV, format!("its packet thread {number} has ended")),
        };
        CallError { call, errno, text }
    }
}

impl Drop for PinnedDriver {
    fn drop(&mut self) {
        if self.there {
            let id = self.id;
            // A thread that has ended has taken its uses along.
            self.thread.tell(move |packet_loop| drop(packet_loop.end(id)));
        }
    }
}
