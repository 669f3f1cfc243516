//! Routing, bounds and what happens when a use lies or goes.
//!
//! Every test ends with the pool's books: a chunk that is not free again has been lost. `model.rs` does the same at
//! random.

use super::*;
use crate::pool::PoolConfig;

struct Bench {
    pool: Pool,
    board: Switchboard,
    driver: Holder,
    protocol: Holder,
    port: InterfaceId,
    slot: ProtocolSlot,
}

const CHUNKS: u32 = 2048;

fn bench(claims: &[u32]) -> Bench {
    let mut pool = Pool::new(PoolConfig { chunks: CHUNKS, ..PoolConfig::default() }).unwrap();
    let mut board = Switchboard::new(CHUNKS);
    let (driver, protocol) = (pool.register(), pool.register());
    let port = board.add_port();
    let slot = board.add_receiver().unwrap();
    for claim in claims {
        board.claim(slot, *claim).unwrap();
    }
    Bench { pool, board, driver, protocol, port, slot }
}

impl Bench {
    /// Makes frames of the driver with that ethertype, by writing through the memfd.
    fn frames(&mut self, holder: Holder, ethertype: u16, n: usize) -> Vec<FrameDesc> {
        let mut frames = vec![FrameDesc::default(); n];
        assert_eq!(self.pool.alloc(holder, &mut frames), n);
        let path = format!("/proc/self/fd/{}", self.pool.info().fd);
        let memory = std::fs::File::options().write(true).open(path).unwrap();
        for desc in &mut frames {
            desc.len = 60;
            std::os::unix::fs::FileExt::write_all_at(&memory, &ethertype.to_be_bytes(), desc.offset + 12)
                .unwrap();
        }
        frames
    }

    fn deliver(&mut self, frames: &[FrameDesc]) -> bool {
        self.board.deliver(self.port, self.driver, frames, &mut self.pool);
        self.board.route(self.port, &mut self.pool)
    }

    fn receive(&mut self, slot: ProtocolSlot, holder: Holder) -> Vec<FrameDesc> {
        let mut batch = Vec::new();
        self.board.to_receive(slot, holder, &mut batch, &mut self.pool);
        batch
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.board.all_drops().of(reason)
    }

    fn transmit(&mut self, taken: usize) -> Vec<FrameDesc> {
        let mut batch = Vec::new();
        self.board.to_transmit(self.port, self.driver, &mut batch, &mut self.pool);
        self.board.transmitted(self.port, self.driver, &batch, taken, &mut self.pool);
        batch
    }
}

#[test]
fn an_ethertype_goes_to_the_protocol_that_claimed_it() {
    let mut b = bench(&[0x8204]);
    let mine = b.frames(b.driver, 0x8204, 3);
    let others = b.frames(b.driver, 0x0800, 2);
    assert!(b.deliver(&[mine[0], others[0], mine[1], others[1], mine[2]]));
    let got = b.receive(b.slot, b.protocol);
    assert_eq!(
        got.iter().map(|d| d.offset).collect::<Vec<_>>(),
        mine.iter().map(|d| d.offset).collect::<Vec<_>>()
    );
    assert!(got.iter().all(|desc| desc.flags == 0));
    assert_eq!(b.drops(DropReason::NoProtocol), 2);
    assert_eq!(b.board.flow(), Flow { delivered: 5, routed: 3, sent: 0 });
    b.pool.free(b.protocol, &got);
    assert_eq!(b.pool.free_chunks(), CHUNKS as usize);
}

#[test]
fn a_bridge_and_an_owner_share_the_frame_by_reference() {
    let mut b = bench(&[0x8204]);
    let bridge = b.pool.register();
    let bridge_slot = b.board.add_receiver().unwrap();
    b.board.claim(bridge_slot, 0).unwrap();
    let frames = b.frames(b.driver, 0x8204, 1);
    b.deliver(&frames);
    let first = b.receive(b.slot, b.protocol);
    let second = b.receive(bridge_slot, bridge);
    assert_eq!(first[0].offset, second[0].offset);
    assert_eq!(first[0].flags & second[0].flags, io_pkt_abi::frame::FLAG_SHARED);
    b.pool.free(b.protocol, &first);
    assert_eq!(b.pool.free_chunks(), CHUNKS as usize - 1);
    b.pool.free(bridge, &second);
    assert_eq!(b.pool.free_chunks(), CHUNKS as usize);
}

