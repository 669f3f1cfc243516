//! Drivers: one trait in safe Rust, and the table that it becomes.

use std::ffi::c_void;

use io_pkt_abi::{
    ABI_MAJOR, ABI_MINOR, CreateArgs, DriverStats, DriverTable, FrameDesc, Header, PollWork, TextBuf,
    table::{CAP_PARALLEL, CAP_UNMOUNTABLE},
};

use crate::{
    Args, Error, Host, Opt, TxBatch, Work,
    entry::{self, the_use},
    fence, log, raw,
};

/// A network driver. One value is one use: one mounted interface.
///
/// All methods run on the use's loop thread, one at a time. Only `create`, `start` and `stop` may take their time (up to a
/// second). An error from `poll` or `transmit` means that the use is beyond repair: the host stops and destroys it and
/// shows the sentence to the operator.
pub trait Driver: Sized + 'static {
    /// Options beside the generic ones (`mac`, `mtu`, `promiscuous`, `nomulticast`).
    const OPTIONS: &'static [Opt] = &[];

    /// Makes a use; nothing of the outside world is changed yet. The options were checked by the host.
    ///
    /// # Errors
    /// Whatever keeps the use from being made; the operator reads the sentence.
    fn create(host: Host, args: &Args<'_>) -> Result<Self, Error>;

    /// Opens the device and makes the interface known with [`Host::interface`].
    ///
    /// # Errors
    /// Whatever keeps the device from being opened. `stop` is not called then; the value is dropped.
    fn start(&mut self) -> Result<(), Error>;

    /// Moves received frames to the host with [`Host::deliver`] and does whatever is due.
    ///
    /// # Errors
    /// The use is beyond repair.
    fn poll(&mut self, work: &mut Work<'_>) -> Result<(), Error>;

    /// Sends frames. Those that are not taken are offered again after the next `poll`.
    ///
    /// # Errors
    /// The use is beyond repair.
    fn transmit(&mut self, frames: &mut TxBatch<'_>) -> Result<(), Error>;

    /// Counters; start from [`DriverStats::unknown`] and fill in what the device counts.
    fn stats(&mut self) -> DriverStats;

    /// Closes the device and restores what `start` changed. The value is dropped right after.
    fn stop(&mut self) {}
}

/// The table of a driver; [`crate::export_driver!`] makes it a static.
#[must_use]
pub const fn driver_table<D: Driver>() -> DriverTable {
    DriverTable {
        header: Header { size: size_of::<DriverTable>() as u32, major: ABI_MAJOR, minor: ABI_MINOR },
        // What safe Rust shares between uses may be shared between threads.
        capabilities: CAP_UNMOUNTABLE | CAP_PARALLEL,
        // `Opt` is a transparent wrapper.
        options: D::OPTIONS.as_ptr().cast(),
        n_options: D::OPTIONS.len() as u64,
        create: create::<D>,
        start: start::<D>,
        poll: poll::<D>,
        transmit: transmit::<D>,
        stats: stats::<D>,
        stop: stop::<D>,
        destroy: destroy::<D>,
    }
}

unsafe extern "C" fn create<D: Driver>(args: *const CreateArgs, use_: *mut *mut c_void) -> i32 {
    // SAFETY: passed on from the host.
    unsafe { entry::create(args, use_, D::create) }
}

unsafe extern "C" fn start<D: Driver>(use_: *mut c_void, error: *mut TextBuf) -> i32 {
    // SAFETY: the ABI promises a living use and no other call.
    let this = unsafe { the_use::<D>(use_) };
    // SAFETY: passed on from the host.
    unsafe { entry::start(&this.host, error, || this.module.start()) }
}

unsafe extern "C" fn poll<D: Driver>(use_: *mut c_void, work: *mut PollWork) -> i32 {
    // SAFETY: as in `start`.
    let this = unsafe { the_use::<D>(use_) };
    // SAFETY: valid and exclusive during the call by the ABI.
    let work = unsafe { &mut *work };
    log::refresh(&this.host);
    fence::run_hot(&this.host, || {
        // SAFETY: the events are valid during the call by the ABI.
        let mut work = unsafe { Work::new(work) };
        this.module.poll(&mut work)
    })
}

unsafe extern "C" fn transmit<D: Driver>(
    use_: *mut c_void,
    frames: *const FrameDesc,
    n: u32,
    taken: *mut u32,
) -> i32 {
    // SAFETY: as in `start`.
    let this = unsafe { the_use::<D>(use_) };
    // SAFETY: valid for `n` descriptors during the call by the ABI.
    let descs = unsafe { raw::elements(frames, n as usize) };
    let mut batch = TxBatch::new(&this.host, descs);
    let code = fence::run_hot(&this.host, || this.module.transmit(&mut batch));
    // What was taken before a panic is taken: its chunks were freed on the way out or are still in the driver's hands.
    // SAFETY: valid for writing by the ABI.
    unsafe { taken.write(batch.taken() as u32) };
    code
}

unsafe extern "C" fn stats<D: Driver>(use_: *mut c_void, stats: *mut DriverStats) -> i32 {
    // SAFETY: as in `start`.
    let this = unsafe { the_use::<D>(use_) };
    if this.host.has_failed() {
        return fence::PANICKED;
    }
    match fence::run(&this.host, || Ok(this.module.stats())) {
        Ok(counted) => {
            // SAFETY: valid by the ABI; its first field is the host's size of the structure.
            let room = unsafe { stats.cast::<u32>().read() };
            let bytes = size_of::<DriverStats>().min(room as usize);
            let filled = DriverStats { size: room, reserved: 0, ..counted };
            // SAFETY: both sides are valid for `bytes` bytes, and the host's structure is not ours.
            unsafe { std::ptr::copy_nonoverlapping((&raw const filled).cast::<u8>(), stats.cast(), bytes) };
            0
        }
        Err(fault) => fault.code(),
    }
}

unsafe extern "C" fn stop<D: Driver>(use_: *mut c_void) -> i32 {
    // SAFETY: as in `start`.
    let this = unsafe { the_use::<D>(use_) };
    match fence::run(&this.host, || {
        this.module.stop();
        Ok(())
    }) {
        Ok(()) => 0,
        Err(fault) => fault.code(),
    }
}

unsafe extern "C" fn destroy<D: Driver>(use_: *mut c_void) {
    // SAFETY: passed on from the host, which calls this once.
    unsafe { entry::destroy::<D>(use_) };
}
