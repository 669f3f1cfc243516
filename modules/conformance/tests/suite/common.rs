//! What all conformance tests share: the workshop, one loader for the process, uses on a test host.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use conformance::Workshop;
use io_pkt_abi::{
    FrameDesc, InterfaceEvent, InterfaceInfo, PollWork, frame::FLAG_CONTINUES, info::EVENT_ARRIVED,
};
use io_pkt_host::{
    Build, CallError, DriverUse, Kind, LoadError, Loader, ProtocolUse, State, UseError, UseSpec, options,
};
use io_pkt_sdk::testing::TestHost;
use tempfile::TempDir;

/// Built once for each test binary, in Cargo's directory for test files.
pub(crate) fn workshop() -> &'static Workshop {
    static WORKSHOP: OnceLock<Workshop> = OnceLock::new();
    WORKSHOP.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance");
        fs::create_dir_all(&dir).expect("a directory for modules");
        Workshop::new(&dir).unwrap_or_else(|error| panic!("{error}"))
    })
}

/// A module that is built when the first test asks for it.
pub(crate) fn module(name: &str) -> PathBuf {
    static BUILT: Mutex<Vec<(String, PathBuf)>> = Mutex::new(Vec::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, file)) = built.iter().find(|(known, _)| known == name) {
        return file.clone();
    }
    let shop = workshop();
    let file = match name {
        "echo" => shop.c_module("echo.c", "devn-echo.so", &[]),
        "naughty" => shop.naughty(),
        "frozen" => shop.frozen_1_0(),
        "later" => shop.later_minor(),
        other => panic!("no recipe for {other}"),
    };
    let file = file.unwrap_or_else(|error| panic!("{error}"));
    built.push((name.to_owned(), file.clone()));
    file
}

/// The loader of this process: there must not be two, and tests run on many threads.
pub(crate) fn loader() -> MutexGuard<'static, Loader> {
    static LOADER: OnceLock<Mutex<Loader>> = OnceLock::new();
    LOADER.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// Loads a driver.
pub(crate) fn driver(file: &Path) -> Result<Arc<Build>, LoadError> {
    loader().load(Kind::Driver, file)
}

/// One line, as an operator reads it, that begins with the file.
pub(crate) fn refusal(file: &Path) -> String {
    let error = driver(file).expect_err("it must be refused");
    let text = error.to_string();
    assert!(!text.contains('\n'), "more than one line: {text}");
    let begin = format!("{}: ", file.display());
    text.strip_prefix(&begin).unwrap_or_else(|| panic!("the file is not named first: {text}")).to_owned()
}

/// A driver on a host of its own.
#[derive(Debug)]
pub(crate) struct Driver {
    // Dropped first: the host must outlive it.
    pub(crate) use_: DriverUse,
    pub(crate) host: TestHost,
    more: bool,
    _root: TempDir,
}

impl Driver {
    /// Makes and starts a use, with options as typed.
    pub(crate) fn start(build: &Arc<Build>, typed: &str) -> Result<Self, UseError> {
        let mut driver = Self::create(build, typed)?;
        driver.use_.start()?;
        Ok(driver)
    }

    pub(crate) fn create(build: &Arc<Build>, typed: &str) -> Result<Self, UseError> {
        let (host, root) = (TestHost::new(), TempDir::new().expect("a root for the node"));
        let accepted = build.accept(&options::parse(typed)).unwrap_or_else(|error| panic!("{error}"));
        // SAFETY: the host is dropped after the use.
        let use_ = unsafe { DriverUse::create(build, &spec(&host, "en0", &root, &accepted.pass)) }?;
        Ok(Self { use_, host, more: false, _root: root })
    }

    /// Polls until nothing is due.
    pub(crate) fn settle(&mut self) -> Result<(), CallError> {
        for _ in 0..1000 {
            let events = self.host.turn(0);
            if events.is_empty() && !self.more {
                return Ok(());
            }
            let mut work = work(&self.host, &events);
            self.use_.poll(&mut work)?;
            self.more = work.more != 0;
        }
        panic!("a thousand polls and still something to do");
    }

    /// Offers frames; returns how many whole frames were taken.
    pub(crate) fn transmit(&mut self, frames: &[&[u8]]) -> Result<usize, CallError> {
        let descs = self.host.give(frames);
        let (taken, result) = self.use_.transmit(&descs);
        let (took, left) = descs.split_at(taken);
        self.host.take_back(left);
        result.map(|()| whole_frames(took))
    }