#[test]
fn one_protocol_that_wants_everything_gets_everything_in_batches() {
    let mut b = bench(&[0]);
    let frames = b.frames(b.driver, 0x86dd, 150);
    assert!(b.deliver(&frames));
    let sizes: Vec<_> =
        std::iter::from_fn(|| Some(b.receive(b.slot, b.protocol).len()).filter(|n| *n > 0)).collect();
    assert_eq!(sizes, [64, 64, 22]);
    assert_eq!(b.board.next_pending(0), None);
}

#[test]
fn a_claimed_ethertype_is_refused_to_others_until_its_owner_goes() {
    let mut b = bench(&[0x8204]);
    let other = b.board.add_receiver().unwrap();
    assert_eq!(b.board.claim(b.slot, 0x8204), Ok(()));
    assert_eq!(b.board.claim(other, 0x8204), Err(ClaimError::Taken(0x8204)));
    assert_eq!(b.board.claim(other, 0x05ff), Err(ClaimError::Impossible(0x05ff)));
    assert_eq!(b.board.claim(other, 0x1_0000), Err(ClaimError::Impossible(0x1_0000)));
    b.board.remove_receiver(b.slot, &mut b.pool);
    assert_eq!(b.board.claim(other, 0x8204), Ok(()));
}

#[test]
fn runts_and_foreign_chunks_are_dropped_with_their_reason() {
    let mut b = bench(&[0]);
    let mut frames = b.frames(b.driver, 0x0800, 2);
    frames[0].len = 13;
    let stolen = b.frames(b.protocol, 0x0800, 1);
    b.deliver(&[frames[0], stolen[0], frames[1]]);
    assert_eq!((b.drops(DropReason::Runt), b.drops(DropReason::BadDescriptor)), (1, 1));
    assert_eq!(b.receive(b.slot, b.protocol).len(), 1);
}

#[test]
fn a_chain_travels_whole_and_a_broken_one_is_dropped_whole() {
    let mut b = bench(&[0]);
    let mut frames = b.frames(b.driver, 0x0800, 70);
    for desc in &mut frames[60..69] {
        desc.flags = FLAG_CONTINUES;
    }
    b.deliver(&frames);
    assert_eq!(b.receive(b.slot, b.protocol).len(), 60, "the chain of ten does not fit into the first batch");
    let chain = b.receive(b.slot, b.protocol);
    assert_eq!(chain.len(), 10);
    b.pool.retire(b.protocol);

    let mut open = b.frames(b.driver, 0x0800, 2);
    open[1].flags = FLAG_CONTINUES;
    b.deliver(&open);
    let mut long = b.frames(b.driver, 0x0800, MAX_PIECES + 1);
    long[..MAX_PIECES].iter_mut().for_each(|desc| desc.flags = FLAG_CONTINUES);
    b.deliver(&long);
    assert_eq!(b.drops(DropReason::BadChain), 2);
    b.board.remove_receiver(b.slot, &mut b.pool);
    assert_eq!(b.pool.free_chunks(), CHUNKS as usize);
}

#[test]
fn the_send_queue_is_bounded_and_says_so() {
    let mut b = bench(&[]);
    let frames = b.frames(b.protocol, 0x0800, TX_QUEUE + 10);
    assert_eq!(b.board.send(b.port, b.protocol, &frames, &mut b.pool), TX_QUEUE);
    assert_eq!(b.board.port_drops(b.port).of(DropReason::TxQueueFull), 10);
    assert_eq!(b.board.queued(b.port), TX_QUEUE);
    b.board.remove_port(b.port, &mut b.pool);
    assert_eq!(b.pool.free_chunks(), CHUNKS as usize);
    assert_eq!(b.drops(DropReason::UseGone), TX_QUEUE as u64);
    assert_eq!(b.drops(DropReason::TxQueueFull), 10, "drops outlive their interface");
}

#[test]
fn queues_never_take_more_than_half_of_the_pool() {
    let mut b = bench(&[]);
    let ports: Vec<_> = (0..4).map(|_| b.board.add_port()).collect();
    for port in ports {
        let frames = b.frames(b.protocol, 0x0800, 400);
        b.board.send(port, b.protocol, &frames, &mut b.pool);
    }
    let held = CHUNKS as usize - b.pool.free_chunks();
    assert!((CHUNKS as usize / 4..=CHUNKS as usize / 2).contains(&held), "{held}");
    assert_eq!(b.drops(DropReason::PoolReserve), 1600 - held as u64);
}

