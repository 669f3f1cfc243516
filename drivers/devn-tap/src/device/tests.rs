//! The driver's behaviour on a TAP made of two queues.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use io_pkt_sdk::{Args, Driver, DriverStats, testing::Bench};
use nix::sys::eventfd::EventFd;

use super::*;

thread_local! {
    /// The system of the driver that is being tested on this thread.
    static FAKE: RefCell<Option<Rc<Fake>>> = const { RefCell::new(None) };
}

/// A TAP made of two queues.
struct Fake {
    signal: EventFd,
    news: EventFd,
    incoming: RefCell<VecDeque<Vec<u8>>>,
    outgoing: RefCell<Vec<Vec<u8>>>,
    link: RefCell<Option<LinkState>>,
    refuse: RefCell<Option<i32>>,
}

impl Fake {
    fn put(&self, frame: Vec<u8>) {
        self.incoming.borrow_mut().push_back(frame);
        self.signal.write(1).expect("an eventfd");
    }

    fn set_link(&self, link: Option<LinkState>) {
        *self.link.borrow_mut() = link;
        self.news.write(1).expect("an eventfd");
    }
}

impl Tap for Rc<Fake> {
    fn watch(&self, host: &Host, token: u64) -> Result<PollHandle, Error> {
        host.watch(&self.signal, io_pkt_sdk::Interest::Read, token)
    }

    fn watch_links(&self, host: &Host, token: u64) -> Result<PollHandle, Error> {
        host.watch(&self.news, io_pkt_sdk::Interest::Read, token)
    }

    fn changed(&mut self) -> bool {
        self.news.read().is_ok()
    }

    fn link(&mut self) -> Option<LinkState> {
        *self.link.borrow()
    }

    fn read(&self, to: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let Some(frame) = self.incoming.borrow_mut().pop_front() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let mut rest = frame.as_slice();
        for slice in to {
            let count = rest.len().min(slice.len());
            slice[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
        }
        Ok(frame.len() - rest.len())
    }

    fn write(&self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        if let Some(errno) = *self.refuse.borrow() {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let frame: Vec<u8> = from.iter().flat_map(|slice| slice.iter().copied()).collect();
        let len = frame.len();
        self.outgoing.borrow_mut().push(frame);
        Ok(len)
    }
}

/// The driver as it is exported, but for the system below it.
struct Tested(Device<Rc<Fake>>);

impl Driver for Tested {
    fn create(host: Host, args: &Args<'_>) -> Result<Self, Error> {
        let fake = FAKE.with(|fake| fake.borrow().clone()).expect("set by the test");
        let interface = Interface { multicast: args.generic().multicast, ..Interface::default() };
        Ok(Self(Device::new(host, fake, interface)))
    }

    fn start(&mut self) -> Result<(), Error> {
        self.0.start()
    }

    fn poll(&mut self, work: &mut Work<'_>) -> Result<(), Error> {
        self.0.poll(work)
    }

    fn transmit(&mut self, frames: &mut TxBatch<'_>) -> Result<(), Error> {
        self.0.transmit(frames);
        Ok(())
    }

    fn stats(&mut self) -> DriverStats {
        self.0.counters.report()
    }

    fn stop(&mut self) {
        self.0.stop();
    }
}

fn mounted(mtu: u32, options: &[(&str, &str)]) -> (Rc<Fake>, Bench) {
    let (fake, mut bench) = made(mtu, options);
    bench.start().expect("started");
    (fake, bench)
}

fn made(mtu: u32, options: &[(&str, &str)]) -> (Rc<Fake>, Bench) {
    let event = || EventFd::from_flags(nix::sys::eventfd::EfdFlags::EFD_NONBLOCK).expect("an eventfd");
    let fake = Rc::new(Fake {
        signal: event(),
        news: event(),
        incoming: RefCell::default(),
        outgoing: RefCell::default(),
        link: RefCell::new(Some(LinkState { up: true, mtu })),
        refuse: RefCell::default(),
    });
    FAKE.with(|slot| *slot.borrow_mut() = Some(Rc::clone(&fake)));
    let bench = Bench::driver::<Tested>("en0", "/nonexistent", options).expect("made");
    (fake, bench)
}

fn frame(len: usize, first: u8) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..len).map(|at| at as u8).collect();
    frame[0] = first;
    frame
}

