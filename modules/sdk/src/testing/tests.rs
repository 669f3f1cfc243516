//! What the SDK promises to modules, seen through the test host.

use std::{cell::RefCell, fmt, fs::File, io::Write, rc::Rc};

use super::*;
use crate::{
    Args, BATCH, Batch, Driver, DriverStats, Error, Host, Interest, Interface, InterfaceId, Mac, Opt,
    PollHandle, Protocol, PushError, Stock, TxBatch, Work,
    interface::{Event, EventKind},
};

/// A driver that does what its `mode` option says.
struct Odd {
    host: Host,
    mode: String,
    pipe: Option<(PollHandle, File, File)>,
    kept: Batch,
    stopped: Rc<RefCell<bool>>,
}

impl Driver for Odd {
    const OPTIONS: &'static [Opt] = &[Opt::text("mode", "what to do")];

    fn create(host: Host, args: &Args<'_>) -> Result<Self, Error> {
        let mode = args.text("mode").unwrap_or_default().to_owned();
        match mode.as_str() {
            "refuse" => return Err(Error::new(libc::ENODEV, "there is no such card")),
            "panic in create" => panic!("no card at all"),
            _ => {}
        }
        Ok(Self { kept: host.batch(), host, mode, pipe: None, stopped: Rc::default() })
    }

    fn start(&mut self) -> Result<(), Error> {
        match self.mode.as_str() {
            "panic in start" => panic!("the card burns"),
            "watch" => {
                let mut ends = [0; 2];
                // SAFETY: room for two descriptors.
                assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) }, 0);
                // SAFETY: both were just made and belong to nobody.
                let (reader, writer): (File, File) = unsafe {
                    use std::os::fd::FromRawFd;
                    (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1]))
                };
                let handle = self.host.watch(&reader, Interest::Read, 42)?;
                (&writer).write_all(b"x")?;
                self.pipe = Some((handle, reader, writer));
            }
            _ => {}
        }
        self.host.interface(&Interface { mac: Mac([2, 0, 0, 0, 0, 1]), ..Interface::default() })
    }

    fn poll(&mut self, work: &mut Work<'_>) -> Result<(), Error> {
        match self.mode.as_str() {
            "panic in poll" => {
                let _chunks = self.host.alloc(10);
                panic!("frame {} went astray", 7);
            }
            "error in poll" => return Err(Error::new(libc::EIO, "the card fell out")),
            _ => {}
        }
        for event in work.events() {
            tracing::info!(
                token = event.token(),
                wake = event.is_wake(),
                deadline = event.is_deadline(),
                "event"
            );
        }
        tracing::debug!("a debug line");
        Ok(())
    }

    fn transmit(&mut self, frames: &mut TxBatch<'_>) -> Result<(), Error> {
        match self.mode.as_str() {
            "two" => frames.finish(2),
            "panic in transmit" => {
                let mut taken = self.host.batch();
                frames.move_to(&mut taken);
                panic!("out of ink");
            }
            _ => {
                frames.move_to(&mut self.kept);
            }
        }
        Ok(())
    }

    fn stats(&mut self) -> DriverStats {
        DriverStats { tx_packets: 5, ..DriverStats::unknown() }
    }

    fn stop(&mut self) {
        *self.stopped.borrow_mut() = true;
        assert_ne!(self.mode, "panic in stop");
    }
}

fn odd(mode: &str) -> Result<Bench, Error> {
    let mut bench = Bench::driver::<Odd>("en0", "/nonexistent", &[("mode", mode)])?;
    bench.start().map(|()| bench)
}

#[test]
fn a_refusal_crosses_with_errno_and_sentence() {
    let error = odd("refuse").unwrap_err();
    assert_eq!((error.errno(), error.text()), (libc::ENODEV, "there is no such card"));
}

#[test]
fn a_panic_becomes_an_error_with_message_and_place() {
    for mode in ["panic in create", "panic in start"] {
        let error = odd(mode).unwrap_err();
        assert_eq!(error.errno(), libc::EIO);
        assert!(error.text().starts_with("panicked at ") && error.text().contains("tests.rs:"), "{error}");
    }
}

