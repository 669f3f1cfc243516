//! The kernel's calls for terminals.
#![expect(unsafe_code, reason = "ioctl")]

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use qnet_iomsg::terminal::{Attributes, CHARACTERS, Size, speed_number};

/// The speed's bits in the control flags, for both directions.
const SPEED: u32 = libc::CBAUD | libc::CBAUD << libc::IBSHIFT;

const _: () = assert!(CHARACTERS == 19, "as the kernel has them");

fn get_raw(fd: BorrowedFd<'_>) -> Result<libc::termios2, Errno> {
    let mut out = MaybeUninit::<libc::termios2>::zeroed();
    // SAFETY: `out` has room for the structure that this request fills; the descriptor is open.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TCGETS2, out.as_mut_ptr()) })?;
    // SAFETY: zeroed at first; all fields are integers.
    Ok(unsafe { out.assume_init() })
}

/// A terminal's attributes.
///
/// # Errors
/// ENOTTY: not a terminal.
pub(super) fn attributes(fd: BorrowedFd<'_>) -> Result<Attributes, Errno> {
    let raw = get_raw(fd)?;
    Ok(Attributes {
        input: raw.c_iflag,
        output: raw.c_oflag,
        control: raw.c_cflag & !SPEED,
        local: raw.c_lflag,
        speed: [raw.c_ispeed, raw.c_ospeed],
        line: raw.c_line,
        characters: raw.c_cc,
    })
}

/// Sets a terminal's attributes; with `flush` what was not read is thrown away.
///
/// # Errors
/// ENOTTY: not a terminal. As `tcsetattr`.
pub(super) fn set_attributes(fd: BorrowedFd<'_>, wanted: &Attributes, flush: bool) -> Result<(), Errno> {
    let [input, output] = wanted.speed.map(|speed| speed_number(speed).unwrap_or(libc::BOTHER));
    // no number for the input means that of the output
    let same = wanted.speed[0] == wanted.speed[1];
    let speed = output | if same { 0 } else { input << libc::IBSHIFT };
    let raw = libc::termios2 {
        c_iflag: wanted.input,
        c_oflag: wanted.output,
        c_cflag: wanted.control & !SPEED | speed,
        c_lflag: wanted.local,
        c_line: wanted.line,
        c_cc: wanted.characters,
        c_ispeed: wanted.speed[0],
        c_ospeed: wanted.speed[1],
    };
    if flush {
        // SAFETY: takes integers only.
        Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TCFLSH, libc::TCIFLUSH) })?;
    }
    // SAFETY: `raw` is the structure that this request reads; the descriptor is open.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TCSETS2, &raw const raw) }).map(drop)
}

/// Bytes that the terminal has not sent yet.
///
/// # Errors
/// ENOTTY: not a terminal.
pub(super) fn unsent(fd: BorrowedFd<'_>) -> Result<i32, Errno> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: this request fills one int; the descriptor is open.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) })?;
    Ok(bytes)
}

/// The size of its window.
///
/// # Errors
/// ENOTTY: not a terminal.
pub(super) fn size(fd: BorrowedFd<'_>) -> Result<Size, Errno> {
    let mut raw = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `raw` is the structure that this request fills; the descriptor is open.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &raw mut raw) })?;
    Ok(Size { rows: raw.ws_row, columns: raw.ws_col, dots: [raw.ws_xpixel, raw.ws_ypixel] })
}

/// Sets the size of its window; those who use it get SIGWINCH.
///
/// # Errors
/// ENOTTY: not a terminal.
pub(super) fn set_size(fd: BorrowedFd<'_>, size: &Size) -> Result<(), Errno> {
    let [ws_xpixel, ws_ypixel] = size.dots;
    let raw = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel, ws_ypixel };
    // SAFETY: `raw` is the structure that this request reads; the descriptor is open.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, &raw const raw) }).map(drop)
}
