//! All uses of this daemon: mounting, unmounting, and keeping a failure to the one it belongs to.
//!
//! ```text
//!  mount   resolve ─ load ─ check options ─ name ─ create ─ start ─ tell the protocols
//!  umount  tell the protocols ─ stop ─ unwatch ─ destroy ─ take back chunks and queues ─ end helpers ─ free the name
//! ```
//!
//! A use that fails goes the same way as one that is unmounted; its reason is logged and kept for `pidin` to show.
//! Moving frames is the other half of this type, in `carry.rs`.

mod carry;
mod explain;
mod find;
mod leftovers;
mod mount;
mod unmount;

use std::{collections::VecDeque, path::PathBuf, rc::Rc};

use ctl::{Interface, Root, Stats, Target};
use io_pkt_abi::{FrameDesc, PollEvent};
use io_pkt_host::{Kind, LoadMode, Loader};

use crate::{
    border::Role,
    core::Core,
    names::DeviceDir,
    switchboard::{BATCH, InterfaceId, ProtocolSlot},
    threads::{PinnedDriver, ThreadLost, Threads},
    uses::{Body, Use, UseId},
};

pub use find::{Finder, Found, ModuleFile};
pub use mount::MountError;
pub use unmount::UnmountError;

/// Failed uses that are remembered.
const FAILED_KEPT: usize = 32;

/// What a daemon is: the same for all its uses.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The node's root.
    pub root: Root,
    /// Instance number.
    pub instance: u32,
    /// Where device files go.
    pub devices: DeviceDir,
}

/// The uses, in the order they were mounted.
#[derive(Debug)]
pub struct Registry {
    identity: Identity,
    core: Rc<Core>,
    threads: Threads,
    loader: Loader,
    uses: Vec<Use>,
    next_id: u32,
    /// Uses that failed and wait to be taken away.
    doomed: Vec<UseId>,
    failed: VecDeque<ctl::Use>,
    /// Reused for every batch.
    batch: Vec<FrameDesc>,
}

impl Registry {
    /// A registry without uses.
    #[must_use]
    pub fn new(identity: Identity, core: Rc<Core>, threads: Threads, mode: LoadMode) -> Self {
        *core.resolvers.borrow_mut() = Loader::new(mode);
        Self {
            identity,
            core,
            threads,
            loader: Loader::new(mode),
            uses: Vec::new(),
            next_id: 1,
            doomed: Vec::new(),
            failed: VecDeque::new(),
            batch: Vec::with_capacity(2 * BATCH),
        }
    }

    /// What the daemon is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The shared parts.
    #[must_use]
    pub fn core(&self) -> &Rc<Core> {
        &self.core
    }

    /// Number of uses.
    #[must_use]
    pub fn len(&self) -> usize {
        self.uses.len()
    }

