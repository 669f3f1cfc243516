//! A use of a driver: one mounted interface.

use std::sync::Arc;

use io_pkt_abi::{DriverStats, DriverTable, FrameDesc, PollWork};

use crate::{
    Build,
    build::Table,
    life::{CallError, Core, State, UseError, UseSpec, call_error},
};

/// A running (or failed) driver. Stays on the thread that made it; dropping it stops and destroys it.
#[derive(Debug)]
pub struct DriverUse {
    core: Core,
    table: Functions,
}

/// The table's copy: function pointers one load away.
struct Functions(DriverTable);

impl std::fmt::Debug for Functions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0.header)
    }
}

impl DriverUse {
    /// Makes a use of a driver's build.
    ///
    /// # Safety
    /// `spec.host` and `spec.ctx` keep the promises of [`io_pkt_abi::HostTable`] until the use is dropped.
    ///
    /// # Errors
    /// [`UseError`] with the module's sentence; nothing remains.
    pub unsafe fn create(build: &Arc<Build>, spec: &UseSpec<'_>) -> Result<Self, UseError> {
        let Table::Driver(table) = build.table() else {
            return Err(UseError {
                module: build.name().to_owned(),
                name: spec.name.to_owned(),
                step: "create",
                errno: libc::EINVAL,
                text: "it is a protocol, not a driver".to_owned(),
            });
        };
        // SAFETY: the function is from the build's table; the rest is promised by the caller.
        let core = unsafe { Core::create(build, spec, table.create) }?;
        Ok(Self { core, table: Functions(*table) })
    }

    /// Opens the device.
    ///
    /// # Errors
    /// [`UseError`] with the module's sentence; drop the use then.
    pub fn start(&mut self) -> Result<(), UseError> {
        // SAFETY: the function is from the build's table.
        unsafe { self.core.start(self.table.0.start) }
    }

    /// Lets the driver work. Nothing happens to a use that is not started.
    ///
    /// # Errors
    /// [`CallError`]; the use is marked failed.
    #[inline]
    pub fn poll(&mut self, work: &mut PollWork) -> Result<(), CallError> {
        if !self.core.is_running() {
            return Ok(());
        }
        // SAFETY: a started use; `work` and its events live until the call returns.
        let code = unsafe { (self.table.0.poll)(self.core.use_, work) };
        self.core.hot("poll", code)
    }

    /// Offers frames; returns how many descriptors the driver took over, also when it failed. The caller keeps the rest.
    ///
    /// # Errors
    /// [`CallError`]; the use is marked failed.
    #[inline]
    pub fn transmit(&mut self, frames: &[FrameDesc]) -> (usize, Result<(), CallError>) {
        if !self.core.is_running() || frames.is_empty() {
            return (0, Ok(()));
        }
        let mut taken = 0;
        // SAFETY: a started use; the descriptors live until the call returns.
        let code = unsafe {
            (self.table.0.transmit)(self.core.use_, frames.as_ptr(), frames.len() as u32, &raw mut taken)
        };
        if taken as usize > frames.len() {
            self.core.fail(format!("transmit took {taken} of {} descriptors", frames.len()));
            return (frames.len(), Err(call_error("transmit", -libc::EPROTO)));
        }
        (taken as usize, self.core.hot("transmit", code))
    }

    /// The driver's counters.
    ///
    /// # Errors
    /// [`CallError`] when it gives none; the use lives on.
    pub fn stats(&mut self) -> Result<DriverStats, CallError> {
        if !self.core.is_running() {
            return Err(call_error("stats", -libc::ENODEV));
        }
        let mut stats = DriverStats::unknown();
        // SAFETY: a started use; the structure says its size.
        match unsafe { (self.table.0.stats)(self.core.use_, &raw mut stats) } {
            0 => Ok(stats),
            code => Err(call_error("stats", code)),
        }
    }

    /// Takes the use down: the device is closed, chunks come back. Doing it twice does nothing.
    ///
    /// # Errors
    /// [`CallError`] when the driver could not restore something; it is down nevertheless.
    pub fn stop(&mut self) -> Result<(), CallError> {
        // SAFETY: the function is from the build's table.
        unsafe { self.core.stop(self.table.0.stop) }
    }

    /// Marks the use failed, with the reason that the module gave to `HostTable::fail`. The first reason stays, except
    /// that a sentence replaces the bare errno of a call that failed before.
    pub fn fail(&mut self, reason: impl Into<String>) {
        self.core.fail(reason.into());
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.core.state
    }

    /// Its name (`en0`).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// Its build.
    #[must_use]
    pub fn build(&self) -> &Arc<Build> {
        &self.core.build
    }
}

impl Drop for DriverUse {
    fn drop(&mut self) {
        // SAFETY: the functions are from the build's table, and this is the end of the use.
        unsafe { self.core.end(self.table.0.stop, self.table.0.destroy) };
    }
}