#[test]
fn a_panic_in_poll_fails_the_use_and_returns_its_chunks() {
    let mut bench = odd("panic in poll").unwrap();
    let error = bench.poll_with(&[]).unwrap_err();
    assert!(error.text().ends_with("frame 7 went astray"), "{error}");
    assert_eq!(bench.host().held_by_use(), 0);
    // The module's code is not entered again; its end is orderly all the same (see the bench's drop).
    assert_eq!(bench.poll_with(&[]).unwrap_err().errno(), libc::EIO);
}

#[test]
fn an_error_in_poll_fails_the_use_with_its_sentence() {
    let mut bench = odd("error in poll").unwrap();
    assert_eq!(bench.poll_with(&[]).unwrap_err().text(), "the card fell out");
    assert_eq!(bench.host().failure().as_deref(), Some("the card fell out"));
}

#[test]
#[should_panic(expected = "transmit failed: Some(\"panicked at ")]
fn frames_taken_before_a_panic_are_freed_once() {
    odd("panic in transmit").unwrap().transmit(&[b"a", b"b"]);
}

#[test]
fn frames_that_are_not_taken_stay_with_the_host() {
    let mut bench = odd("two").unwrap();
    assert_eq!(bench.transmit(&[&[1; 60], &[2; 3000], &[3; 60]]), 2);
    assert_eq!(bench.host().held_by_use(), 0);
    assert_eq!(bench.host().free_chunks(), 512);
}

#[test]
fn a_batch_takes_only_whole_frames() {
    let mut bench = odd("").unwrap();
    let jumbo = [7; 9000];
    // Five chunks a frame: twelve frames fit into 64 descriptors.
    assert_eq!(bench.transmit(&[&jumbo[..]; 20]), 12);
    assert_eq!(bench.host().held_by_use(), 60);
}

#[test]
fn chunks_kept_by_the_use_return_at_its_end() {
    let mut bench = odd("").unwrap();
    assert_eq!(bench.transmit(&[b"kept"]), 1);
    assert_eq!(bench.host().held_by_use(), 1);
    drop(bench);
}

#[test]
fn events_reach_poll_and_its_log_lines_reach_the_host() {
    let mut bench = odd("watch").unwrap();
    bench.host().keep_log_level(3);
    bench.poll_with(&bench.host().turn(0)).unwrap();
    let lines: Vec<_> = bench.host().log_lines().into_iter().map(|line| (line.level, line.text)).collect();
    assert_eq!(lines, [(3, "event token=42 wake=false deadline=false".to_owned())]);
    bench.host().keep_log_level(4);
    bench.poll_with(&bench.host().turn(0)).unwrap();
    let lines: Vec<_> = bench.host().log_lines().into_iter().map(|line| (line.level, line.text)).collect();
    assert_eq!(lines, [(4, "a debug line".to_owned())]);
}

#[test]
fn stats_are_written_no_further_than_the_host_knows_them() {
    let mut bench = odd("").unwrap();
    assert_eq!(bench.stats().tx_packets, 5);
    let mut stats = DriverStats::unknown();
    stats.size = 16;
    let table = crate::driver_table::<Odd>();
    // SAFETY: a started use behind the bench's own pointer is not reachable here, so the table's function is called through
    // a use made for this test alone.
    unsafe {
        let host = TestHost::new();
        let name = "en9";
        let args = io_pkt_abi::CreateArgs {
            size: size_of::<io_pkt_abi::CreateArgs>() as u32,
            instance: 0,
            host: host.table(),
            ctx: host.ctx(),
            name: io_pkt_abi::Bytes::from_static(name),
            root: io_pkt_abi::Bytes::EMPTY,
            options: std::ptr::null(),
            n_options: 0,
            state: io_pkt_abi::Bytes::EMPTY,
            error: std::ptr::null_mut(),
            devices: io_pkt_abi::Bytes::EMPTY,
            net: io_pkt_abi::Bytes::EMPTY,
        };
        let mut use_ = std::ptr::null_mut();
        assert_eq!((table.create)(&raw const args, &raw mut use_), 0);
        stats.tx_bytes = 77;
        assert_eq!((table.stats)(use_, &raw mut stats), 0);
        (table.destroy)(use_);
    }
    assert_eq!((stats.tx_packets, stats.tx_bytes), (5, 77));
}

