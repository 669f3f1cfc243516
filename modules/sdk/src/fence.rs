//! The fence around every entry of a module: no panic crosses the border.
//!
//! A panic inside an entry is caught; the use is marked failed with the panic's message and place (`host.fail`) and the
//! entry returns `-EIO`. From then on only `stop` and `destroy` reach the module's code; every other entry returns
//! `-EIO` at once. An error returned by `poll`, `transmit`, `receive` or `interface_event` marks the use failed too, with
//! its sentence. The panic hook belongs to this module alone (each `.so` has its own `std`): inside an entry it only
//! notes the message, on other threads it writes it to the host's log.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind},
    sync::Once,
};

use crate::{Error, Host, log};

/// What an entry returns after a panic.
pub(crate) const PANICKED: i32 = -libc::EIO;

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Installs the panic hook of this module, once.
pub(crate) fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let former = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if log::is_inside_entry() {
                LAST_PANIC.with(|last| last.replace(describe(info)));
            } else if !log::error_to_any_use("panic", &describe(info)) {
                former(info);
            }
        }));
    });
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    match info.location() {
        Some(place) => format!("panicked at {}:{}: {message}", place.file(), place.line()),
        None => format!("panicked: {message}"),
    }
}

/// Why an entry did not succeed.
pub(crate) enum Fault {
    /// The module said no.
    Error(Error),
    /// The module panicked; the use is marked failed already.
    Panic(Error),
}

impl Fault {
    pub(crate) fn error(&self) -> &Error {
        match self {
            Self::Error(error) | Self::Panic(error) => error,
        }
    }

    pub(crate) fn code(&self) -> i32 {
        match self {
            Self::Error(error) => -error.errno(),
            Self::Panic(_) => PANICKED,
        }
    }
}

/// Runs one entry: makes `host` the one that log lines of this thread go to, and catches panics.
#[inline]
pub(crate) fn run<R>(host: &Host, body: impl FnOnce() -> Result<R, Error>) -> Result<R, Fault> {
    let guard = log::Current::enter(host.remote());
    // The use is not looked at again after a panic, except by `stop` and `destroy`, which are fenced too.
    let result = catch_unwind(AssertUnwindSafe(body));
    drop(guard);
    match result {
        Ok(result) => result.map_err(Fault::Error),
        Err(payload) => {
            // A payload may panic when dropped; the message is all that anybody wants of it.
            std::mem::forget(payload);
            Err(Fault::Panic(on_panic(host)))
        }
    }
}

/// Runs an entry of the frame path and turns its result into what crosses the border.
#[inline]
pub(crate) fn run_hot(host: &Host, body: impl FnOnce() -> Result<(), Error>) -> i32 {
    if host.has_failed() {
        return PANICKED;
    }
    match run(host, body) {
        Ok(()) => 0,
        Err(fault) => {
            if let Fault::Error(error) = &fault {
                host.fail(error.text());
            }
            fault.code()
        }
    }
}

#[cold]
fn on_panic(host: &Host) -> Error {
    let text = LAST_PANIC.with(RefCell::take);
    host.fail(&text);
    Error::new(libc::EIO, text)
}
