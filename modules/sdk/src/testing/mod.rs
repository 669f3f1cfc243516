//! A host for tests: everything that `io-pkt` does for one use, in the test's own thread.
//!
//! [`Bench`] drives a [`Driver`] or a [`Protocol`] through the real tables, with a real pool and edge-triggered descriptors;
//! [`TestHost`] below it keeps what the module hands over so that the test can look at it. When the bench is dropped, the
//! use is stopped and destroyed, and every chunk must be back: a leak fails the test.
//!
//! ```no_run
//! # use io_pkt_sdk::{Driver, testing::Bench};
//! # fn test<MyDriver: Driver>() {
//! let mut bench = Bench::driver::<MyDriver>("en0", "/tmp", &[("period", "10")]).expect("made");
//! bench.start().expect("opened");
//! let mut frames = Vec::new();
//! bench.poll_until(|bench| {
//!     frames.extend(bench.received());
//!     frames.len() > 3
//! });
//! # }
//! ```

mod host;
pub mod netns;
#[cfg(test)]
mod tests;

use std::{
    ffi::c_void,
    fmt,
    time::{Duration, Instant},
};

use io_pkt_abi::{
    Bytes, CreateArgs, DriverTable, FrameDesc, InterfaceEvent, OptionValue, PollEvent, PollWork,
    ProtocolTable, TextBuf,
    frame::FLAG_CONTINUES,
    info::{EVENT_ARRIVED, EVENT_CHANGED, EVENT_GONE},
};

pub use self::host::{LogLine, Spawned, TestHost};
use crate::{
    BATCH, Driver, DriverStats, Error, Interface, InterfaceId, Protocol, driver_table, interface::EventKind,
    protocol_table,
};

/// Frames and bytes that one `poll` may handle, as in the daemon.
const BUDGET: (u32, u32) = (64, 256 * 1024);
/// How long [`Bench::poll_until`] goes on before the test fails.
const PATIENCE: Duration = Duration::from_secs(20);
/// Chunks in the pool.
const CHUNKS: usize = 512;
/// Room for texts that a module writes.
const TEXT: usize = 64 * 1024;

/// One use under test, with its host.
pub struct Bench {
    host: TestHost,
    table: Table,
    use_: *mut c_void,
    started: bool,
    /// The last `poll` asked to be called again.
    more: bool,
}

enum Table {
    Driver(DriverTable),
    Protocol(ProtocolTable),
}

impl fmt::Debug for Bench {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bench").field("started", &self.started).finish_non_exhaustive()
    }
}

impl Bench {
    /// Makes a use of a driver, with options that the daemon would have checked, and `root` as the node's root.
    ///
    /// # Errors
    /// What `create` says.
    pub fn driver<D: Driver>(name: &str, root: &str, options: &[(&str, &str)]) -> Result<Self, Error> {
        Self::make(Self::host_in_time(), Table::Driver(driver_table::<D>()), name, root, options)
    }

    /// Makes a use of a protocol.
    ///
    /// # Errors
    /// What `create` says.
    pub fn protocol<P: Protocol>(name: &str, root: &str, options: &[(&str, &str)]) -> Result<Self, Error> {
        Self::make(Self::host_in_time(), Table::Protocol(protocol_table::<P>()), name, root, options)
    }

    /// Makes a use of a protocol whose clock stands still until [`TestHost::advance`].
    ///
    /// # Errors
    /// What `create` says.
    pub fn protocol_in_still_time<P: Protocol>(
        name: &str,
        root: &str,
        options: &[(&str, &str)],
    ) -> Result<Self, Error> {
        let host = TestHost::with_pool(CHUNKS, 2048);
        Self::make(host, Table::Protocol(protocol_table::<P>()), name, root, options)
    }

    /// Starts the use.
    ///
    /// # Errors
    /// What `start` says; the use is then to be dropped.
    pub fn start(&mut self) -> Result<(), Error> {
        let mut room = Room::new();
        let start = match &self.table {
            Table::Driver(table) => table.start,
            Table::Protocol(table) => table.start,
        };
        // SAFETY: the use is alive, and the room is valid during the call.
        let code = unsafe { start(self.use_, &mut room.text) };
        self.started = code == 0;
        room.outcome(code)
    }

    /// Calls `poll` once with what is ready now; true when there was work or anything ready.
    ///
    /// # Panics
    /// When the use says that it is beyond repair.
    pub fn poll(&mut self) -> bool {
        let events = self.host.turn(0);
        if events.is_empty() && !self.more {
            return false;
        }
        if let Err(error) = self.poll_with(&events) {
            panic!("poll failed: {error}");
        }
        true
    }

