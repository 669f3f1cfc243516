//! The driver's behaviour on a kernel that does what the test says.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use io_pkt_sdk::{Args, Driver, DriverStats, Interest, testing::Bench};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::*;
use crate::offload::VNET_HEADER;

thread_local! {
    /// The kernel of the driver that is being tested on this thread.
    static FAKE: RefCell<Option<Rc<Fake>>> = const { RefCell::new(None) };
}

/// What the test and the driver share.
struct Fake {
    news: EventFd,
    frames: EventFd,
    room: EventFd,
    link: RefCell<Option<Link>>,
    incoming: RefCell<VecDeque<Vec<u8>>>,
    outgoing: RefCell<Vec<Vec<u8>>>,
    /// What the next attempts to send come to; all goes well when it is empty.
    outcomes: RefCell<VecDeque<Sent>>,
    /// How many attempts to go on with accepted frames come to nothing.
    unfinished: Cell<u32>,
    opened: Cell<u32>,
    refuse_to_open: Cell<bool>,
}

impl Fake {
    fn set_link(&self, link: Option<Link>) {
        *self.link.borrow_mut() = link;
        self.news.write(1).expect("an eventfd");
    }

    fn put(&self, frame: Vec<u8>) {
        self.incoming.borrow_mut().push_back(frame);
        self.frames.write(1).expect("an eventfd");
    }

    fn outcome(&self) -> Sent {
        self.outcomes.borrow_mut().pop_front().unwrap_or(Sent::All)
    }
}

struct FakeKernel(Rc<Fake>);
struct FakeWire(Rc<Fake>);

impl Kernel for FakeKernel {
    type Wire = FakeWire;

    fn watch(&mut self, host: &Host, token: u64) -> Result<PollHandle, Error> {
        host.watch(&self.0.news, Interest::Read, token)
    }

    fn changed(&mut self) -> bool {
        self.0.news.read().is_ok()
    }

    fn find(&mut self, _: Option<i32>) -> Result<Option<Link>, Error> {
        Ok(self.0.link.borrow().clone())
    }

    fn open(&mut self, _: &Link) -> Result<FakeWire, Error> {
        if self.0.refuse_to_open.get() {
            return Err(Error::new(libc::EPERM, "not now"));
        }
        self.0.opened.set(self.0.opened.get() + 1);
        Ok(FakeWire(Rc::clone(&self.0)))
    }

    fn describe(&self, link: Option<&Link>) -> Interface {
        let Some(link) = link else { return Interface::default() };
        Interface {
            link_up: link.has_carrier(),
            mac: link.mac,
            mtu: link.mtu,
            system_name: link.name.clone(),
            ..Interface::default()
        }
    }

    fn not_found(&mut self) -> Error {
        Error::new(libc::ENODEV, "no such interface")
    }
}

impl Wire for FakeWire {
    fn watch_receiving(&self, host: &Host, token: u64) -> Result<PollHandle, Error> {
        host.watch(&self.0.frames, Interest::Read, token)
    }

    fn watch_sending(&self, host: &Host, token: u64) -> Result<PollHandle, Error> {
        host.watch(&self.0.room, Interest::Read, token)
    }

    fn receive(&mut self, intake: &mut Intake, limit: usize) -> bool {
        for _ in 0..limit {
            let Some(frame) = self.0.incoming.borrow_mut().pop_front() else { return false };
            intake.copy(&frame, [0; VNET_HEADER], None);
        }
        true
    }

    fn transmit(&mut self, frames: &mut TxBatch<'_>, counters: &mut Counters) -> Sent {
        let outcome = self.0.outcome();
        if outcome == Sent::All {
            counters.tx_packets += frames.frames().count() as u64;
            self.0.outgoing.borrow_mut().extend(frames.frames().map(|frame| frame.to_vec()));
            frames.finish(usize::MAX);
        }
        outcome
    }

