//! What belongs to the process as a whole: its channels, their clients, its links and connections, its threads.
//!
//! ```text
//!  chid  ──▶ Port (a channel)      rcvid ──▶ client number ──▶ Port      coid ──▶ Connection ──▶ Link (a socket)
//! ```
//!
//! A child begins with none of them. Locks here are held for a moment and never while another one is waited for.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs, process,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicI32, Ordering},
    },
};

use crate::{
    ChannelFlags, Connection, Error, Event, Pulse, Root,
    calls::SIDE_CHANNEL,
    link::{Link, Target},
    port::Port,
    sys::{self, PerProcess},
    watch::Watch,
};

/// Bits of an rcvid that tell the messages of one client apart.
pub(crate) const SEQUENCE_BITS: u32 = 11;
/// Clients that a process's channels may have in all.
const MAX_CLIENTS: u32 = 1 << (31 - SEQUENCE_BITS);

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Process {
    generation: u32,
    pub(crate) root: OnceLock<Root>,
    pub(crate) ports: Mutex<BTreeMap<i32, Weak<Port>>>,
    lowest_chid: AtomicI32,
    pub(crate) channels: Mutex<BTreeMap<i32, Arc<Port>>>,
    clients: Mutex<Clients>,
    pub(crate) links: Mutex<HashMap<Target, Weak<Link>>>,
    pub(crate) connections: Mutex<BTreeMap<i32, Attached>>,
    /// Below these no number for a connection is free: one among descriptors, one on the side.
    pub(crate) hints: [AtomicI32; 2],
    pub(crate) threads: Mutex<BTreeSet<i32>>,
    pub(crate) events: Mutex<BTreeMap<i32, (Event, i32)>>,
    pub(crate) last_event: AtomicI32,
    pub(crate) watch: OnceLock<Watch>,
}

/// A connection that has a number.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) connection: Arc<Connection>,
    /// `_NTO_COF_*` that the program may change.
    pub(crate) flags: u32,
}

/// Numbers of clients, given in turn so that one that is gone is not met again soon.
#[derive(Debug, Default)]
struct Clients {
    last: u32,
    ports: HashMap<u32, Weak<Port>>,
}

/// The process that asks.
pub(crate) fn get() -> &'static Process {
    static PROCESS: PerProcess<Process> = PerProcess::new();
    PROCESS.get(Process::is_current, || Process {
        generation: sys::generation(),
        root: OnceLock::new(),
        ports: Mutex::default(),
        lowest_chid: AtomicI32::new(1),
        channels: Mutex::default(),
        clients: Mutex::default(),
        links: Mutex::default(),
        connections: Mutex::default(),
        hints: [AtomicI32::new(3), AtomicI32::new(SIDE_CHANNEL.cast_signed())],
        threads: Mutex::default(),
        events: Mutex::default(),
        last_event: AtomicI32::new(0),
        watch: OnceLock::new(),
    })
}

/// Locks; what a thread that panicked left behind is whole, because nothing here is changed in steps.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This process's number.
pub(crate) fn pid() -> i32 {
    process::id().cast_signed()
}

/// Whether a process has a thread that runs, or would if it were its turn. Of one that cannot be seen nobody knows: no.
pub(crate) fn wants_to_run(pid: i32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().any(|thread| {
        // `tid (name) state …`, and the name may be anything; `D`: what it needs is not in memory.
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['R', 'D']))
    })
}

impl Process {
    /// Whether no fork lies between.
    pub(crate) fn is_current(&self) -> bool {
        self.generation == sys::generation()
    }

    /// The root of the node that the calls with handles work on.
    pub(crate) fn root(&self) -> Result<&Root, Error> {
        if let Some(root) = self.root.get() {
            return Ok(root);
        }
        let root = Root::locate(None)?;
        Ok(self.root.get_or_init(|| root))
    }

