//! What the entries of drivers and protocols have in common: the use behind the border's opaque pointer, its making and
//! its end.

use std::ffi::c_void;

use io_pkt_abi::{CreateArgs, TextBuf};

use crate::{Args, Error, Host, fence, log, raw};

/// A use as the host holds it.
pub(crate) struct Use<M> {
    pub(crate) host: Host,
    pub(crate) module: M,
}

/// Makes a use with `make`.
///
/// # Safety
/// `args` and `out` are as the ABI says for `create`.
pub(crate) unsafe fn create<M>(
    args: *const CreateArgs,
    out: *mut *mut c_void,
    make: impl FnOnce(Host, &Args<'_>) -> Result<M, Error>,
) -> i32 {
    // SAFETY: null or valid by the ABI. The first field gives the size; a smaller structure is not looked at further.
    let size = unsafe { args.cast::<u32>().as_ref() }.copied().unwrap_or(0);
    if (size as usize) < size_of::<CreateArgs>() || out.is_null() {
        return -libc::EINVAL;
    }
    // SAFETY: valid for our size, as just checked, until `create` returns.
    let raw_args = unsafe { &*args };
    // SAFETY: as above, with everything it points to.
    let args = unsafe { Args::new(raw_args) };
    fence::install_hook();
    // SAFETY: as above.
    let result = unsafe { Host::new(raw_args, args.name()) }.map_err(fence::Fault::Error).and_then(|host| {
        log::attach(&host);
        match fence::run(&host, || make(host.clone(), &args)) {
            Ok(module) => Ok(Use { host, module }),
            Err(fault) => {
                host.bury();
                Err(fault)
            }
        }
    });
    match result {
        Ok(made) => {
            // SAFETY: not null, and valid for a pointer by the ABI.
            unsafe { out.write(Box::into_raw(Box::new(made)).cast()) };
            0
        }
        Err(fault) => {
            // SAFETY: the room is null or valid during `create`.
            unsafe { raw::write_text(raw_args.error, fault.error().text()) };
            fault.code()
        }
    }
}

/// The use behind the pointer.
///
/// # Safety
/// `use_` came from [`create`] with the same `M`, was not destroyed, and no other call of this use is running.
#[inline]
pub(crate) unsafe fn the_use<'a, M>(use_: *mut c_void) -> &'a mut Use<M> {
    // SAFETY: by the caller's promise.
    unsafe { &mut *use_.cast::<Use<M>>() }
}

/// Runs `start` and writes down why it failed.
///
/// # Safety
/// `error` is null or a valid room for text.
pub(crate) unsafe fn start(
    host: &Host,
    error: *mut TextBuf,
    body: impl FnOnce() -> Result<(), Error>,
) -> i32 {
    match fence::run(host, body) {
        Ok(()) => 0,
        Err(fault) => {
            // SAFETY: by the caller's promise.
            unsafe { raw::write_text(error, fault.error().text()) };
            fault.code()
        }
    }
}

/// Frees the use; its batches go back to the pool while the host still listens.
///
/// # Safety
/// As [`the_use`]; nobody uses the pointer afterwards.
pub(crate) unsafe fn destroy<M>(use_: *mut c_void) {
    if use_.is_null() {
        return;
    }
    // SAFETY: made by `Box::into_raw` in `create`, and given back once.
    let Use { host, module } = *unsafe { Box::from_raw(use_.cast::<Use<M>>()) };
    let _ = fence::run(&host, move || {
        drop(module);
        Ok(())
    });
    host.bury();
}
