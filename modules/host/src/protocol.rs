//! What only protocols do.

use io_pkt_abi::{Bytes, FrameDesc, InterfaceEvent, ProtocolTable, TextBuf};

use crate::{
    Build, Kind,
    build::Table,
    life::{CallError, call_error},
    mounted::{Create, Destroy, Functions, Poll, Start, Stop, Use},
};

/// Room for a report at first, and at most.
const REPORT_ROOM: (usize, usize) = (1 << 14, 1 << 22);

/// A use of a protocol.
pub type ProtocolUse = Use<ProtocolTable>;

impl Functions for ProtocolTable {
    const KIND: Kind = Kind::Protocol;

    fn of(build: &Build) -> Option<Self> {
        match build.table() {
            Table::Protocol(table, _) => Some(*table),
            Table::Driver(_) | Table::Resolver(_) => None,
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

impl Use<ProtocolTable> {
    /// Hands over frames received on an interface. Returns false, and the caller keeps them, when the use is not started.
    ///
    /// # Errors
    /// [`CallError`]; the use is marked failed, and the frames are its own until it is destroyed.
    #[inline]
    pub fn receive(&mut self, interface: u32, frames: &[FrameDesc]) -> Result<bool, CallError> {
        if !self.is_running() {
            return Ok(false);
        }
        // SAFETY: a started use; the descriptors live until the call returns.
        let code =
            unsafe { (self.table.receive)(self.use_, interface, frames.as_ptr(), frames.len() as u32) };
        self.hot("receive", code).map(|()| true)
    }

    /// Tells of an interface.
    ///
    /// # Safety
    /// `event.name` and `event.info` with its texts are valid during the call.
    ///
    /// # Errors
    /// [`CallError`]; the use is marked failed.
    pub unsafe fn interface_event(&mut self, event: &InterfaceEvent) -> Result<(), CallError> {
        if !self.is_running() {
            return Ok(());
        }
        // SAFETY: a started use; the event is promised by the caller.
        let code = unsafe { (self.table.interface_event)(self.use_, event) };
        self.hot("interface_event", code)
    }

    /// The protocol's report for people; `topic` is empty or names a part.
    ///
    /// # Errors
    /// [`CallError`] (`ENOENT` for an unknown topic), with the module's sentence if it gave one; the use lives on.
    pub fn report(&mut self, topic: &str) -> Result<String, CallError> {
        if !self.is_running() {
            return Err(call_error("report", -libc::ENODEV));
        }
        let mut room = REPORT_ROOM.0;
        loop {
            let mut bytes = vec![0; room];
            let mut buf = TextBuf { ptr: bytes.as_mut_ptr(), cap: room as u64, len: 0 };
            // SAFETY: a started use; topic and room live until the call returns.
            let code =
                unsafe { (self.table.report)(self.use_, Bytes::borrow(topic.as_bytes()), &raw mut buf) };
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
}
