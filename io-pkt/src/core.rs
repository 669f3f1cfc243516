//! What the host functions work on: clock, pool, switchboard, watched descriptors, helpers.
//!
//! ```text
//!  Core   loop 0 only: the pool's books and the switchboard
//!   └ LoopParts   every packet thread has its own: clock, watched descriptors, helpers, bell
//! ```
//!
//! All of it lives on its loop's thread. The parts are borrowed for the length of one host function or of one step of the
//! loop, never while a module runs, so a module that calls back finds everything free.

use std::{cell::RefCell, io, ops::Deref, path::PathBuf, rc::Rc, sync::Arc};

use io_pkt_abi::PoolInfo;
use io_pkt_host::{Loader, SearchPath};
use mio::{Registry, Waker};

use crate::{
    clock::Clock,
    helpers::Helpers,
    pool::{Pool, PoolConfig, PoolMemory},
    sources::Sources,
    switchboard::Switchboard,
    threads::Bell,
    token::{Address, Class},
};

/// What each loop has for the modules that run on it.
#[derive(Debug)]
pub struct LoopParts {
    /// Time.
    pub clock: Clock,
    /// Watched descriptors.
    pub sources: RefCell<Sources>,
    /// Helper processes.
    pub helpers: RefCell<Helpers>,
    /// Ends a sleep of the loop, from any thread.
    pub waker: Arc<Waker>,
    /// Ends a sleep of the loop if it does sleep.
    pub bell: Arc<Bell>,
    /// Where modules and helper programs lie.
    pub search: SearchPath,
    pool_info: PoolInfo,
    /// `pool_info` points into it.
    _memory: PoolMemory,
}

impl LoopParts {
    /// Makes the parts on that poller.
    ///
    /// # Errors
    /// When the waker cannot be made.
    pub fn new(
        registry: &Registry,
        clock: Clock,
        memory: PoolMemory,
        search: SearchPath,
    ) -> io::Result<Self> {
        let waker = Arc::new(Waker::new(registry, Address::only(Class::Waker).token())?);
        Ok(Self {
            clock,
            sources: RefCell::new(Sources::new(registry.try_clone()?)),
            helpers: RefCell::new(Helpers::new(registry.try_clone()?)),
            bell: Arc::new(Bell::new(Arc::clone(&waker))),
            waker,
            search,
            pool_info: memory.info(),
            _memory: memory,
        })
    }

    /// Where the pool is, as modules are told. Never moves.
    #[must_use]
    pub fn pool_info(&self) -> &PoolInfo {
        &self.pool_info
    }

    /// The helper program of that name, beside the modules or the executable.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        self.search.program(name)
    }
}

/// The shared parts of one daemon.
#[derive(Debug)]
pub struct Core {
    /// Packet pool.
    pub pool: RefCell<Pool>,
    /// Frame routing.
    pub board: RefCell<Switchboard>,
    /// The resolvers that protocols have opened. A loader of its own, since protocols open them while they are being
    /// mounted by the other one; no file is of both sorts.
    pub resolvers: RefCell<Loader>,
    parts: Rc<LoopParts>,
}

impl Core {
    /// Makes the parts on that poller.
    ///
    /// # Errors
    /// When the pool or the waker cannot be made.
    pub fn new(registry: &Registry, config: PoolConfig, search: SearchPath) -> io::Result<Self> {
        let pool = Pool::new(config)?;
        let parts = LoopParts::new(registry, Clock::start(), pool.memory(), search)?;
        Ok(Self {
            pool: RefCell::new(pool),
            board: RefCell::new(Switchboard::new(config.chunks)),
            resolvers: RefCell::new(Loader::default()),
            parts: Rc::new(parts),
        })
    }

    /// What loop 0 has like every other loop.
    #[must_use]
    pub fn parts(&self) -> &Rc<LoopParts> {
        &self.parts
    }
}

impl Deref for Core {
    type Target = LoopParts;

    fn deref(&self) -> &LoopParts {
        &self.parts
    }
}
