//! Where `/net` does something else than a local file system, and why. docs/net.md tells the same to its readers.
//!
//! The list is exact: a check that differs and is not here fails, and so does one that is here and does not differ.

/// A check (`*` at the end: all that begin so), what `/net` gives, and the reason.
pub(crate) type Difference = (&'static str, &'static str, &'static str);

pub(crate) const DIFFERENCES: &[Difference] = &[
    (
        "open O_TMPFILE: a file without a name",
        "Err(EOPNOTSUPP)",
        "messages make files by name, and a file that has none could not be found again",
    ),
    (
        "deeper than a path: *",
        "Err(ENAMETOOLONG)",
        "a request carries the path from the node's root, so a tree ends where a path of the system does",
    ),
    (
        "device: made by root",
        "Err(EPERM)",
        "the mount is nodev: a device's inode would mean the local device",
    ),
    ("types: Fifo", "Ok(32768)", "a FIFO's inode would mean a local FIFO: special files look like files"),
    ("socket: bound", "Err(EPERM)", "a socket's inode would mean a local socket"),
    (
        "program: a program that may not be read",
        "Err(EACCES)",
        "to run a program of another node is to read it, and its kernel does not let one who may not",
    ),
    (
        "program with set-id bits: who the program is",
        "Ok(2002)",
        "the mount is nosuid: the bits are shown only",
    ),
];