/// A protocol that floods: every frame goes out of both other interfaces, by reference.
struct Flood {
    host: Host,
    stock: Stock,
    events: Vec<Event>,
    leaked: Rc<RefCell<Option<Host>>>,
}

impl Protocol for Flood {
    const PREFIX: &'static str = "flood";

    fn create(host: Host, _: &Args<'_>) -> Result<Self, Error> {
        Ok(Self { stock: Stock::new(&host), host, events: Vec::new(), leaked: Rc::default() })
    }

    fn start(&mut self) -> Result<(), Error> {
        self.host.claim(0x88b5)?;
        assert_eq!(self.host.claim(0x88b5).unwrap_err().errno(), libc::EBUSY);
        assert_eq!(self.host.claim(0x0100).unwrap_err().errno(), libc::EINVAL);
        Ok(())
    }

    fn poll(&mut self, _: &mut Work<'_>) -> Result<(), Error> {
        Ok(())
    }

    fn receive(&mut self, interface: InterfaceId, frames: &mut Batch) -> Result<(), Error> {
        let mut odd = self.host.batch();
        let mut cursor = frames.cursor();
        while let Some(frame) = cursor.next() {
            if frame.frame().first().first() == Some(&1) {
                assert!(frame.move_to(&mut odd));
            }
        }
        drop(cursor);
        let mut copy = odd.share();
        assert!(odd.bytes_mut(0).is_none_or(|bytes| bytes.is_empty()));
        self.host.send(InterfaceId(interface.0 + 1), &mut odd);
        self.host.send(InterfaceId(interface.0 + 2), &mut copy);
        Ok(())
    }

    fn interface_event(&mut self, event: &Event) -> Result<(), Error> {
        self.events.push(event.clone());
        *self.leaked.borrow_mut() = Some(self.host.clone());
        Ok(())
    }

    fn report(&mut self, topic: &str, out: &mut dyn fmt::Write) -> Result<(), Error> {
        match topic {
            "" => {
                let _ =
                    writeln!(out, "{} events, {} bytes a chunk", self.events.len(), self.stock.chunk_room());
                Ok(())
            }
            other => Err(Error::new(libc::ENOENT, format!("no topic {other:?}"))),
        }
    }
}

fn flood() -> Bench {
    let mut bench = Bench::protocol::<Flood>("flood0", "/nonexistent", &[]).unwrap();
    bench.start().unwrap();
    bench
}

#[test]
fn flooding_takes_references_and_the_rest_is_freed() {
    let mut bench = flood();
    bench.receive(InterfaceId(1), &[&[1; 60], &[2; 60], &[1; 4000]]);
    let sent: Vec<_> = bench.host().sent().into_iter().map(|(to, frame)| (to, frame.len())).collect();
    assert_eq!(sent, [(2, 60), (2, 4000), (3, 60), (3, 4000)]);
    assert_eq!(bench.host().free_chunks(), 512);
}

#[test]
fn more_than_a_batch_arrives_in_several_calls() {
    let mut bench = flood();
    let frame = [1; 60];
    bench.receive(InterfaceId(1), &[&frame[..]; 150]);
    assert_eq!(bench.host().sent().len(), 300);
    assert_eq!(bench.host().claims(), [0x88b5]);
}

#[test]
fn a_frame_larger_than_a_batch_is_dropped() {
    let mut bench = flood();
    bench.receive(InterfaceId(1), &[&vec![1; 150_000], &[1; 60]]);
    assert_eq!(bench.host().sent().len(), 2);
}

