//! Settings of the local terminal, with any speed.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use qnet::terminal::{Attributes, Size, speed_number};

/// The speed's bits in the control flags, for both directions.
const SPEED: u32 = libc::CBAUD | libc::CBAUD << libc::IBSHIFT;

fn get(fd: BorrowedFd<'_>) -> Result<libc::termios2, Errno> {
    let mut out = MaybeUninit::<libc::termios2>::zeroed();
    // SAFETY: `out` has room for the structure that this request fills; the descriptor is open.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TCGETS2, out.as_mut_ptr()) })?;
    // SAFETY: zeroed at first; all fields are integers.
    Ok(unsafe { out.assume_init() })
}

/// A terminal's attributes.
pub(crate) fn attributes(fd: BorrowedFd<'_>) -> Result<Attributes, Errno> {
    let found = get(fd)?;
    Ok(Attributes {
        input: found.c_iflag,
        output: found.c_oflag,
        control: found.c_cflag & !SPEED,
        local: found.c_lflag,
        speed: [found.c_ispeed, found.c_ospeed],
        line: found.c_line,
        characters: found.c_cc,
    })
}

/// Sets them, but for the line discipline.
pub(crate) fn set_attributes(fd: BorrowedFd<'_>, wanted: &Attributes) -> Result<(), Errno> {
    let now = get(fd)?;
    let [input, output] = wanted.speed.map(|speed| speed_number(speed).unwrap_or(libc::BOTHER));
    // no number for the input means that of the output
    let speed = output | if wanted.speed[0] == wanted.speed[1] { 0 } else { input << libc::IBSHIFT };
    let wanted = libc::termios2 {
        c_iflag: wanted.input,
        c_oflag: wanted.output,
        c_cflag: wanted.control & !SPEED | speed,
        c_lflag: wanted.local,
        c_line: now.c_line,
        c_cc: wanted.characters,
        c_ispeed: wanted.speed[0],
        c_ospeed: wanted.speed[1],
    };
    // SAFETY: `wanted` is the structure that this request reads; the descriptor is open.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TCSETS2, &raw const wanted) }).map(drop)
}

/// The size of its window.
pub(crate) fn size(fd: BorrowedFd<'_>) -> Result<Size, Errno> {
    let mut found = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `found` is the structure that this request fills; the descriptor is open.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &raw mut found) })?;
    Ok(Size { rows: found.ws_row, columns: found.ws_col, dots: [found.ws_xpixel, found.ws_ypixel] })
}

/// Sets it.
pub(crate) fn set_size(fd: BorrowedFd<'_>, size: Size) -> Result<(), Errno> {
    let [ws_xpixel, ws_ypixel] = size.dots;
    let wanted = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel, ws_ypixel };
    // SAFETY: `wanted` is the structure that this request reads; the descriptor is open.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, &raw const wanted) }).map(drop)
}
