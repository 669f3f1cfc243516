//! The pool's books under honest and dishonest users.
//!
//! Dishonest means: freeing twice, freeing what another holds, descriptors that lie about offset, length or region,
//! and leaving without giving anything back. `switchboard/model.rs` does the same at random.

use super::*;

fn small() -> Pool {
    Pool::new(PoolConfig { chunk_size: 2048, chunks: 8, headroom: 128 }).unwrap()
}

fn take(pool: &mut Pool, holder: Holder, n: usize) -> Vec<FrameDesc> {
    let mut frames = vec![FrameDesc::default(); n];
    let got = pool.alloc(holder, &mut frames);
    frames.truncate(got);
    frames
}

#[test]
fn chunks_begin_behind_the_headroom_and_end_with_their_chunk() {
    let mut pool = small();
    let user = pool.register();
    for (at, desc) in take(&mut pool, user, 8).iter().enumerate() {
        assert_eq!(desc.offset, at as u64 * 2048 + 128);
        assert_eq!((desc.len, desc.flags, desc.region), (1920, 0, 0));
    }
}

#[test]
fn an_empty_pool_gives_fewer_and_counts() {
    let mut pool = small();
    let user = pool.register();
    assert_eq!(take(&mut pool, user, 5).len(), 5);
    assert_eq!(take(&mut pool, user, 5).len(), 3);
    assert_eq!(pool.stats().exhausted, 2);
    assert_eq!(pool.free_chunks(), 0);
}

#[test]
fn freeing_twice_or_freeing_what_another_holds_changes_nothing() {
    let mut pool = small();
    let (one, two) = (pool.register(), pool.register());
    let frames = take(&mut pool, one, 1);
    pool.free(two, &frames);
    assert_eq!((pool.free_chunks(), pool.stats().bad_descriptors), (7, 1));
    pool.free(one, &frames);
    pool.free(one, &frames);
    assert_eq!((pool.free_chunks(), pool.stats().bad_descriptors), (8, 2));
}

#[test]
fn descriptors_that_lie_are_refused() {
    let mut pool = small();
    let user = pool.register();
    let good = take(&mut pool, user, 1)[0];
    let lies = [
        FrameDesc { len: 1921, ..good },
        FrameDesc { len: u32::MAX, ..good },
        FrameDesc { offset: 8 * 2048, ..good },
        FrameDesc { offset: u64::MAX, ..good },
        FrameDesc { region: 1, ..good },
        FrameDesc { offset: good.offset + 2048, ..good },
    ];
    for lie in &lies {
        assert!(!pool.take_over(user, lie), "{lie:?}");
        pool.retain(user, std::slice::from_ref(lie));
        pool.free(user, std::slice::from_ref(lie));
    }
    assert_eq!(pool.stats().bad_descriptors, 3 * lies.len() as u64);
    assert!(pool.take_over(user, &good));
}

#[test]
fn a_retained_chunk_is_free_after_its_last_reference_only() {
    let mut pool = small();
    let user = pool.register();
    let frames = take(&mut pool, user, 1);
    pool.retain(user, &frames);
    pool.free(user, &frames);
    assert_eq!(pool.free_chunks(), 7);
    pool.free(user, &frames);
    assert_eq!(pool.free_chunks(), 8);
}

#[test]
fn the_shared_flag_tells_of_other_references_and_goes_with_them() {
    let mut pool = small();
    let (one, two) = (pool.register(), pool.register());
    let mut frames = take(&mut pool, one, 1);
    frames[0].flags = FLAG_CONTINUES;
    pool.retain(one, &frames);
    assert!(pool.take_over(one, &frames[0]));
    pool.hand_over(two, &mut frames);
    assert_eq!(frames[0].flags, FLAG_CONTINUES | FLAG_SHARED);
    pool.free(one, &frames);
    assert!(pool.take_over(two, &frames[0]));
    pool.hand_over(two, &mut frames);
    assert_eq!(frames[0].flags, FLAG_CONTINUES);
}

#[test]
fn everything_a_dead_use_held_comes_back_and_nothing_else() {
    let mut pool = small();
    let (dead, alive) = (pool.register(), pool.register());
    let kept = take(&mut pool, alive, 2);
    let lost = take(&mut pool, dead, 3);
    pool.retain(dead, &lost[..1]);
    // One reference of the dead use's chunk lies in a queue of the switchboard: it stays valid.
    assert!(pool.take_over(dead, &lost[1]));
    assert_eq!(pool.held_by(dead), 3);
    assert_eq!(pool.retire(dead), 3);
    assert_eq!(pool.free_chunks(), 8 - 2 - 1);
    pool.release(&lost[1..2]);
    pool.free(alive, &kept);
    assert_eq!(pool.free_chunks(), 8);
    assert_eq!((pool.stats().reclaimed, pool.stats().bad_descriptors), (3, 0));
}

#[test]
fn a_retired_holder_can_do_nothing_and_its_place_is_used_again() {
    let mut pool = small();
    let first = pool.register();
    let frames = take(&mut pool, first, 1);
    pool.retire(first);
    assert!(!pool.take_over(first, &frames[0]));
    assert_eq!(take(&mut pool, first, 1).len(), 0);
    assert_eq!(pool.register(), first);
    assert_eq!(pool.held_by(first), 0);
}

#[test]
fn the_memory_is_sealed_and_holds_what_is_written() {
    let mut pool = small();
    let user = pool.register();
    let frame = FrameDesc { len: 14, ..take(&mut pool, user, 1)[0] };
    assert_eq!(pool.ethertype(&frame), Some(0));
    assert_eq!(pool.ethertype(&FrameDesc { len: 13, ..frame }), None);
    let info = pool.info();
    assert_eq!((info.len, info.chunk_size, info.headroom), (8 * 2048, 2048, 128));
    let file = std::fs::File::options()
        .write(true)
        .open(format!("/proc/self/fd/{}", info.fd))
        .expect("the memfd can be opened again");
    std::os::unix::fs::FileExt::write_all_at(&file, &[0x82, 0x04], frame.offset + 12).unwrap();
    assert_eq!(pool.ethertype(&frame), Some(0x8204));
    assert!(file.set_len(0).is_err(), "sealed against shrinking");
    assert!(file.set_len(1 << 20).is_err(), "sealed against growing");
}

#[test]
fn impossible_sizes_are_refused() {
    for (chunk_size, chunks, headroom) in [(1024, 8, 0), (8192, 8, 0), (2048, 0, 0), (2048, 8, 1024)] {
        let config = PoolConfig { chunk_size, chunks, headroom };
        assert!(Pool::new(config).is_err(), "{config:?}");
    }
}

#[test]
fn references_never_overflow() {
    let mut pool = small();
    let user = pool.register();
    let frames = take(&mut pool, user, 1);
    for _ in 0..u32::from(u16::MAX) + 5 {
        pool.retain(user, &frames);
    }
    assert_eq!(pool.stats().bad_descriptors, 6);
    assert!(!pool.share(&frames));
    assert_eq!(pool.retire(user), u64::from(u16::MAX));
    assert_eq!(pool.free_chunks(), 8);
}