#[test]
fn interface_events_and_reports_arrive() {
    let mut bench = flood();
    let interface = Interface { system_name: "eth1".to_owned(), ..Interface::default() };
    bench.interface_event(EventKind::Arrived, InterfaceId(3), "en0", &interface);
    assert_eq!(bench.report("").unwrap(), "1 events, 1920 bytes a chunk\n");
    assert_eq!(bench.report("nothing").unwrap_err().text(), "no topic \"nothing\"");
}

#[test]
fn a_composed_frame_spreads_over_chunks() {
    let host = TestHost::new();
    let args = crate::testing::tests::bare_args(&host);
    // SAFETY: `host` outlives everything made here.
    let handle = unsafe { Host::new(&args, "en0") }.unwrap();
    let mut stock = Stock::new(&handle);
    let mut out = handle.batch();
    let (head, body) = ([1; 14], vec![2; 5000]);
    stock.push(&mut out, &[&head, &body, &[]]).unwrap();
    assert_eq!(out.len(), 3);
    assert_eq!(out.frames().map(|frame| frame.len()).collect::<Vec<_>>(), [5014]);
    let whole = out.frames().next().unwrap().to_vec();
    assert!(whole[..14] == head && whole[14..] == body);
    stock
        .push_with(&mut out, |room| {
            room[..4].copy_from_slice(b"tiny");
            4
        })
        .unwrap();
    assert_eq!(out.frames().last().unwrap().contiguous(), Some(&b"tiny"[..]));
    stock.begin().unwrap()[..6].copy_from_slice(b"begun ");
    let again = stock.begin().unwrap();
    assert_eq!((again.len(), &again[..6]), (1920, &b"begun "[..]));
    stock.finish(&mut out, 5).unwrap();
    assert_eq!(out.frames().last().unwrap().contiguous(), Some(&b"begun"[..]));
    assert_eq!(stock.push(&mut out, &[&vec![0; 200_000]]), Err(PushError::TooLarge));
    assert_eq!(stock.push(&mut out, &[&vec![0; 61 * 1920]]), Err(PushError::Full));
    drop((out, stock));
    assert_eq!(host.held_by_use(), 0);
}

#[test]
fn a_stock_that_is_used_up_is_filled_again_and_gives_back_only_its_own() {
    let host = TestHost::new();
    let args = bare_args(&host);
    // SAFETY: `host` outlives everything made here.
    let handle = unsafe { Host::new(&args, "en0") }.unwrap();
    let (mut stock, mut out) = (Stock::new(&handle), handle.batch());
    assert_eq!(stock.finish(&mut out, 1), Err(PushError::NoMemory), "nothing was begun");
    for number in 0..200_u8 {
        if out.room() == 0 {
            out.clear();
        }
        stock.begin().unwrap()[0] = number;
        stock.finish(&mut out, 1).unwrap();
        assert_eq!(out.frames().last().unwrap().contiguous(), Some(&[number][..]));
    }
    let kept = out.len();
    while out.room() > 0 {
        stock.push(&mut out, &[b"x"]).unwrap();
    }
    stock.begin().unwrap();
    assert_eq!(stock.finish(&mut out, 1), Err(PushError::Full));
    drop(stock);
    assert_eq!((kept, host.held_by_use()), (8, BATCH));
    drop(out);
    assert_eq!(host.held_by_use(), 0);
}

#[test]
fn an_empty_pool_is_reported_and_harmless() {
    let host = TestHost::with_pool(4, 2048);
    let args = bare_args(&host);
    // SAFETY: `host` outlives everything made here.
    let handle = unsafe { Host::new(&args, "en0") }.unwrap();
    let taken = handle.alloc(BATCH);
    assert_eq!(taken.len(), 4);
    let mut out = handle.batch();
    assert_eq!(Stock::new(&handle).push(&mut out, &[b"x"]), Err(PushError::NoMemory));
}

