//! One call of `poll`: what is ready, how much may be done.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use io_pkt_abi::{
    PollEvent, PollWork,
    info::{READY_DEADLINE, READY_ERROR, READY_HELPER_EXIT, READY_READ, READY_WAKE, READY_WRITE},
};

use crate::raw;

/// Something that happened since the last call of `poll`.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct Ready(PollEvent);

impl Ready {
    /// The token given to [`crate::Host::watch`] or [`crate::HelperSpec::new`]; 0 for wake-ups and deadlines.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.0.token
    }

    /// The descriptor can be read, or its peer closed.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.0.ready & READY_READ != 0
    }

    /// The descriptor can be written.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.0.ready & READY_WRITE != 0
    }

    /// The descriptor has an error or a hang-up.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.0.ready & READY_ERROR != 0
    }

    /// Somebody called [`crate::Waker::wake`].
    #[must_use]
    pub fn is_wake(&self) -> bool {
        self.0.ready & READY_WAKE != 0
    }

    /// The deadline passed.
    #[must_use]
    pub fn is_deadline(&self) -> bool {
        self.0.ready & READY_DEADLINE != 0
    }

    /// How the helper process behind the token ended, when it did.
    #[must_use]
    pub fn helper_exit(&self) -> Option<ExitStatus> {
        (self.0.ready & READY_HELPER_EXIT != 0).then(|| ExitStatus::from_raw(self.0.value))
    }
}

/// The work of one `poll`. Readiness is edge-triggered: work until the system says "would block", or until
/// [`Work::may_go_on`] is false, and then call [`Work::more`].
#[derive(Debug)]
pub struct Work<'a> {
    raw: &'a mut PollWork,
    frames: u32,
    bytes: u32,
}

impl<'a> Work<'a> {
    /// # Safety
    /// `raw.events` is valid for `raw.n_events` events during `'a`.
    pub(crate) unsafe fn new(raw: &'a mut PollWork) -> Self {
        raw.more = 0;
        raw.done = 0;
        let (frames, bytes) = (raw.budget_frames, raw.budget_bytes);
        Self { raw, frames, bytes }
    }

    /// What happened; empty when the call is the answer to [`Work::more`].
    pub fn events(&self) -> impl Iterator<Item = Ready> + use<'a> {
        // SAFETY: valid during `'a` by the promise made to `new`; the host does not write to them meanwhile.
        let events: &'a [PollEvent] = unsafe { raw::elements(self.raw.events, self.raw.n_events as usize) };
        events.iter().map(|event| Ready(*event))
    }

    /// Nanoseconds since the host's arbitrary start, read once per turn of its loop.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.raw.now
    }

    /// Frames that may still be handled in this call.
    #[must_use]
    pub fn frames_left(&self) -> usize {
        self.frames as usize
    }

    /// Bytes that may still be handled in this call. The last frame may go beyond that.
    #[must_use]
    pub fn bytes_left(&self) -> usize {
        self.bytes as usize
    }

    /// Whether both budgets have something left.
    #[must_use]
    pub fn may_go_on(&self) -> bool {
        self.frames > 0 && self.bytes > 0
    }

    /// Takes handled frames off the budgets and counts them as done work.
    pub fn handled(&mut self, frames: usize, bytes: usize) {
        self.frames = self.frames.saturating_sub(u32::try_from(frames).unwrap_or(u32::MAX));
        self.bytes = self.bytes.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.did(frames);
    }

    /// Counts work other than frames. With nothing counted the loop concludes that spinning does not pay.
    pub fn did(&mut self, units: usize) {
        self.raw.done = self.raw.done.saturating_add(u32::try_from(units).unwrap_or(u32::MAX));
    }

    /// Asks to be called again soon, without a new event.
    pub fn more(&mut self) {
        self.raw.more = 1;
    }
}
