//! How a call ends: QNX's two forms of every one (`-1` and errno, or the negative errno), and the fence around Rust.

use std::panic::{AssertUnwindSafe, catch_unwind};

use libc::{c_int, c_long, ssize_t};

use crate::cancel;

/// What the body of a call gives: its value, or a Linux errno.
pub(crate) type Outcome<T> = Result<T, c_int>;

/// A type that calls return: it can hold a negative errno.
pub(crate) trait Returned: Copy {
    /// The value of this type.
    fn from_errno(negative: c_int) -> Self;
}

impl Returned for c_int {
    fn from_errno(negative: c_int) -> Self {
        negative
    }
}

impl Returned for c_long {
    fn from_errno(negative: c_int) -> Self {
        negative.into()
    }
}

impl Returned for ssize_t {
    fn from_errno(negative: c_int) -> Self {
        negative as Self
    }
}

/// Runs the body of a call with cancellation off; a panic in it is `EIO`.
pub(crate) fn fenced<T>(body: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let _off = cancel::Off::begin();
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(Err(libc::EIO))
}

/// The form that ends in `_r`: the negative errno.
pub(crate) fn negative<T: Returned>(outcome: Outcome<T>) -> T {
    outcome.unwrap_or_else(|errno| T::from_errno(-errno))
}

/// The ordinary form: -1, and errno.
pub(crate) fn ordinary<T: Returned>(outcome: Outcome<T>) -> T {
    outcome.unwrap_or_else(|errno| {
        set_errno(errno);
        T::from_errno(-1)
    })
}

/// Sets this thread's errno.
pub(crate) fn set_errno(errno: c_int) {
    nix::errno::Errno::set_raw(errno);
}

/// Linux errno of an error of the library.
pub(crate) fn errno(error: client::Error) -> c_int {
    error.errno()
}

/// Defines both forms of QNX calls from one body, which gives an [`Outcome`].
///
/// Bodies get the arguments as C passed them: what a pointer must be is the caller's promise, as QNX documents it.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident, $raw:ident ($($arg:ident: $type:ty),* $(,)?) -> $result:ty = $body:expr;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Safety
            /// Pointers are as QNX documents them for this call.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $name($($arg: $type),*) -> $result {
                $crate::call::ordinary($crate::call::fenced(|| $body))
            }

            /// The same with the negative errno as its result.
            ///
            /// # Safety
            /// Pointers are as QNX documents them for this call.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $raw($($arg: $type),*) -> $result {
                $crate::call::negative($crate::call::fenced(|| $body))
            }
        )*
    };
}
pub(crate) use calls;