    /// Enters a channel under the lowest free number; `make` opens it, or gives `None` where somebody else squats.
    pub(crate) fn add_port(
        &self,
        mut make: impl FnMut(i32) -> Result<Option<Arc<Port>>, Error>,
    ) -> Result<Arc<Port>, Error> {
        let mut ports = lock(&self.ports);
        // (1, 1) is the node's server, whoever has the pid.
        let first = if pid() == 1 { 2 } else { 1 };
        // Below the hint none is free; it goes down when a channel is gone.
        let known = self.lowest_chid.swap(i32::MAX, Ordering::Relaxed);
        for chid in known.max(first)..i32::MAX {
            if ports.get(&chid).is_some_and(|port| port.strong_count() > 0) {
                continue;
            }
            let made = make(chid);
            if let Ok(None) = made {
                continue;
            }
            self.lowest_chid.fetch_min(chid, Ordering::Relaxed);
            let port = made?.ok_or(Error::Errno(libc::EADDRINUSE))?;
            ports.insert(chid, Arc::downgrade(&port));
            return Ok(port);
        }
        Err(Error::Errno(libc::EAGAIN))
    }

    /// A channel is gone, and its number free.
    pub(crate) fn remove_port(&self, chid: i32) {
        self.lowest_chid.fetch_min(chid, Ordering::Relaxed);
    }

    /// Every channel with one of these flags.
    pub(crate) fn ports_with(&self, flags: ChannelFlags) -> Vec<Arc<Port>> {
        let ports: Vec<_> = lock(&self.ports).values().filter_map(Weak::upgrade).collect();
        ports.into_iter().filter(|port| port.flags().contains(flags)).collect()
    }

    /// A number for a new client of a channel.
    pub(crate) fn add_client(&self, port: &Weak<Port>) -> Option<u32> {
        let mut clients = lock(&self.clients);
        if clients.ports.len() >= MAX_CLIENTS as usize / 2 {
            return None;
        }
        loop {
            clients.last = if clients.last + 1 < MAX_CLIENTS { clients.last + 1 } else { 1 };
            let number = clients.last;
            if let std::collections::hash_map::Entry::Vacant(free) = clients.ports.entry(number) {
                free.insert(Weak::clone(port));
                return Some(number);
            }
        }
    }

    /// A client is gone.
    pub(crate) fn remove_client(&self, number: u32) {
        lock(&self.clients).ports.remove(&number);
    }

    /// The channel that a client number belongs to.
    pub(crate) fn port_of_client(&self, number: u32) -> Option<Arc<Port>> {
        lock(&self.clients).ports.get(&number).and_then(Weak::upgrade)
    }

    /// The channel that a received message came in on.
    pub(crate) fn port_of(&self, rcvid: i32) -> Result<Arc<Port>, Error> {
        let number = u32::try_from(rcvid).map_err(|_| Error::Errno(libc::ESRCH))? >> SEQUENCE_BITS;
        self.port_of_client(number).ok_or(Error::Errno(libc::ESRCH))
    }

    /// A connection by its number.
    pub(crate) fn connection(&self, coid: i32) -> Result<Arc<Connection>, Error> {
        let connections = lock(&self.connections);
        let attached = connections.get(&coid).ok_or(Error::Errno(libc::EBADF))?;
        Ok(Arc::clone(&attached.connection))
    }

    /// A thread ended: the channels that asked for it hear of it.
    pub(crate) fn thread_ended(&self, number: i32) {
        let pulse = Pulse {
            code: Pulse::THREADDEATH,
            value: number as u64,
            priority: crate::thread::DEFAULT_PRIORITY,
            scoid: 0,
        };
        for port in self.ports_with(ChannelFlags::THREAD_DEATH) {
            port.post(pulse);
        }
    }

    /// The server behind connections ended: the channels that asked for it hear of it.
    pub(crate) fn servers_died(&self, is_dead: impl Fn(&Connection) -> bool) {
        let dead: Vec<i32> = lock(&self.connections)
            .iter()
            .filter(|(_, attached)| is_dead(&attached.connection))
            .map(|(coid, _)| *coid)
            .collect();
        if dead.is_empty() {
            return;
        }
        let ports = self.ports_with(ChannelFlags::COID_DISCONNECT);
        for coid in dead {
            let (priority, scoid) = (crate::thread::DEFAULT_PRIORITY, 0);
            let pulse = Pulse { code: Pulse::COIDDEATH, value: coid as u64, priority, scoid };
            ports.iter().for_each(|port| port.post(pulse));
        }
    }
}