    /// What has to be true of a use that is gone.
    pub(crate) fn end(self) {
        let Self { use_, host, _root, .. } = self;
        drop(use_);
        check_end(&host);
    }
}

/// A protocol on a host of its own.
#[derive(Debug)]
pub(crate) struct Protocol {
    pub(crate) use_: ProtocolUse,
    pub(crate) host: TestHost,
    _root: TempDir,
}

impl Protocol {
    pub(crate) fn create(build: &Arc<Build>, typed: &str) -> Result<Self, UseError> {
        let (host, root) = (TestHost::new(), TempDir::new().expect("a root for the node"));
        let accepted = build.accept(&options::parse(typed)).unwrap_or_else(|error| panic!("{error}"));
        // SAFETY: the host is dropped after the use.
        let use_ =
            unsafe { ProtocolUse::create(build, &spec(&host, build.prefix(), &root, &accepted.pass)) }?;
        Ok(Self { use_, host, _root: root })
    }

    pub(crate) fn poll(&mut self) -> Result<(), CallError> {
        let events = self.host.turn(0);
        self.use_.poll(&mut work(&self.host, &events))
    }

    pub(crate) fn receive(&mut self, interface: u32, frames: &[&[u8]]) -> Result<bool, CallError> {
        let descs = self.host.give(frames);
        self.use_.receive(interface, &descs)
    }

    pub(crate) fn arrive(&mut self, interface: u32, name: &str) -> Result<(), CallError> {
        let bytes = |text: &str| io_pkt_abi::Bytes { ptr: text.as_ptr(), len: text.len() as u64 };
        let info = InterfaceInfo {
            size: size_of::<InterfaceInfo>() as u32,
            flags: 1,
            mac: [2, 0, 0, 0, 0, interface as u8],
            permanent_mac: [2, 0, 0, 0, 0, interface as u8],
            mtu: 1500,
            speed_mbps: 0,
            reserved: 0,
            system_name: bytes("test"),
            description: bytes("test"),
            media: bytes(""),
        };
        let event = InterfaceEvent {
            size: size_of::<InterfaceEvent>() as u32,
            kind: EVENT_ARRIVED,
            interface,
            reserved: 0,
            name: bytes(name),
            info: &raw const info,
        };
        // SAFETY: all of it lives until the call returns.
        unsafe { self.use_.interface_event(&event) }
    }

    pub(crate) fn end(self) {
        let Self { use_, host, _root } = self;
        drop(use_);
        check_end(&host);
    }
}

fn check_end(host: &TestHost) {
    assert_eq!(host.violations(), Vec::<String>::new(), "rules of the border were broken");
    assert_eq!(host.held_by_use(), 0, "chunks were kept");
    assert_eq!(host.watched(), 0, "descriptors are still watched");
}

fn spec<'a>(
    host: &TestHost,
    name: &'a str,
    root: &'a TempDir,
    options: &'a [(String, String)],
) -> UseSpec<'a> {
    let root = root.path().to_str().expect("a path of letters");
    UseSpec {
        name,
        instance: 0,
        host: host.table(),
        ctx: host.ctx(),
        root,
        devices: root,
        net: root,
        options,
        state: &[],
    }
}

fn work(host: &TestHost, events: &[io_pkt_abi::PollEvent]) -> PollWork {
    PollWork {
        size: size_of::<PollWork>() as u32,
        n_events: events.len() as u32,
        events: events.as_ptr(),
        now: host.now(),
        budget_frames: 256,
        budget_bytes: 1 << 20,
        more: 0,
        done: 0,
    }
}

fn whole_frames(descs: &[FrameDesc]) -> usize {
    assert!(descs.last().is_none_or(|desc| desc.flags & FLAG_CONTINUES == 0), "a part of a frame was taken");
    descs.iter().filter(|desc| desc.flags & FLAG_CONTINUES == 0).count()
}

/// Sends frames through a driver that returns them, and compares.
pub(crate) fn carries_frames(driver: &mut Driver) {
    let (small, full) = (vec![0x55; 60], (0..1514).map(|n| n as u8).collect::<Vec<_>>());
    assert_eq!(driver.transmit(&[&small, &full, &small]), Ok(3));
    assert_eq!(driver.settle(), Ok(()));
    let back = driver.host.delivered();
    assert_eq!(back.iter().map(Vec::len).collect::<Vec<_>>(), [60, 1514, 60]);
    assert_eq!(back[1][12..], full[12..]);
    assert_eq!(*driver.use_.state(), State::Started);
}
