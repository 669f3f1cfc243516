//! What only drivers do: one mounted interface.

use io_pkt_abi::{DriverStats, DriverTable, FrameDesc};

use crate::{
    Build, Kind,
    build::Table,
    life::{CallError, call_error},
    mounted::{Create, Destroy, Functions, Poll, Start, Stop, Use},
};

/// A use of a driver: one interface.
pub type DriverUse = Use<DriverTable>;

impl Functions for DriverTable {
    const KIND: Kind = Kind::Driver;

    fn of(build: &Build) -> Option<Self> {
        match build.table() {
            Table::Driver(table) => Some(*table),
            Table::Protocol(..) | Table::Resolver(_) => None,
        }
    }

    fn create(&self) -> Create {
        self.create
    }

    fn start(&self) -> Start {
        self.start
    }

    #[inline]
    fn poll(&self) -> Poll {
        self.poll
    }

    fn stop(&self) -> Stop {
        self.stop
    }

    fn destroy(&self) -> Destroy {
        self.destroy
    }
}

impl Use<DriverTable> {
    /// Offers frames; returns how many descriptors the driver took over, also when it failed. The caller keeps the rest.
    ///
    /// # Errors
    /// [`CallError`]; the use is marked failed.
    #[inline]
    pub fn transmit(&mut self, frames: &[FrameDesc]) -> (usize, Result<(), CallError>) {
        if !self.is_running() || frames.is_empty() {
            return (0, Ok(()));
        }
        let mut taken = 0;
        // SAFETY: a started use; the descriptors live until the call returns.
        let code =
            unsafe { (self.table.transmit)(self.use_, frames.as_ptr(), frames.len() as u32, &raw mut taken) };
        if taken as usize > frames.len() {
            self.fail(format!("transmit took {taken} of {} descriptors", frames.len()));
            return (frames.len(), Err(call_error("transmit", -libc::EPROTO)));
        }
        (taken as usize, self.hot("transmit", code))
    }

    /// The driver's counters.
    ///
    /// # Errors
    /// [`CallError`] when it gives none; the use lives on.
    pub fn stats(&mut self) -> Result<DriverStats, CallError> {
        if !self.is_running() {
            return Err(call_error("stats", -libc::ENODEV));
        }
        let mut stats = DriverStats::unknown();
        // SAFETY: a started use; the structure says its size.
        match unsafe { (self.table.stats)(self.use_, &raw mut stats) } {
            0 => Ok(stats),
            code => Err(call_error("stats", code)),
        }
    }
}
