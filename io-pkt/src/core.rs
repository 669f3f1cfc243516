//! What the host functions work on: clock, pool, switchboard, watched descriptors, helpers.
//!
//! All of it lives on the loop thread. The parts are borrowed for the length of one host function or of one step of
//! the loop, never while a module runs, so a module that calls back finds everything free.

use std::{cell::RefCell, io, path::PathBuf, sync::Arc};

use io_pkt_abi::PoolInfo;
use io_pkt_host::SearchPath;
use mio::{Registry, Waker};

use crate::{
    clock::Clock,
    helpers::Helpers,
    pool::{Pool, PoolConfig},
    sources::Sources,
    switchboard::Switchboard,
    token::{Address, Class},
};

/// The shared parts of one daemon.
#[derive(Debug)]
pub struct Core {
    /// Time.
    pub clock: Clock,
    /// Packet pool.
    pub pool: RefCell<Pool>,
    /// Frame routing.
    pub board: RefCell<Switchboard>,
    /// Watched descriptors.
    pub sources: RefCell<Sources>,
    /// Helper processes.
    pub helpers: RefCell<Helpers>,
    /// Ends a sleep of the loop, from any thread.
    pub waker: Arc<Waker>,
    /// Where modules and helper programs lie.
    pub search: SearchPath,
    pool_info: PoolInfo,
}

impl Core {
    /// Makes the parts on that poller.
    ///
    /// # Errors
    /// When the pool or the waker cannot be made.
    pub fn new(registry: &Registry, config: PoolConfig, search: SearchPath) -> io::Result<Self> {
        let pool = Pool::new(config)?;
        let pool_info = pool.info();
        Ok(Self {
            clock: Clock::start(),
            pool: RefCell::new(pool),
            board: RefCell::new(Switchboard::new(config.chunks)),
            sources: RefCell::new(Sources::new(registry.try_clone()?)),
            helpers: RefCell::new(Helpers::new(registry.try_clone()?)),
            waker: Arc::new(Waker::new(registry, Address::only(Class::Waker).token())?),
            search,
            pool_info,
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