    fn resume(&mut self) -> bool {
        let left = self.0.unfinished.get();
        self.0.unfinished.set(left.saturating_sub(1));
        left == 0
    }

    fn drops(&mut self) -> u64 {
        1
    }
}

/// The driver as it is exported, but for the kernel below it.
struct Tested(Device<FakeKernel>);

impl Driver for Tested {
    fn create(host: Host, args: &Args<'_>) -> Result<Self, Error> {
        let fake = FAKE.with(|fake| fake.borrow().clone()).expect("set by the test");
        Ok(Self(Device::new(host, FakeKernel(fake), args.generic().multicast)))
    }

    fn start(&mut self) -> Result<(), Error> {
        self.0.start()
    }

    fn poll(&mut self, work: &mut Work<'_>) -> Result<(), Error> {
        self.0.poll(work)
    }

    fn transmit(&mut self, frames: &mut TxBatch<'_>) -> Result<(), Error> {
        self.0.transmit(frames)
    }

    fn stats(&mut self) -> DriverStats {
        let (counters, link) = self.0.stats();
        counters.report(link.as_ref())
    }

    fn stop(&mut self) {
        self.0.stop();
    }
}

fn link(index: i32) -> Link {
    let flags = (libc::IFF_UP | libc::IFF_LOWER_UP) as u32;
    Link { index, name: "eth1".to_owned(), flags, mac: Mac([2, 0, 0, 0, 0, 1]), mtu: 1500, ..Link::default() }
}

fn made(first: Option<Link>) -> (Rc<Fake>, Bench) {
    let event = || EventFd::from_flags(EfdFlags::EFD_NONBLOCK).expect("an eventfd");
    let fake = Rc::new(Fake {
        news: event(),
        frames: event(),
        room: event(),
        link: RefCell::new(first),
        incoming: RefCell::default(),
        outgoing: RefCell::default(),
        outcomes: RefCell::default(),
        unfinished: Cell::default(),
        opened: Cell::default(),
        refuse_to_open: Cell::default(),
    });
    FAKE.with(|slot| *slot.borrow_mut() = Some(Rc::clone(&fake)));
    let bench = Bench::driver::<Tested>("en0", "/nonexistent", &[]).expect("made");
    (fake, bench)
}

fn mounted() -> (Rc<Fake>, Bench) {
    let (fake, mut bench) = made(Some(link(7)));
    bench.start().expect("started");
    bench.settle();
    (fake, bench)
}

fn told(bench: &Bench) -> Interface {
    bench.interface().expect("told")
}

const FRAME: [u8; 60] = [0x44; 60];

#[test]
fn a_mount_without_the_interface_is_refused() {
    let (_fake, mut bench) = made(None);
    assert_eq!(bench.start().expect_err("refused").errno(), libc::ENODEV);
}

#[test]
fn frames_pass_both_ways() {
    let (fake, mut bench) = mounted();
    fake.put(FRAME.to_vec());
    bench.settle();
    assert_eq!(bench.received(), [FRAME]);
    assert_eq!(bench.transmit(&[&FRAME]), 1);
    assert_eq!(*fake.outgoing.borrow(), [FRAME]);
}

#[test]
fn more_frames_than_a_turn_allows_come_in_the_next() {
    let (fake, mut bench) = mounted();
    for _ in 0..200 {
        fake.put(FRAME.to_vec());
    }
    bench.settle();
    assert_eq!(bench.received().len(), 200, "one edge was enough");
}

#[test]
fn a_vanished_interface_drops_frames_until_it_returns() {
    let (fake, mut bench) = mounted();
    fake.set_link(None);
    bench.settle();
    assert!(!told(&bench).link_up);
    assert_eq!(told(&bench).mac, Mac([2, 0, 0, 0, 0, 1]), "what was known still holds");
    assert_eq!(bench.transmit(&[&FRAME, &FRAME]), 2);
    assert_eq!((bench.stats().tx_no_carrier, fake.outgoing.borrow().len()), (2, 0));
    fake.set_link(Some(link(8)));
    bench.settle();
    assert!(told(&bench).link_up);
    assert_eq!((bench.transmit(&[&FRAME]), fake.opened.get()), (1, 2));
    assert_eq!(fake.outgoing.borrow().len(), 1);
}