#[test]
fn frames_pass_both_ways_whole() {
    let (fake, mut bench) = mounted(1500, &[]);
    let frames: Vec<Vec<u8>> = [14, 60, 1514, 1518].into_iter().map(|len| frame(len, 2)).collect();
    for frame in &frames {
        fake.put(frame.clone());
    }
    bench.settle();
    assert_eq!(bench.received(), frames);
    let borrowed: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    assert_eq!(bench.transmit(&borrowed), 4);
    assert_eq!(*fake.outgoing.borrow(), frames);
    let stats = bench.stats();
    assert_eq!((stats.rx_packets, stats.tx_packets, stats.rx_bytes), (4, 4, 3106));
}

#[test]
fn jumbo_frames_span_chunks_and_short_ones_do_not() {
    let (fake, mut bench) = mounted(9000, &[]);
    let frames: Vec<Vec<u8>> = (0..50).map(|n| frame(if n % 2 == 0 { 60 } else { 9014 }, 2)).collect();
    for frame in &frames {
        fake.put(frame.clone());
    }
    let mut got = Vec::new();
    bench.poll_until(|bench| {
        got.extend(bench.received());
        got.len() >= frames.len()
    });
    assert!(got == frames);
    assert_eq!(bench.transmit(&[&frames[1]]), 1);
    assert!(fake.outgoing.borrow()[0] == frames[1]);
}

#[test]
fn more_frames_than_one_turn_allows_come_in_the_next() {
    let (fake, mut bench) = mounted(1500, &[]);
    for _ in 0..1000 {
        fake.put(frame(60, 2));
    }
    let mut got = 0;
    bench.poll_until(|bench| {
        got += bench.received().len();
        got == 1000
    });
}

#[test]
fn an_empty_pool_costs_frames_and_the_driver_goes_on() {
    let (fake, mut bench) = made(1500, &[]);
    bench.leave_chunks(0);
    bench.start().expect("started");
    for _ in 0..100 {
        fake.put(frame(60, 2));
    }
    bench.settle();
    assert_eq!((bench.stats().rx_no_memory, bench.received().len()), (100, 0));
    bench.leave_chunks(usize::MAX);
    fake.put(frame(60, 2));
    bench.settle();
    assert_eq!(bench.received().len(), 1);
}

#[test]
fn nomulticast_keeps_broadcast_out_of_it() {
    let (fake, mut bench) = mounted(1500, &[("nomulticast", "1")]);
    fake.put(frame(60, 0x33));
    let mut broadcast = frame(60, 0xff);
    broadcast[..6].fill(0xff);
    fake.put(broadcast.clone());
    fake.put(vec![0; 5]);
    bench.settle();
    assert_eq!(bench.received(), [broadcast]);
    assert_eq!(bench.stats().rx_dropped, 1, "the short one");
}

#[test]
fn the_linux_end_is_followed() {
    let (fake, mut bench) = mounted(1500, &[]);
    assert!(bench.interface().expect("told").link_up);
    fake.set_link(Some(LinkState { up: false, mtu: 2000 }));
    bench.poll_until(|bench| bench.interface().is_some_and(|told| !told.link_up && told.mtu == 2000));
    fake.set_link(Some(LinkState { up: true, mtu: 2000 }));
    bench.poll_until(|bench| bench.interface().is_some_and(|told| told.link_up));
    fake.set_link(None);
    bench.poll_until(|bench| bench.interface().is_some_and(|told| !told.link_up && told.mtu == 2000));
}

#[test]
fn frames_that_linux_does_not_take_are_counted() {
    let (fake, mut bench) = mounted(1500, &[]);
    *fake.refuse.borrow_mut() = Some(libc::EIO);
    assert_eq!(bench.transmit(&[&frame(60, 2)]), 1);
    *fake.refuse.borrow_mut() = Some(libc::ENOBUFS);
    assert_eq!(bench.transmit(&[&frame(60, 2)]), 1);
    let stats = bench.stats();
    assert_eq!((stats.tx_no_carrier, stats.tx_dropped, stats.tx_packets), (1, 2, 0));
}
