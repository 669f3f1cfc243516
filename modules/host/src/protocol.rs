//! A use of a protocol.

use std::sync::Arc;

use io_pkt_abi::{Bytes, FrameDesc, InterfaceEvent, PollWork, ProtocolTable, TextBuf};

use crate::{
    Build,
    build::Table,
    life::{CallError, Core, State, UseError, UseSpec, call_error},
};

/// Room for a report at first, and at most.
const REPORT_ROOM: (usize, usize) = (1 << 14, 1 << 22);

/// A running (or failed) protocol. Stays on the thread that made it; dropping it stops and destroys it.
#[derive(Debug)]
pub struct ProtocolUse {
    core: Core,
    table: Functions,
}

/// The table's copy: function pointers one load away.
struct Functions(ProtocolTable);

impl std::fmt::Debug for Functions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0.header)
    }
}

impl ProtocolUse {
    /// Makes a use of a protocol's build.
    ///
    /// # Safety
    /// `spec.host` and `spec.ctx` keep the promises of [`io_pkt_abi::HostTable`] until the use is dropped.
    ///
    /// # Errors
    /// [`UseError`] with the module's sentence; nothing remains.
    pub unsafe fn create(build: &Arc<Build>, spec: &UseSpec<'_>) -> Result<Self, UseError> {
        let Table::Protocol(table, _) = build.table() else {
            return Err(UseError {
                module: build.name().to_owned(),
                name: spec.name.to_owned(),
                step: "create",
                errno: libc::EINVAL,
                text: "it is a driver, not a protocol".to_owned(),
            });
        };
        // SAFETY: the function is from the build's table; the rest is promised by the caller.
        let core = unsafe { Core::create(build, spec, table.create) }?;
        Ok(Self { core, table: Functions(*table) })
    }

    /// Lets it claim its ethertypes. Tell it the interfaces that are present right after.
    ///
    /// # Errors
    /// [`UseError`] with the module's sentence; drop the use then.
    pub fn start(&mut self) -> Result<(), UseError> {
        // SAFETY: the function is from the build's table.
        unsafe { self.core.start(self.table.0.start) }
    }

    /// Lets it work. Nothing happens to a use that is not started.
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

    /// Hands over frames received on an interface. Returns false, and the caller keeps them, when the use is not started.
    ///
    /// # Errors
    /// [`CallError`]; the use is marked failed, and the frames are its own until it is destroyed.
    #[inline]
    pub fn receive(&mut self, interface: u32, frames: &[FrameDesc]) -> Result<bool, CallError> {
        if !self.core.is_running() {
            return Ok(false);
        }
        // SAFETY: a started use; the descriptors live until the call returns.
        let code = unsafe {
            (self.table.0.receive)(self.core.use_, interface, frames.as_ptr(), frames.len() as u32)
        };
        self.core.hot("receive", code).map(|()| true)
    }

    /// Tells of an interface.
    ///
    /// # Safety
    /// `event.name` and `event.info` with its texts are valid during the call.
    ///
    /// # Errors
    /// [`CallError`]; the use is marked failed.
    pub unsafe fn interface_event(&mut self, event: &InterfaceEvent) -> Result<(), CallError> {
        if !self.core.is_running() {
            return Ok(());
        }
        // SAFETY: a started use; the event is promised by the caller.
        let code = unsafe { (self.table.0.interface_event)(self.core.use_, event) };
        self.core.hot("interface_event", code)
    }

    /// The protocol's report for people; `topic` is empty or names a part.
    ///
    /// # Errors
    /// [`CallError`] (`ENOENT` for an unknown topic), with the module's sentence if it gave one; the use lives on.
    pub fn report(&mut self, topic: &str) -> Result<String, CallError> {
        if !self.core.is_running() {
            return Err(call_error("report", -libc::ENODEV));
        }
        let mut room = REPORT_ROOM.0;
        loop {
            let mut bytes = vec![0; room];
            let mut buf = TextBuf { ptr: bytes.as_mut_ptr(), cap: room as u64, len: 0 };
            // SAFETY: a started use; topic and room live until the call returns.
            let code = unsafe {
                (self.table.0.report)(self.core.use_, Bytes::borrow(topic.as_bytes()), &raw mut buf)
            };
            // A full room (less than a character free) means that there may be more.
            if buf.len as usize + 4 > room && room < REPORT_ROOM.1 {
                room *= 4;
                continue;
            }
            bytes.truncate(buf.len as usize);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if code == 0 {
                return Ok(text);
            }
            let mut error = call_error("report", code);
            if !text.is_empty() {
                error.text = text;
            }
            return Err(error);
        }
    }

    /// Takes the use down: helpers end, chunks come back. Doing it twice does nothing.
    ///
    /// # Errors
    /// [`CallError`] when something could not be given back; it is down nevertheless.
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

    /// Its name (`qnet`).
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

impl Drop for ProtocolUse {
    fn drop(&mut self) {
        // SAFETY: the functions are from the build's table, and this is the end of the use.
        unsafe { self.core.end(self.table.0.stop, self.table.0.destroy) };
    }
}