#[test]
fn an_interface_that_cannot_be_opened_yet_is_tried_at_the_next_change() {
    let (fake, mut bench) = mounted();
    fake.set_link(None);
    bench.settle();
    fake.refuse_to_open.set(true);
    fake.set_link(Some(link(8)));
    bench.settle();
    assert!(!told(&bench).link_up);
    fake.refuse_to_open.set(false);
    fake.set_link(Some(link(8)));
    bench.settle();
    assert!(told(&bench).link_up);
}

#[test]
fn another_interface_of_the_same_name_and_another_payload_size_open_anew() {
    let (fake, mut bench) = mounted();
    fake.set_link(Some(link(9)));
    bench.settle();
    assert_eq!(fake.opened.get(), 2);
    fake.set_link(Some(Link { mtu: 9000, ..link(9) }));
    bench.settle();
    assert_eq!((fake.opened.get(), told(&bench).mtu), (3, 9000));
    fake.set_link(Some(Link { mtu: 9000, name: "renamed".to_owned(), ..link(9) }));
    bench.settle();
    assert_eq!(
        (fake.opened.get(), told(&bench).system_name.as_str()),
        (3, "renamed"),
        "a new name is no reason"
    );
}

#[test]
fn a_lost_carrier_drops_frames_and_keeps_the_interface_open() {
    let (fake, mut bench) = mounted();
    fake.set_link(Some(Link { flags: libc::IFF_UP as u32, ..link(7) }));
    bench.settle();
    assert!(!told(&bench).link_up);
    assert_eq!(bench.transmit(&[&FRAME]), 1);
    assert_eq!((bench.stats().tx_no_carrier, fake.opened.get()), (1, 1));
}

#[test]
fn a_kernel_without_room_keeps_frames_with_the_host() {
    let (fake, mut bench) = mounted();
    fake.outcomes.borrow_mut().push_back(Sent::Blocked);
    assert_eq!(bench.transmit(&[&FRAME]), 0, "the host keeps it");
    assert_eq!(bench.host().watched(), 3, "and the driver waits for room");
    fake.room.write(1).expect("an eventfd");
    bench.settle();
    assert_eq!(bench.host().watched(), 2, "waiting is over");
    assert_eq!(bench.transmit(&[&FRAME]), 1);
    assert_eq!(bench.stats().tx_dropped, 0);
}

#[test]
fn the_driver_goes_on_with_accepted_frames_until_all_are_on_their_way() {
    let (fake, mut bench) = mounted();
    fake.outcomes.borrow_mut().push_back(Sent::Blocked);
    fake.unfinished.set(2);
    bench.transmit(&[&FRAME]);
    fake.room.write(1).expect("an eventfd");
    bench.settle();
    assert_eq!(fake.unfinished.get(), 0, "it has tried until there was nothing left");
    assert_eq!(bench.host().watched(), 2, "waiting is over");
}

#[test]
fn an_interface_that_goes_off_under_a_batch_costs_that_batch() {
    let (fake, mut bench) = mounted();
    fake.outcomes.borrow_mut().push_back(Sent::Down);
    assert_eq!(bench.transmit(&[&FRAME, &FRAME, &FRAME]), 3);
    assert_eq!(bench.stats().tx_no_carrier, 3);
}

#[test]
fn what_the_kernel_dropped_is_counted_even_when_the_interface_is_gone() {
    let (fake, mut bench) = mounted();
    assert_eq!(bench.stats().rx_dropped, 1);
    fake.set_link(None);
    bench.settle();
    assert_eq!((bench.stats().rx_dropped, bench.stats().rx_dropped), (2, 2));
}