#[test]
fn an_interface_that_sends_has_its_share_beside_any_number_that_do_not() {
    let mut b = bench(&[]);
    let stuck: Vec<_> = (0..15).map(|_| b.board.add_port()).collect();
    // A storm: every queue gets all that it takes, and nobody takes anything out of it.
    for _ in 0..4 {
        for port in &stuck {
            let frames = b.frames(b.protocol, 0x0800, 60);
            b.board.send(*port, b.protocol, &frames, &mut b.pool);
        }
    }
    assert!(b.drops(DropReason::PoolReserve) > 0, "the reserve is used up");
    let share = CHUNKS as usize / 4 / 16;
    let frames = b.frames(b.protocol, 0x0800, share);
    assert_eq!(b.board.send(b.port, b.protocol, &frames, &mut b.pool), share, "all of its share");
    assert!(b.pool.free_chunks() >= CHUNKS as usize / 2, "the bound holds");
}

#[test]
fn sending_to_a_gone_interface_frees_and_counts() {
    let mut b = bench(&[]);
    b.board.remove_port(b.port, &mut b.pool);
    let frames = b.frames(b.protocol, 0x0800, 3);
    assert_eq!(b.board.send(b.port, b.protocol, &frames, &mut b.pool), 0);
    assert_eq!(b.drops(DropReason::NoInterface), 3);
    assert_eq!(b.pool.free_chunks(), CHUNKS as usize);
}

#[test]
fn a_full_driver_is_offered_the_rest_after_its_next_poll_in_order() {
    let mut b = bench(&[]);
    let frames = b.frames(b.protocol, 0x0800, 100);
    b.board.send(b.port, b.protocol, &frames, &mut b.pool);
    assert_eq!(b.board.next_dirty(), Some(b.port));
    let first = b.transmit(10);
    assert_eq!((first.len(), b.board.next_dirty()), (64, None));
    b.board.polled(b.port);
    assert_eq!(b.board.next_dirty(), Some(b.port));
    let second = b.transmit(64);
    assert_eq!(second[0].offset, frames[10].offset);
    assert_eq!((b.board.queued(b.port), b.board.next_dirty()), (26, Some(b.port)));
    b.transmit(26);
    assert_eq!((b.board.queued(b.port), b.board.next_dirty()), (0, None));
    assert_eq!(b.board.flow().sent, 100);
    assert_eq!(b.pool.held_by(b.driver), 100, "taken frames belong to the driver until it frees them");
}

#[test]
fn a_driver_that_frees_what_it_refused_loses_the_batch_but_nothing_leaks() {
    let mut b = bench(&[]);
    let frames = b.frames(b.protocol, 0x0800, 8);
    b.board.send(b.port, b.protocol, &frames, &mut b.pool);
    let mut batch = Vec::new();
    b.board.to_transmit(b.port, b.driver, &mut batch, &mut b.pool);
    b.pool.free(b.driver, &batch[..2]);
    b.pool.free(b.driver, &batch[5..6]);
    b.board.transmitted(b.port, b.driver, &batch, 2, &mut b.pool);
    assert_eq!(b.board.queued(b.port), 3);
    assert_eq!(b.drops(DropReason::BadDescriptor), 3);
    b.board.remove_port(b.port, &mut b.pool);
    assert_eq!(b.pool.free_chunks(), CHUNKS as usize);
}

#[test]
fn a_driver_that_tears_a_frame_loses_that_frame_only() {
    let mut b = bench(&[]);
    let mut frames = b.frames(b.protocol, 0x0800, 5);
    frames[1].flags = FLAG_CONTINUES;
    frames[2].flags = FLAG_CONTINUES;
    b.board.send(b.port, b.protocol, &frames, &mut b.pool);
    b.transmit(2);
    assert_eq!((b.board.queued(b.port), b.drops(DropReason::BadChain)), (1, 1));
    assert_eq!(b.pool.held_by(b.driver), 2);
}

#[test]
fn interface_ids_are_never_used_twice() {
    let mut b = bench(&[]);
    b.board.remove_port(b.port, &mut b.pool);
    assert_ne!(b.board.add_port(), b.port);
}