    /// True when nothing is mounted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.uses.is_empty()
    }

    /// Notes an event for a use; false when the use is gone.
    pub fn notify(&mut self, id: UseId, event: PollEvent) -> bool {
        let found = self.uses.iter_mut().find(|use_| use_.id() == id);
        found.map(|use_| use_.notify(event)).is_some()
    }

    /// The earliest deadline of a use, 0 for none.
    #[must_use]
    pub fn deadline(&self) -> u64 {
        self.uses.iter().map(|use_| use_.context.deadline()).filter(|at| *at > 0).min().unwrap_or(0)
    }

    /// True when a module asked to be polled soon, from inside one of its own calls.
    #[must_use]
    pub fn is_woken(&self) -> bool {
        self.uses.iter().any(|use_| use_.context.is_woken())
    }

    /// Prepares for a sleep of the loop. False when a driver on another thread has news, and there should be none.
    #[must_use]
    pub fn lie_down(&self, now: u64) -> bool {
        if self.threads.is_empty() {
            return true;
        }
        self.core.bell.lie_down();
        let pinned = || self.uses.iter().filter_map(|use_| use_.pinned());
        let news = pinned().any(PinnedDriver::has_news);
        if news {
            self.core.bell.get_up();
        } else {
            pinned().for_each(|driver| driver.watch_if_busy(now));
        }
        !news
    }

    /// The sleep is over.
    pub fn get_up(&self) {
        if !self.threads.is_empty() {
            self.core.bell.get_up();
        }
    }

    /// Somebody woke the loop: a packet thread, for instance, that has news of itself.
    ///
    /// # Errors
    /// A packet thread is lost.
    pub fn on_wake(&self) -> Result<(), ThreadLost> {
        self.threads.look(&mut self.core.pool.borrow_mut())
    }

    /// Ends the other packet threads; call it when all uses are gone.
    pub fn end_threads(&mut self) {
        self.threads.end();
    }

    /// The interfaces, or the one that `name` means (any form that `umount` takes).
    pub fn interfaces(&mut self, name: Option<&str>) -> Vec<Interface> {
        let wanted = name.map(|name| self.find(name));
        let wanted = (0..self.uses.len()).filter(|at| wanted.is_none_or(|wanted| wanted == Some(*at)));
        let interfaces = wanted.filter_map(|at| self.interface(at)).collect();
        // A driver that cannot even count is beyond repair.
        self.bury();
        interfaces
    }

    /// The mapped builds with their uses.
    #[must_use]
    pub fn builds(&self) -> Vec<ctl::Build> {
        let mut builds = self.loader.builds();
        builds.extend(self.core.resolvers.borrow().builds());
        builds
            .iter()
            .map(|build| {
                let (major, minor) = build.abi();
                let uses = self.uses.iter().filter(|use_| std::ptr::eq(use_.build(), &raw const **build));
                ctl::Build {
                    name: build.name().to_owned(),
                    path: build.path().to_owned(),
                    build_id: build.build_id().to_owned(),
                    abi: format!("{major}.{minor}"),
                    address: build.range().start as u64,
                    code: build.code_size(),
                    data: build.data_size(),
                    uses: uses.map(|use_| use_.describe(self.chunks_of(use_))).collect(),
                }
            })
            .collect()
    }

    /// Uses that failed, the latest last.
    #[must_use]
    pub fn failed(&self) -> Vec<ctl::Use> {
        self.failed.iter().cloned().collect()
    }

    /// A protocol's report; `None` when no protocol is called so.
    pub fn report(&mut self, name: &str, topic: &str) -> Option<Result<String, io_pkt_host::CallError>> {
        let at = self.uses.iter().position(|use_| use_.name() == name && use_.kind() == Kind::Protocol)?;
        let Body::Protocol(protocol) = &mut self.uses[at].body else { return None };
        let report = protocol.report(topic);
        self.look_at(at);
        self.bury();
        Some(report)
    }

    /// The use that a user means by `text`: its name, its device file, or the system's name of an interface.
    fn find(&self, text: &str) -> Option<usize> {
        let target = Target::parse(text, self.identity.devices.path());
        let by_name = self.uses.iter().position(|use_| use_.name() == target.name);
        by_name.or_else(|| {
            let system_name = |use_: &Use| use_.context.interface().map(|data| data.system_name);
            self.uses.iter().position(|use_| !target.is_path && system_name(use_).as_deref() == Some(text))
        })
    }

    fn interface(&mut self, at: usize) -> Option<Interface> {
        let Role::Driver(id) = self.uses[at].role() else { return None };
        let stats = self.uses[at].stats()?.map(known).unwrap_or_default();
        self.look_at(at);
        let use_ = &self.uses[at];
        let board = self.core.board.borrow();
        let mut report = Interface {
            name: use_.name().to_owned(),
            system_name: String::new(),
            driver: use_.build().name().to_owned(),
            driver_path: use_.build().path().to_owned(),
            path: use_.device.as_ref().map_or_else(PathBuf::new, |device| device.path().to_owned()),
            instance: self.identity.instance,
            pid: std::process::id(),
            description: String::new(),
            media: String::new(),
            mac: ctl::Mac::default(),
            permanent_mac: ctl::Mac::default(),
            mtu: 0,
            speed_mbps: None,
            full_duplex: false,
            link: false,
            promiscuous: false,
            multicast: false,
            stats,
            queued: board.queued(id) as u64,
            drops: board.port_drops(id).report(),
        };
        if let Some(data) = use_.context.interface() {
            data.fill(&mut report);
        }
        Some(report)
    }

    /// Shares the pool's part for stocks of chunks among the drivers on other threads.
    fn share_out(&mut self) {
        let drivers = self.uses.iter().filter(|use_| use_.pinned().is_some()).count();
        let pool = self.core.pool.borrow().config().chunks as usize;
        for use_ in &mut self.uses {
            if let Body::Pinned(driver) = &mut use_.body {
                driver.share(pool, drivers);
            }
        }
    }

    fn chunks_of(&self, use_: &Use) -> u64 {
        self.core.pool.borrow().held_by(use_.context.holder())
    }

    fn driver_of(&self, id: InterfaceId) -> Option<usize> {
        self.uses.iter().position(|use_| use_.role() == Role::Driver(id))
    }

    fn protocol_of(&self, slot: ProtocolSlot) -> Option<usize> {
        self.uses.iter().position(|use_| use_.role() == Role::Protocol(slot))
    }

    fn protocols(&self) -> Vec<UseId> {
        self.uses.iter().filter(|use_| use_.kind() == Kind::Protocol).map(Use::id).collect()
    }

    fn place(&self, id: UseId) -> Option<usize> {
        self.uses.iter().position(|use_| use_.id() == id)
    }
}

/// The counters that a driver knows.
fn known(stats: io_pkt_abi::DriverStats) -> Stats {
    let some = |value: u64| (value != io_pkt_abi::info::UNKNOWN).then_some(value);
    Stats {
        tx_packets: some(stats.tx_packets),
        tx_bytes: some(stats.tx_bytes),
        tx_no_memory: some(stats.tx_no_memory),
        rx_packets: some(stats.rx_packets),
        rx_bytes: some(stats.rx_bytes),
        rx_no_memory: some(stats.rx_no_memory),
        single_collisions: some(stats.single_collisions),
        deferred: some(stats.deferred),
        late_collisions: some(stats.late_collisions),
        tx_aborted: some(stats.tx_aborted),
        tx_underruns: some(stats.tx_underruns),
        tx_no_carrier: some(stats.tx_no_carrier),
        rx_alignment: some(stats.rx_alignment),
        rx_crc: some(stats.rx_crc),
        rx_dropped: some(stats.rx_dropped),
        tx_dropped: some(stats.tx_dropped),
    }
}
