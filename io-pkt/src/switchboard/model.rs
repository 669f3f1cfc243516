//! Any sequence of calls, sensible or not, keeps the books of pool and switchboard.
//!
//! No chunk is ever lost, held twice or handed to somebody who could not have it; each use holds exactly what an
//! honest use would remember; and when everybody has left all chunks are free. `PROPTEST_CASES` sets how often it
//! is tried.

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::pool::PoolConfig;

const CHUNKS: u32 = 64;
const USES: usize = 4;

/// What a use, honest or not, may do. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Op {
    Alloc {
        who: usize,
        n: usize,
    },
    Free {
        who: usize,
        pick: usize,
    },
    /// Frees what somebody else holds, or a descriptor that never was.
    FreeWrong {
        who: usize,
        whose: usize,
        pick: usize,
        shift: u64,
    },
    Retain {
        who: usize,
        pick: usize,
    },
    Deliver {
        who: usize,
        n: usize,
        chain: bool,
    },
    Send {
        who: usize,
        to: usize,
        n: usize,
        chain: bool,
    },
    Receive {
        who: usize,
    },
    Transmit {
        who: usize,
        taken: usize,
        frees_rest: bool,
    },
    Leave {
        who: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let who = 0..USES;
    prop_oneof![
        (who.clone(), 1..12_usize).prop_map(|(who, n)| Op::Alloc { who, n }),
        (who.clone(), any::<usize>()).prop_map(|(who, pick)| Op::Free { who, pick }),
        (who.clone(), 0..USES, any::<usize>(), 0..5000_u64)
            .prop_map(|(who, whose, pick, shift)| Op::FreeWrong { who, whose, pick, shift }),
        (who.clone(), any::<usize>()).prop_map(|(who, pick)| Op::Retain { who, pick }),
        (who.clone(), 1..8_usize, any::<bool>()).prop_map(|(who, n, chain)| Op::Deliver { who, n, chain }),
        (who.clone(), 0..USES, 1..8_usize, any::<bool>()).prop_map(|(who, to, n, chain)| Op::Send {
            who,
            to,
            n,
            chain
        }),
        who.clone().prop_map(|who| Op::Receive { who }),
        (who.clone(), 0..10_usize, any::<bool>()).prop_map(|(who, taken, frees_rest)| Op::Transmit {
            who,
            taken,
            frees_rest
        }),
        who.prop_map(|who| Op::Leave { who }),
    ]
}

/// A use: the first two are drivers, the others protocols (one for all frames, one for an ethertype).
struct Actor {
    holder: Holder,
    port: Option<InterfaceId>,
    slot: Option<ProtocolSlot>,
    /// One entry for each reference that it holds, as an honest use would remember.
    holds: Vec<FrameDesc>,
}

struct World {
    pool: Pool,
    board: Switchboard,
    actors: Vec<Actor>,
}

impl World {
    fn new() -> Self {
        let config = PoolConfig { chunks: CHUNKS, ..PoolConfig::default() };
        let mut world =
            Self { pool: Pool::new(config).unwrap(), board: Switchboard::new(CHUNKS), actors: Vec::new() };
        for who in 0..USES {
            let actor = world.join(who);
            world.actors.push(actor);
        }
        world
    }

    fn join(&mut self, who: usize) -> Actor {
        let holder = self.pool.register();
        if who < 2 {
            return Actor { holder, port: Some(self.board.add_port()), slot: None, holds: Vec::new() };
        }
        let slot = self.board.add_receiver().unwrap();
        // Fresh chunks are all zero, so 0x0600 is never met; what matters is that the table is not empty.
        self.board.claim(slot, if who == 2 { 0 } else { 0x0600 }).unwrap();
        Actor { holder, port: None, slot: Some(slot), holds: Vec::new() }
    }

