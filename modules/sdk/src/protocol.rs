//! Protocols: one trait in safe Rust, and the table that it becomes.

use std::{ffi::c_void, fmt};

use io_pkt_abi::{
    ABI_MAJOR, ABI_MINOR, Bytes, CreateArgs, FrameDesc, Header, InterfaceEvent, PollWork, ProtocolTable,
    TextBuf,
    table::{CAP_SINGLE, CAP_UNMOUNTABLE},
};

use crate::{
    Args, Batch, Error, Host, InterfaceId, Opt, Work,
    batch::BATCH,
    entry::{self, the_use},
    fence,
    frame::first_frame,
    interface, log, raw,
};

/// A protocol: takes frames of the ethertypes that it claims, sends frames out of interfaces.
///
/// All methods run on the use's loop thread, one at a time. Only `create`, `start` and `stop` may take their time (up to a
/// second). An error from `poll`, `receive` or `interface_event` means that the use is beyond repair: the host stops and
/// destroys it and shows the sentence to the operator.
pub trait Protocol: Sized + 'static {
    /// Options that it understands.
    const OPTIONS: &'static [Opt] = &[];
    /// Prefix of the names of its uses: `bridge` gives `bridge0`. With [`Protocol::SINGLE`], the name itself.
    const PREFIX: &'static str;
    /// Whether a use can be taken away at run time.
    const UNMOUNTABLE: bool = true;
    /// Whether there is at most one use per daemon.
    const SINGLE: bool = false;

    /// Makes a use; nothing of the outside world is changed yet. The options were checked by the host.
    ///
    /// # Errors
    /// Whatever keeps the use from being made; the operator reads the sentence.
    fn create(host: Host, args: &Args<'_>) -> Result<Self, Error>;

    /// Claims ethertypes with [`Host::claim`]. Interfaces that are present are told right after.
    ///
    /// # Errors
    /// Whatever keeps it from working. `stop` is not called then; the value is dropped.
    fn start(&mut self) -> Result<(), Error>;

    /// Does whatever is due.
    ///
    /// # Errors
    /// The use is beyond repair.
    fn poll(&mut self, work: &mut Work<'_>) -> Result<(), Error>;

    /// Takes received frames. Those still in the batch at the end go back to the pool.
    ///
    /// # Errors
    /// The use is beyond repair. A bad frame is none: count it.
    fn receive(&mut self, interface: InterfaceId, frames: &mut Batch) -> Result<(), Error>;

    /// Hears of an interface.
    ///
    /// # Errors
    /// The use is beyond repair.
    fn interface_event(&mut self, event: &interface::Event) -> Result<(), Error>;

    /// Writes a report for people; `topic` is empty or names a part.
    ///
    /// # Errors
    /// `ENOENT` for a topic that it does not know; the use lives on.
    fn report(&mut self, topic: &str, out: &mut dyn fmt::Write) -> Result<(), Error>;

    /// Ends helpers and gives everything back. The value is dropped right after.
    fn stop(&mut self) {}
}

/// The table of a protocol; [`crate::export_protocol!`] makes it a static.
#[must_use]
pub const fn protocol_table<P: Protocol>() -> ProtocolTable {
    ProtocolTable {
        header: Header { size: size_of::<ProtocolTable>() as u32, major: ABI_MAJOR, minor: ABI_MINOR },
        capabilities: if P::UNMOUNTABLE { CAP_UNMOUNTABLE } else { 0 }
            | if P::SINGLE { CAP_SINGLE } else { 0 },
        // `Opt` is a transparent wrapper.
        options: P::OPTIONS.as_ptr().cast(),
        n_options: P::OPTIONS.len() as u64,
        prefix: Bytes::from_static(P::PREFIX),
        create: create::<P>,
        start: start::<P>,
        poll: poll::<P>,
        receive: receive::<P>,
        interface_event: interface_event::<P>,
        report: report::<P>,
        stop: stop::<P>,
        destroy: destroy::<P>,
    }
}

unsafe extern "C" fn create<P: Protocol>(args: *const CreateArgs, use_: *mut *mut c_void) -> i32 {
    // SAFETY: passed on from the host.
    unsafe { entry::create(args, use_, P::create) }
}

unsafe extern "C" fn start<P: Protocol>(use_: *mut c_void, error: *mut TextBuf) -> i32 {
    // SAFETY: the ABI promises a living use and no other call.
    let this = unsafe { the_use::<P>(use_) };
    // SAFETY: passed on from the host.
    unsafe { entry::start(&this.host, error, || this.module.start()) }
}

unsafe extern "C" fn poll<P: Protocol>(use_: *mut c_void, work: *mut PollWork) -> i32 {
    // SAFETY: as in `start`.
    let this = unsafe { the_use::<P>(use_) };
    // SAFETY: valid and exclusive during the call by the ABI.
    let work = unsafe { &mut *work };
    log::refresh(&this.host);
    fence::run_hot(&this.host, || {
        // SAFETY: the events are valid during the call by the ABI.
        let mut work = unsafe { Work::new(work) };
        this.module.poll(&mut work)
    })
}

unsafe extern "C" fn receive<P: Protocol>(
    use_: *mut c_void,
    interface: u32,
    frames: *const FrameDesc,
    n: u32,
) -> i32 {
    // SAFETY: as in `start`.
    let this = unsafe { the_use::<P>(use_) };
    // SAFETY: valid for `n` descriptors during the call by the ABI.
    let mut rest = unsafe { raw::elements(frames, n as usize) };
    while !rest.is_empty() {
        let count = front(rest);
        let (now, later) = rest.split_at(count);
        rest = later;
        if count > BATCH {
            this.host.free_raw(now);
            continue;
        }
        // SAFETY: the host hands the references over with this call, and marks chunks that others hold as shared.
        let mut batch = unsafe { Batch::adopt(this.host.clone(), now) };
        let code = fence::run_hot(&this.host, || this.module.receive(InterfaceId(interface), &mut batch));
        if code != 0 {
            // The frames are this use's own, and nobody looks at them any more.
            this.host.free_raw(rest);
            return code;
        }
    }
    0
}

/// Number of descriptors that fit into one batch, as whole frames; more than [`BATCH`] when the first frame does not.
#[inline]
fn front(descs: &[FrameDesc]) -> usize {
    if descs.len() <= BATCH {
        return descs.len();
    }
    let mut at = 0;
    while let Some(count) = first_frame(&descs[at..]) {
        if at + count > BATCH {
            break;
        }
        at += count;
    }
    if at == 0 { first_frame(descs).unwrap_or(descs.len()) } else { at }
}

unsafe extern "C" fn interface_event<P: Protocol>(use_: *mut c_void, event: *const InterfaceEvent) -> i32 {
    // SAFETY: as in `start`.
    let this = unsafe { the_use::<P>(use_) };
    fence::run_hot(&this.host, || {
        // SAFETY: valid during the call by the ABI.
        match unsafe { event.as_ref().and_then(|event| interface::Event::from_raw(event)) } {
            Some(event) => this.module.interface_event(&event),
            None => Ok(()),
        }
    })
}

unsafe extern "C" fn report<P: Protocol>(use_: *mut c_void, topic: Bytes, text: *mut TextBuf) -> i32 {
    // SAFETY: as in `start`.
    let this = unsafe { the_use::<P>(use_) };
    if this.host.has_failed() {
        return fence::PANICKED;
    }
    // SAFETY: valid during the call by the ABI.
    let topic = unsafe { raw::text(topic) };
    let mut out = String::new();
    match fence::run(&this.host, || this.module.report(topic, &mut out)) {
        Ok(()) => {
            // SAFETY: null or valid by the ABI.
            unsafe { raw::write_text(text, &out) };
            0
        }
        Err(fault) => {
            // SAFETY: as above.
            unsafe { raw::write_text(text, fault.error().text()) };
            fault.code()
        }
    }
}

unsafe extern "C" fn stop<P: Protocol>(use_: *mut c_void) -> i32 {
    // SAFETY: as in `start`.
    let this = unsafe { the_use::<P>(use_) };
    match fence::run(&this.host, || {
        this.module.stop();
        Ok(())
    }) {
        Ok(()) => 0,
        Err(fault) => fault.code(),
    }
}

unsafe extern "C" fn destroy<P: Protocol>(use_: *mut c_void) {
    // SAFETY: passed on from the host, which calls this once.
    unsafe { entry::destroy::<P>(use_) };
}
