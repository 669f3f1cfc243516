//! What loop 0 does when a packet thread itself goes wrong. Drivers that go wrong are in `io-pkt/tests/daemon/threads.rs`.

use std::time::{Duration, Instant};

use io_pkt_host::SearchPath;
use mio::{Events, Poll};

use super::{handle::NoAnswer, *};
use crate::pool::PoolConfig;

const PATIENCE: Duration = Duration::from_secs(60);

fn core(poll: &Poll) -> Core {
    let config = PoolConfig { chunks: 16, ..PoolConfig::default() };
    Core::new(poll.registry(), config, SearchPath::new(None, [])).unwrap()
}

#[test]
fn a_thread_that_panics_wakes_loop_0_and_is_lost() {
    let mut poll = Poll::new().unwrap();
    let core = core(&poll);
    let mut threads = Threads::start(3, &core, Spin::new(0)).unwrap();
    assert_eq!(threads.look(&mut core.pool.borrow_mut()), Ok(()));
    let second = Rc::clone(&threads.threads[1]);
    assert_eq!(second.ask(PATIENCE, |_| panic!("a fault of our own")), Err::<(), _>(NoAnswer::Ended));
    let (mut events, deadline) = (Events::with_capacity(4), Instant::now() + PATIENCE);
    let lost = loop {
        assert!(Instant::now() < deadline, "nobody heard of it");
        // The end of a thread is an event: it is not looked for otherwise.
        poll.poll(&mut events, Some(PATIENCE)).unwrap();
        if let Err(lost) = threads.look(&mut core.pool.borrow_mut()) {
            break lost;
        }
    };
    assert_eq!(lost.to_string(), "packet thread 2 has ended: a panic in io-pkt itself");
    assert!(!second.is_usable() && threads.threads[0].is_usable());
    assert_eq!(second.ask(PATIENCE, |_| ()), Err(NoAnswer::Ended));
    drop(second);
    threads.end();
}

#[test]
fn threads_that_are_told_to_end_are_not_lost() {
    let poll = Poll::new().unwrap();
    let core = core(&poll);
    let mut threads = Threads::start(4, &core, Spin::new(0)).unwrap();
    let first = Rc::clone(&threads.threads[0]);
    assert_eq!(first.ask(PATIENCE, |_| 5), Ok(5));
    assert_eq!(first.ask(PATIENCE, |packet_loop| packet_loop.quit()), Ok(()));
    let deadline = Instant::now() + PATIENCE;
    while first.pulse.ended().is_none() {
        assert!(Instant::now() < deadline, "it does not end");
        std::thread::yield_now();
    }
    assert_eq!(first.ask(PATIENCE, |_| ()), Err(NoAnswer::Ended));
    assert_eq!(threads.look(&mut core.pool.borrow_mut()), Ok(()));
    drop(first);
    threads.end();
    assert!(threads.is_empty());
}