    /// Takes some of what `who` holds, as one chain or as single frames.
    fn draw(&mut self, who: usize, n: usize, chain: bool) -> Vec<FrameDesc> {
        let holds = &mut self.actors[who].holds;
        let mut frames = holds.split_off(holds.len().saturating_sub(n));
        let last = frames.len().saturating_sub(1);
        for (at, desc) in frames.iter_mut().enumerate() {
            desc.flags = if chain && at < last { FLAG_CONTINUES } else { 0 };
        }
        frames
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Alloc { who, n } => {
                let mut frames = vec![FrameDesc::default(); n];
                let got = self.pool.alloc(self.actors[who].holder, &mut frames);
                self.actors[who].holds.extend_from_slice(&frames[..got]);
            }
            Op::Free { who, pick } => {
                let actor = &mut self.actors[who];
                if !actor.holds.is_empty() {
                    let desc = actor.holds.swap_remove(pick % actor.holds.len());
                    self.pool.free(actor.holder, &[desc]);
                }
            }
            Op::FreeWrong { who, whose, pick, shift } => self.free_wrong(who, whose, pick, shift),
            Op::Retain { who, pick } => {
                let actor = &mut self.actors[who];
                if !actor.holds.is_empty() {
                    let desc = actor.holds[pick % actor.holds.len()];
                    self.pool.retain(actor.holder, &[desc]);
                    actor.holds.push(desc);
                }
            }
            Op::Deliver { who, n, chain } => {
                let Some(port) = self.actors[who].port else { return };
                let frames = self.draw(who, n, chain);
                self.board.deliver(port, self.actors[who].holder, &frames, &mut self.pool);
                // As the loop does: what is pending is handed out before more is routed.
                (2..USES).for_each(|protocol| self.receive(protocol));
                self.board.route(port, &mut self.pool);
            }
            Op::Send { who, to, n, chain } => {
                let port = self.actors[to].port.unwrap_or(InterfaceId(9999));
                let frames = self.draw(who, n, chain);
                self.board.send(port, self.actors[who].holder, &frames, &mut self.pool);
            }
            Op::Receive { who } => self.receive(who),
            Op::Transmit { who, taken, frees_rest } => self.transmit(who, taken, frees_rest),
            Op::Leave { who } => {
                self.leave(who);
                self.actors[who] = self.join(who);
            }
        }
    }

    fn free_wrong(&mut self, who: usize, whose: usize, pick: usize, shift: u64) {
        let Some(desc) = self.actors[whose].holds.get(pick % CHUNKS as usize).copied() else { return };
        let wrong = FrameDesc { offset: desc.offset.wrapping_add(shift * 2048), ..desc };
        let chunk = wrong.offset / 2048;
        if !self.actors[who].holds.iter().any(|mine| mine.offset / 2048 == chunk) {
            let before = self.pool.stats().bad_descriptors;
            self.pool.free(self.actors[who].holder, &[wrong]);
            assert_eq!(self.pool.stats().bad_descriptors, before + 1);
        }
    }

    fn receive(&mut self, who: usize) {
        let Some(slot) = self.actors[who].slot else { return };
        let mut batch = Vec::new();
        loop {
            self.board.to_receive(slot, self.actors[who].holder, &mut batch, &mut self.pool);
            if batch.is_empty() {
                return;
            }
            self.actors[who].holds.extend_from_slice(&batch);
        }
    }

    fn transmit(&mut self, who: usize, taken: usize, frees_rest: bool) {
        let Some(port) = self.actors[who].port else { return };
        let holder = self.actors[who].holder;
        let mut batch = Vec::new();
        self.board.polled(port);
        self.board.to_transmit(port, holder, &mut batch, &mut self.pool);
        let taken = taken.min(batch.len());
        self.actors[who].holds.extend_from_slice(&batch[..taken]);
        // A driver that frees what it did not take is wrong, and must not be able to do harm. (When it holds the same
        // chunk once more it harms itself: one reference looks like another.)
        let chunk = |desc: &FrameDesc| desc.offset / 2048;
        let mut once = batch[taken..].iter().map(chunk).collect::<Vec<_>>();
        once.sort_unstable();
        let distinct = once.windows(2).all(|pair| pair[0] != pair[1]);
        let held_too = self.actors[who].holds.iter().any(|desc| once.contains(&chunk(desc)));
        if frees_rest && distinct && !held_too {
            self.pool.free(holder, &batch[taken..]);
        }
        self.board.transmitted(port, holder, &batch, taken, &mut self.pool);
    }

    fn leave(&mut self, who: usize) {
        let actor = &mut self.actors[who];
        if let Some(port) = actor.port {
            self.board.remove_port(port, &mut self.pool);
        }
        if let Some(slot) = actor.slot {
            self.board.remove_receiver(slot, &mut self.pool);
        }
        assert_eq!(
            self.pool.retire(actor.holder),
            actor.holds.len() as u64,
            "exactly what it held comes back"
        );
        actor.holds.clear();
    }

    fn check(&self) {
        for actor in &self.actors {
            assert_eq!(self.pool.held_by(actor.holder), actor.holds.len() as u64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_books_balance_whatever_uses_do(ops in vec(op(), 1..120)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
            world.check();
        }
        (0..USES).for_each(|who| world.leave(who));
        prop_assert_eq!(world.pool.free_chunks(), CHUNKS as usize);
    }
}