    /// Calls `poll` with these events.
    ///
    /// # Errors
    /// Why the use is beyond repair.
    pub fn poll_with(&mut self, events: &[PollEvent]) -> Result<(), Error> {
        let mut work = PollWork {
            size: size_of::<PollWork>() as u32,
            n_events: events.len() as u32,
            events: events.as_ptr(),
            now: self.host.now(),
            budget_frames: BUDGET.0,
            budget_bytes: BUDGET.1,
            more: 0,
            done: 0,
        };
        let poll = match &self.table {
            Table::Driver(table) => table.poll,
            Table::Protocol(table) => table.poll,
        };
        // SAFETY: the use is alive; the work and its events are valid during the call.
        let code = unsafe { poll(self.use_, &mut work) };
        self.more = work.more != 0;
        match code {
            0 => Ok(()),
            code => Err(Error::new(-code, self.host.failure().unwrap_or_default())),
        }
    }

    /// Calls `poll` whenever something is ready until `done` says so.
    ///
    /// # Panics
    /// When that takes longer than 20 seconds.
    pub fn poll_until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < end, "it did not happen within {PATIENCE:?}");
            if !self.poll() {
                self.host.wait(Duration::from_millis(5));
            }
        }
    }

    /// Calls `poll` until nothing is ready.
    pub fn settle(&mut self) {
        while self.poll() {}
    }

    /// Frames that the driver delivered since the last call.
    pub fn received(&mut self) -> Vec<Vec<u8>> {
        self.host.delivered()
    }

    /// Frames that the protocol sent since the last call, with their interface.
    pub fn sent(&mut self) -> Vec<(InterfaceId, Vec<u8>)> {
        self.host.sent().into_iter().map(|(to, frame)| (InterfaceId(to), frame)).collect()
    }

    /// Asks the driver to send frames; returns how many it took. Those it left are freed, as after an umount.
    ///
    /// # Panics
    /// When this is no driver, or it says that it is beyond repair.
    pub fn transmit(&mut self, frames: &[&[u8]]) -> usize {
        let Table::Driver(table) = &self.table else { panic!("only drivers transmit") };
        let transmit = table.transmit;
        let (mut done, mut at) = (0, 0);
        while at < frames.len() {
            let count = self.host.fitting(&frames[at..], BATCH);
            let descs = self.host.give(&frames[at..at + count]);
            let mut taken = 0;
            // SAFETY: the use is alive; the descriptors are valid during the call.
            let code = unsafe { transmit(self.use_, descs.as_ptr(), descs.len() as u32, &mut taken) };
            let (took, left) = descs.split_at(taken as usize);
            self.host.take_back(left);
            assert_eq!(code, 0, "transmit failed: {:?}", self.host.failure());
            let is_end = |desc: &&FrameDesc| desc.flags & FLAG_CONTINUES == 0;
            assert!(took.last().is_none_or(|desc| is_end(&desc)), "transmit took a part of a frame");
            done += took.iter().filter(is_end).count();
            if !left.is_empty() {
                break;
            }
            at += count;
        }
        done
    }

    /// Hands frames to the protocol as received on an interface.
    ///
    /// # Panics
    /// When this is no protocol, or it says that it is beyond repair.
    pub fn receive(&mut self, interface: InterfaceId, frames: &[&[u8]]) {
        let Table::Protocol(table) = &self.table else { panic!("only protocols receive") };
        let receive = table.receive;
        let descs = self.host.give(frames);
        // SAFETY: the use is alive; the descriptors are valid during the call.
        let code = unsafe { receive(self.use_, interface.0, descs.as_ptr(), descs.len() as u32) };
        assert_eq!(code, 0, "receive failed: {:?}", self.host.failure());
    }

    /// Tells the protocol of an interface.
    ///
    /// # Panics
    /// When this is no protocol, or it says that it is beyond repair.
    pub fn interface_event(&mut self, kind: EventKind, id: InterfaceId, name: &str, interface: &Interface) {
        let Table::Protocol(table) = &self.table else { panic!("only protocols hear of interfaces") };
        let info = interface.info();
        let event = InterfaceEvent {
            size: size_of::<InterfaceEvent>() as u32,
            kind: match kind {
                EventKind::Arrived => EVENT_ARRIVED,
                EventKind::Changed => EVENT_CHANGED,
                EventKind::Gone => EVENT_GONE,
            },
            interface: id.0,
            reserved: 0,
            name: Bytes::borrow(name.as_bytes()),
            info: &info,
        };
        // SAFETY: the use is alive; the event and what it points to are valid during the call.
        let code = unsafe { (table.interface_event)(self.use_, &event) };
        assert_eq!(code, 0, "interface_event failed: {:?}", self.host.failure());
    }

    /// The protocol's report.
    ///
    /// # Errors
    /// What `report` says.
    ///
    /// # Panics
    /// When this is no protocol.
    pub fn report(&mut self, topic: &str) -> Result<String, Error> {
        let Table::Protocol(table) = &self.table else { panic!("only protocols report") };
        let mut room = Room::new();
        // SAFETY: the use is alive; topic and room are valid during the call.
        let code = unsafe { (table.report)(self.use_, Bytes::borrow(topic.as_bytes()), &mut room.text) };
        let text = room.read();
        room.outcome(code).map(|()| text)
    }

    /// The driver's counters.
    ///
    /// # Panics
    /// When this is no driver.
    pub fn stats(&mut self) -> DriverStats {
        let Table::Driver(table) = &self.table else { panic!("only drivers have counters") };
        let mut stats = DriverStats::unknown();
        // SAFETY: the use is alive; the structure is valid during the call.
        let code = unsafe { (table.stats)(self.use_, &mut stats) };
        assert_eq!(code, 0);
        stats
    }

    /// What the driver told last of its interface.
    #[must_use]
    pub fn interface(&self) -> Option<Interface> {
        self.host.interface()
    }

    /// The host: its clock, its log lines, what the use holds.
    #[must_use]
    pub fn host(&self) -> &TestHost {
        &self.host
    }

    /// Chunks that are free now.
    #[must_use]
    pub fn free_chunks(&self) -> usize {
        self.host.free_chunks()
    }

    /// Sets chunks aside so that only `n` are left for the module, or gives them back with `usize::MAX`.
    pub fn leave_chunks(&mut self, n: usize) {
        self.host.leave_chunks(n);
    }

    /// Ends the use; called by drop too.
    pub fn stop(&mut self) {
        if self.use_.is_null() {
            return;
        }
        let (stop, destroy) = match &self.table {
            Table::Driver(table) => (table.stop, table.destroy),
            Table::Protocol(table) => (table.stop, table.destroy),
        };
        if std::mem::take(&mut self.started) {
            // SAFETY: the use is alive.
            let code = unsafe { stop(self.use_) };
            assert!(code == 0 || std::thread::panicking(), "stop failed: {:?}", self.host.failure());
        }
        let use_ = std::mem::replace(&mut self.use_, std::ptr::null_mut());
        // SAFETY: the use is alive, and nobody calls it afterwards.
        unsafe { destroy(use_) };
    }

    fn host_in_time() -> TestHost {
        TestHost::with_pool(CHUNKS, 2048).with_real_clock()
    }

    fn make(
        host: TestHost,
        table: Table,
        name: &str,
        root: &str,
        options: &[(&str, &str)],
    ) -> Result<Self, Error> {
        let options: Vec<OptionValue> = options
            .iter()
            .map(|(name, value)| OptionValue {
                name: Bytes::borrow(name.as_bytes()),
                value: Bytes::borrow(value.as_bytes()),
            })
            .collect();
        let mut room = Room::new();
        let args = CreateArgs {
            size: size_of::<CreateArgs>() as u32,
            instance: 0,
            host: host.table(),
            ctx: host.ctx(),
            name: Bytes::borrow(name.as_bytes()),
            root: Bytes::borrow(root.as_bytes()),
            options: options.as_ptr(),
            n_options: options.len() as u64,
            state: Bytes::EMPTY,
            error: &mut room.text,
            devices: Bytes::borrow(root.as_bytes()),
            net: Bytes::borrow(root.as_bytes()),
        };
        let mut use_ = std::ptr::null_mut();
        let create = match &table {
            Table::Driver(table) => table.create,
            Table::Protocol(table) => table.create,
        };
        // SAFETY: the arguments and all they point to are valid during the call; the host outlives the use.
        let code = unsafe { create(&args, &mut use_) };
        room.outcome(code)?;
        Ok(Self { host, table, use_, started: false, more: false })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            return;
        }
        assert_eq!(self.host.violations(), Vec::<String>::new(), "the module broke rules of the border");
        assert_eq!(self.host.held_by_use(), 0, "chunks were not given back");
        assert_eq!(self.host.watched(), 0, "descriptors are still watched");
    }
}

/// Room for a sentence.
struct Room {
    bytes: Box<[u8]>,
    text: TextBuf,
}

impl Room {
    fn new() -> Self {
        let mut bytes = vec![0; TEXT].into_boxed_slice();
        let text = TextBuf { ptr: bytes.as_mut_ptr(), cap: TEXT as u64, len: 0 };
        Self { bytes, text }
    }

    fn read(&self) -> String {
        String::from_utf8_lossy(&self.bytes[..self.text.len as usize]).into_owned()
    }

    fn outcome(&self, code: i32) -> Result<(), Error> {
        if code == 0 { Ok(()) } else { Err(Error::new(-code, self.read())) }
    }
}
