//! One who has files open while another node works on the same names, and then acts on what he has open.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{AT_FDCWD, AtFlags, FcntlArg, OFlag, fcntl};
use nix::unistd::linkat;
use system_tests::sys;

const ATTRIBUTE: &str = "user.meant";

/// Has two files of `directory` open, one of them in name only, while others take their names.
pub(crate) fn replaced(directory: &Path) -> Result<()> {
    let named = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(directory.join("named"))?;
    let open = File::open(directory.join("open"))?;
    wait()?;
    act_on_replaced(directory, &named, &open)
}

/// Changes its mind about O_APPEND with two files of `directory`, one of which the other node writes meanwhile.
pub(crate) fn append_now(directory: &Path) -> Result<()> {
    let grows = OpenOptions::new().read(true).write(true).open(directory.join("grows"))?;
    let mut known = String::new();
    (&grows).read_to_string(&mut known)?;
    let placed = OpenOptions::new().append(true).open(directory.join("placed"))?;
    wait()?;
    append(&grows, &known)?;
    fcntl(&placed, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(placed.write_all_at(b"XY", 1)?)
}

/// Says that everything is open, and waits until the other node has done its part.
fn wait() -> Result<()> {
    println!("open");
    io::stdout().flush()?;
    io::stdin().read_line(&mut String::new()).map(drop).context("the word to go on")
}

/// What has the names now is another file; these are still meant.
fn act_on_replaced(directory: &Path, named: &File, open: &File) -> Result<()> {
    let by_number = format!("/proc/self/fd/{}", named.as_raw_fd());
    let linked =
        linkat(AT_FDCWD, by_number.as_str(), AT_FDCWD, &directory.join("linked"), AtFlags::AT_SYMLINK_FOLLOW);
    ensure!(linked == Err(nix::Error::ESTALE), "the file that is gone got a name: {linked:?}");
    let emptied = nix::unistd::truncate(by_number.as_str(), 0);
    ensure!(emptied == Err(nix::Error::ESTALE), "the file that is gone was emptied: {emptied:?}");
    let set = sys::set_open_xattr(open, ATTRIBUTE, b"it");
    ensure!(set == Ok(()), "an attribute of an open file: {set:?}");
    Ok(())
}

/// Appends to what was not opened for it, behind what the other node has written meanwhile.
fn append(mut grows: &File, known: &str) -> Result<()> {
    fcntl(grows, FcntlArg::F_SETFL(OFlag::O_APPEND))?;
    grows.write_all(b"ours\n")?;
    let mut text = vec![0; 100];
    let n = grows.read_at(&mut text, 0)?;
    let text = String::from_utf8_lossy(&text[..n]).into_owned();
    ensure!(text == format!("{known}theirs\nours\n"), "it reads as {text:?}");
    Ok(())
}

/// Looks whether a file has none of what was meant for another one.
pub(crate) fn is_bare(file: &Path) -> Result<()> {
    let found = sys::get_xattr(file, ATTRIBUTE, 100);
    ensure!(found == Err(nix::Error::ENODATA), "{}: {found:?}", file.display());
    Ok(())
}
