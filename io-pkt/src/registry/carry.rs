//! The frame path: polling uses and moving batches between them.
//!
//! Nothing here allocates, locks, logs or makes a system call for a frame. A module's call that fails only notes the
//! use; it is taken away after the turn, when nobody is in the middle of a batch.

use io_pkt_abi::info::EVENT_CHANGED;

use super::Registry;
use crate::{border::Role, switchboard::InterfaceId};

/// What one turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Something was done: a use says so, or frames moved.
    pub worked: bool,
    /// Somebody has more to do at once.
    pub again: bool,
}

impl Registry {
    /// Polls every use that is ready, once, and moves what comes of it.
    pub fn turn(&mut self, now: u64) -> Turn {
        let mut turn = Turn::default();
        let flow = self.core.board.borrow().flow();
        for at in 0..self.uses.len() {
            if self.uses[at].is_ready(now) {
                turn.worked |= self.poll(at, now) > 0;
            }
            if let Role::Driver(id) = self.uses[at].role() {
                self.carry(id);
            }
            turn.again |= self.uses[at].more;
        }
        self.bury();
        turn.worked |= self.core.board.borrow().flow() != flow;
        turn
    }

    /// Polls one use; its frames are queued, not moved yet. Returns the work done.
    fn poll(&mut self, at: usize, now: u64) -> u32 {
        let result = self.uses[at].poll(now);
        if let Role::Driver(id) = self.uses[at].role() {
            self.core.board.borrow_mut().polled(id);
        }
        let done = match result {
            Ok(done) => done,
            Err(_) => {
                self.doom(at);
                0
            }
        };
        self.look_at(at);
        self.send_all();
        done
    }

    /// Hands what an interface received to the protocols, batch by batch; what they send goes out after each.
    fn carry(&mut self, id: InterfaceId) {
        let routed = self.core.board.borrow_mut().route(id, &mut self.core.pool.borrow_mut());
        if !routed {
            return;
        }
        let mut slot = 0;
        loop {
            let next = self.core.board.borrow().next_pending(slot);
            let Some(protocol) = next else { return };
            slot = protocol.0;
            let Some(at) = self.protocol_of(protocol) else {
                // The slot of a use that is gone is removed with it.
                slot = slot.saturating_add(1);
                continue;
            };
            self.receive(at, id);
        }
    }

    /// Moves one batch to a protocol.
    fn receive(&mut self, at: usize, id: InterfaceId) {
        let Role::Protocol(slot) = self.uses[at].role() else { return };
        let holder = self.uses[at].context.holder();
        let mut batch = std::mem::take(&mut self.batch);
        {
            let (mut board, mut pool) = (self.core.board.borrow_mut(), self.core.pool.borrow_mut());
            board.to_receive(slot, holder, &mut batch, &mut pool);
        }
        match self.uses[at].receive(id.0, &batch) {
            Ok(true) => {}
            Ok(false) => self.core.pool.borrow_mut().free(holder, &batch),
            Err(_) => self.doom(at),
        }
        self.batch = batch;
        self.look_at(at);
        self.send_all();
    }

    /// Offers waiting frames to every driver that has not said that it is full.
    pub(super) fn send_all(&mut self) {
        loop {
            let dirty = self.core.board.borrow().next_dirty();
            let Some(id) = dirty else { return };
            match self.driver_of(id) {
                Some(at) => self.transmit(at, id),
                // Its driver is on the way out: nobody will ever take them.
                None => self.core.board.borrow_mut().clear(id, &mut self.core.pool.borrow_mut()),
            }
        }
    }

    fn transmit(&mut self, at: usize, id: InterfaceId) {
        let holder = self.uses[at].context.holder();
        let mut batch = std::mem::take(&mut self.batch);
        {
            let (mut board, mut pool) = (self.core.board.borrow_mut(), self.core.pool.borrow_mut());
            board.to_transmit(id, holder, &mut batch, &mut pool);
        }
        let (taken, result) = self.uses[at].transmit(&batch);
        {
            let (mut board, mut pool) = (self.core.board.borrow_mut(), self.core.pool.borrow_mut());
            board.transmitted(id, holder, &batch, taken, &mut pool);
        }
        self.batch = batch;
        if result.is_err() {
            self.doom(at);
        }
        self.look_at(at);
    }

    /// Acts on what a module told the host during its last call.
    pub(super) fn look_at(&mut self, at: usize) {
        if !self.uses[at].context.take_noted() {
            return;
        }
        match self.uses[at].context.take_failure() {
            Some(reason) => {
                self.uses[at].fail(reason);
                self.doom(at);
            }
            None => self.announce(at, EVENT_CHANGED),
        }
    }

    /// Notes that a use has failed; it is taken away by [`Registry::bury`].
    pub(super) fn doom(&mut self, at: usize) {
        let id = self.uses[at].id();
        if !self.doomed.contains(&id) {
            self.doomed.push(id);
        }
    }
}