#[test]
fn a_reserve_serves_when_the_pool_is_empty() {
    let host = TestHost::with_pool(256, 2048);
    let args = bare_args(&host);
    // SAFETY: `host` outlives everything made here.
    let handle = unsafe { Host::new(&args, "en0") }.unwrap();
    let mut stock = Stock::new(&handle);
    stock.set_reserve(100);
    assert!(stock.replenish(), "more is wanted, and there may be more");
    assert!(!stock.replenish());
    assert_eq!(stock.in_reserve(), 100);
    let taken: Vec<_> =
        std::iter::from_fn(|| Some(handle.alloc(BATCH)).filter(|batch| !batch.is_empty())).collect();
    let (mut sent, mut full) = (0, Vec::new());
    let mut out = handle.batch();
    let end = loop {
        match stock.push(&mut out, &[&[7; 5000]]) {
            Ok(()) => sent += 3,
            Err(PushError::Full) => full.push(std::mem::replace(&mut out, handle.batch())),
            Err(error) => break error,
        }
    };
    // What is left does not make another frame of three chunks.
    assert_eq!((end, sent), (PushError::NoMemory, 99));
    drop((taken, full));
    while stock.replenish() {}
    assert_eq!(stock.in_reserve(), 100, "it is filled again");
    drop((out, stock));
    assert_eq!(host.held_by_use(), 0);
}

#[test]
fn pieces_can_be_cut_grown_and_tied() {
    let host = TestHost::new();
    let args = bare_args(&host);
    // SAFETY: `host` outlives everything made here.
    let handle = unsafe { Host::new(&args, "en0") }.unwrap();
    let mut batch = handle.alloc(3);
    assert!(!batch.set_len(0, 1921) && batch.set_len(0, 10) && !batch.set_len(3, 1));
    batch.bytes_mut(0).unwrap().copy_from_slice(b"0123456789");
    assert!(batch.shrink_front(0, 4) && !batch.shrink_front(0, 7));
    assert_eq!(batch.bytes(0), b"456789");
    assert!(batch.grow_front(0, 132) && !batch.grow_front(0, 1));
    assert_eq!(batch.bytes(0).len(), 138);
    batch.set_continues(0, true);
    assert_eq!(batch.frames().count(), 2);
    batch.drop_first(1);
    assert_eq!((batch.len(), host.held_by_use()), (1, 1));
    let mut other = handle.alloc(64);
    assert_eq!(other.append(&mut batch), 0);
    other.drop_first(1);
    assert_eq!((other.append(&mut batch), batch.len()), (1, 0));
    assert_eq!(other.io_slices_mut().map(|slice| slice.len()).sum::<usize>(), 64 * 1920);
    handle.deliver_first(&mut other, 60);
    assert_eq!((host.delivered().len(), other.len()), (60, 4));
}

#[test]
fn handles_that_outlive_their_use_do_nothing() {
    let host = TestHost::new();
    let args = bare_args(&host);
    // SAFETY: `host` outlives every use of the handle before `bury`.
    let handle = unsafe { Host::new(&args, "en0") }.unwrap();
    let waker = handle.waker();
    std::thread::spawn({
        let waker = waker.clone();
        move || waker.wake()
    })
    .join()
    .unwrap();
    assert_eq!(host.turn(0).len(), 1);
    let batch = handle.alloc(5);
    handle.bury();
    drop(host);
    waker.wake();
    assert_eq!((handle.now(), handle.alloc(4).len()), (0, 0));
    assert_eq!(handle.claim(0x8204).unwrap_err().errno(), libc::ENODEV);
    drop(batch);
}

fn bare_args(host: &TestHost) -> io_pkt_abi::CreateArgs {
    io_pkt_abi::CreateArgs {
        size: size_of::<io_pkt_abi::CreateArgs>() as u32,
        instance: 0,
        host: host.table(),
        ctx: host.ctx(),
        name: io_pkt_abi::Bytes::EMPTY,
        root: io_pkt_abi::Bytes::EMPTY,
        options: std::ptr::null(),
        n_options: 0,
        state: io_pkt_abi::Bytes::EMPTY,
        error: std::ptr::null_mut(),
        devices: io_pkt_abi::Bytes::EMPTY,
        net: io_pkt_abi::Bytes::EMPTY,
    }
}
