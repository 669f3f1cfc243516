//! Opening the two files, without ever making io-pkt wait for another program.
//!
//! Reading happens between two turns of frames. What another program or another machine serves (a FIFO, a terminal, `/net`)
//! could keep the whole daemon waiting, `/net` even for itself, so only regular files of local file systems are taken.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use io_pkt_sdk::Error;
use nix::sys::statfs::fstatfs;

/// File systems that ask somebody else for each read, as statfs(2) tells them: FUSE, NFS, SMB (old and new), 9P, Ceph, AFS.
const ASKING: [u32; 7] = [0x6573_5546, 0x6969, 0x517b, 0xfe53_4d42, 0x0102_1997, 0x00c3_6400, 0x5346_414f];

/// Opens the capture that is to be replayed.
pub(crate) fn to_read(path: &str) -> Result<File, Error> {
    // A FIFO would wait for a writer, and a terminal would become ours.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = opened.map_err(|error| Error::os(format!("read={path}"), &error))?;
    check("read", path, &file)?;
    Ok(file)
}

/// Makes the file that is to be written, empty.
pub(crate) fn to_write(path: &str) -> Result<File, Error> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    // Emptied only once it is known to be a file: what is no file of ours is not touched.
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .custom_flags(flags)
        .open(path);
    let file = opened.map_err(|error| Error::os(format!("write={path}"), &error))?;
    check("write", path, &file)?;
    file.set_len(0).map_err(|error| Error::os(format!("write={path}"), &error))?;
    Ok(file)
}

fn check(option: &str, path: &str, file: &File) -> Result<(), Error> {
    let refuse = |why: &str| Err(Error::new(libc::EINVAL, format!("{option}={path}: {why}")));
    let metadata = file.metadata().map_err(|error| Error::os(format!("{option}={path}"), &error))?;
    if !metadata.is_file() {
        return refuse("is not a regular file");
    }
    let kind = fstatfs(file).map_err(|errno| Error::os(format!("{option}={path}"), &errno.into()))?;
    // The type's width and sign differ between machines; the number is 32 bits wide on all.
    if ASKING.contains(&(kind.filesystem_type().0 as u32)) {
        return refuse("lies on a file system that another program or machine serves; use a local file");
    }
    Ok(())
}
