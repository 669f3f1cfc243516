//! The module's file, opened so that io-pkt need not wait for it.
//!
//! io-pkt reads modules with a few threads, and a file system that does not answer keeps one of them for as long as it
//! likes. A file behind a network or behind another program is therefore copied here, where waiting harms nobody and
//! Ctrl-C ends it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::statfs::fstatfs;

/// Largest file that is copied, as io-pkt takes none that is larger.
const LARGEST: u64 = 1 << 30;

/// File systems that ask somebody else for each read, as statfs(2) tells them: FUSE, NFS, SMB (old and new), 9P, Ceph,
/// AFS, and `/proc`.
const ASKING: [i64; 8] =
    [0x6573_5546, 0x6969, 0x517b, 0xfe53_4d42, 0x0102_1997, 0x00c3_6400, 0x5346_414f, 0x9fa0];

/// Opens the module at `path`, or a copy of it in memory. What is no regular file is opened too: io-pkt says what is
/// wrong with it.
///
/// # Errors
/// As open(2), and as read(2) where a copy is made.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // A FIFO would wait for a writer, and a terminal would become ours.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let small = file.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= LARGEST);
    if small && asks(&file)? { copy(&file) } else { Ok(file) }
}

fn asks(file: &File) -> io::Result<bool> {
    let found = fstatfs(file)?.filesystem_type().0;
    // The type's width and sign differ between machines; the number is 32 bits wide on all.
    Ok(ASKING.iter().any(|asking| *asking as u32 == found as u32))
}

fn copy(file: &File) -> io::Result<File> {
    let mut copy = File::from(memfd_create("io-pkt-module", MFdFlags::MFD_CLOEXEC)?);
    let mut rest = io::Read::take(file, LARGEST + 1);
    io::copy(&mut rest, &mut copy)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

    #[test]
    fn a_file_that_asks_somebody_else_is_copied() {
        let mut copy = open(Path::new("/proc/self/status")).expect("/proc is there");
        assert!(!asks(&copy).expect("a file system"), "a copy in memory");
        let mut text = String::new();
        copy.rewind().and_then(|()| copy.read_to_string(&mut text)).expect("a copy that can be read");
        assert!(text.starts_with("Name:"), "{text}");
    }

    #[test]
    fn a_file_of_this_machine_is_handed_over_itself() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("x.so");
        std::fs::write(&path, "module").expect("a file");
        let (named, opened) = (path.metadata().expect("it is there"), open(&path).expect("it opens"));
        let same = |a: &std::fs::Metadata, b: &std::fs::Metadata| {
            use std::os::unix::fs::MetadataExt;
            (a.dev(), a.ino()) == (b.dev(), b.ino())
        };
        assert!(same(&named, &opened.metadata().expect("it is open")));
    }
}
