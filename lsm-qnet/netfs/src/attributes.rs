//! A node's attributes as the kernel gets them.
//!
//! - Special files become regular ones: a device or FIFO inode of FUSE would open the *local* device or a local pipe.
//!   They are read with direct I/O and have size 0.
//! - Inode numbers: one mount shows many file systems of many nodes, each counting from 1. Programs take equal
//!   `(st_dev, st_ino)` for the same file (`cp` refuses, `tar` makes hard links), so node, device and inode number are
//!   mixed into one. The upper half of the number space is for these; nodes are `NODE_INO + nd`, the root is 1.

use std::time::{SystemTime, UNIX_EPOCH};

use qnet_iomsg::{
    Timestamp,
    filesys::Identity,
    stat::{FLAG_BTIME, FLAG_STREAM, Stat},
};

use crate::fuse::abi::Attr;

/// Inode number of the node with nd 0; the low 16 bits of a node's inode number are its nd.
pub const NODE_INO: u64 = 1 << 16;

/// Inode number of the statistics.
const STATISTICS_INO: u64 = 2;

/// Permission bits of the directories that exist here only.
const OWN_DIRECTORY: u32 = libc::S_IFDIR | 0o555;
/// All execute bits: search permission for everybody.
const SEARCH: u32 = 0o111;

/// What makes a file the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// Device on the node, major and minor.
    pub device: (u32, u32),
    /// Inode number on that device.
    pub ino: u64,
    /// `S_IFMT` bits of its mode there.
    pub file_type: u32,
    /// When it was made, where that is known: a file that has got a dead one's inode number is another one.
    pub born: (i64, u32),
}

impl FileId {
    /// The identity of the file with these attributes.
    pub fn of(stat: &Stat) -> Self {
        let born = if stat.flags & FLAG_BTIME != 0 { stat.btime } else { Timestamp::default() };
        let file_type = stat.mode & libc::S_IFMT;
        Self { device: stat.dev, ino: stat.ino, file_type, born: (born.seconds, born.nanoseconds) }
    }

    /// The same for a node, so that it can tell another file from the one that is meant.
    pub fn identity(&self) -> Identity {
        let (seconds, nanoseconds) = self.born;
        let born = Timestamp { seconds, nanoseconds };
        Identity { file_type: self.file_type, device: self.device, ino: self.ino, born }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.file_type == libc::S_IFDIR
    }
}

/// Whether a file is one that is read as a stream: its size does not tell how much there is to read, or reading it has side
/// effects. The page cache has no part in that.
pub fn is_stream(stat: &Stat) -> bool {
    stat.mode & libc::S_IFMT != libc::S_IFREG || stat.flags & FLAG_STREAM != 0
}

/// Whether it is shown as a regular file and is none.
pub fn is_special(stat: &Stat) -> bool {
    let kind = stat.mode & libc::S_IFMT;
    shown_type(kind) != kind
}

/// Whether everybody may search the directory with these attributes.
pub fn everybody_searches(stat: &Stat) -> bool {
    stat.mode & SEARCH == SEARCH
}

/// The attributes of a node's file. `seed` stands for the node, see [`seed`].
pub fn of_file(seed: u64, stat: &Stat) -> Attr {
    let kind = stat.mode & libc::S_IFMT;
    let shown = shown_type(kind);
    Attr {
        ino: mixed_ino(seed, stat.dev, stat.ino),
        size: if shown == kind { stat.size } else { 0 },
        blocks: stat.blocks,
        atime: stat.atime.seconds.cast_unsigned(),
        mtime: stat.mtime.seconds.cast_unsigned(),
        ctime: stat.ctime.seconds.cast_unsigned(),
        atimensec: stat.atime.nanoseconds,
        mtimensec: stat.mtime.nanoseconds,
        ctimensec: stat.ctime.nanoseconds,
        mode: shown | stat.mode & 0o7777,
        nlink: stat.nlink,
        uid: stat.uid,
        gid: stat.gid,
        rdev: 0,
        blksize: if stat.blksize.is_power_of_two() { stat.blksize } else { 4096 },
        flags: 0,
    }
}

/// The attributes of a directory that exists here only: `/net`, and a node's entry in it.
///
/// DEVIATION: on QNX the attributes of `/net/NODE` are those of that node's root directory. Here they are the same for all
/// nodes, but the node is asked for its own before they are given, so that one that is dead is found out.
pub fn of_own_directory(ino: u64, owner: (u32, u32), since: SystemTime) -> Attr {
    let since = since.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, nanoseconds) = (since.as_secs(), since.subsec_nanos());
    Attr {
        ino,
        atime: seconds,
        mtime: seconds,
        ctime: seconds,
        atimensec: nanoseconds,
        mtimensec: nanoseconds,
        ctimensec: nanoseconds,
        mode: OWN_DIRECTORY,
        nlink: 2,
        uid: owner.0,
        gid: owner.1,
        blksize: 4096,
        ..Attr::default()
    }
}

/// The attributes of a FIFO that was just made, as far as nobody has to ask for them.
pub fn of_new_fifo(ino: u64, mode: u32, owner: (u32, u32)) -> Attr {
    Attr { ino, mode, nlink: 1, uid: owner.0, gid: owner.1, blksize: 4096, ..Attr::default() }
}

/// The attributes of `/net/.qnetstats`: like a file of `/proc` it does not know its size before it is read.
pub fn of_statistics(owner: (u32, u32), since: SystemTime) -> Attr {
    let directory = of_own_directory(STATISTICS_INO, owner, since);
    Attr { mode: libc::S_IFREG | 0o444, nlink: 1, ..directory }
}

/// The inode number of a node's directory in `/net`.
pub fn node_ino(nd: u32) -> u64 {
    NODE_INO + u64::from(nd & 0xffff)
}

/// What stands for a node in the inode numbers of its files: made of its name alone, without the way to it.
pub fn seed(name: &[u8]) -> u64 {
    let name = name.split(|byte| *byte == b'~').next().unwrap_or_default();
    name.iter().fold(0, |seed, byte| scramble(seed ^ u64::from(byte.to_ascii_lowercase())))
}

/// The inode number shown for inode `ino` on `device` of a node.
pub fn mixed_ino(seed: u64, device: (u32, u32), ino: u64) -> u64 {
    let device = u64::from(device.0) << 32 | u64::from(device.1);
    let mixed = scramble(scramble(scramble(seed) ^ device) ^ ino);
    mixed | 1 << 63
}

/// `DT_*` of a directory entry whose server said `file_type` (`S_IFMT` bits), 0 when it said nothing.
pub fn entry_type(file_type: Option<u32>) -> u8 {
    // DT_* values are the type bits of a mode, shifted down.
    file_type.map_or(0, |kind| (shown_type(kind & libc::S_IFMT) >> 12) as u8)
}

/// Directories, regular files and symbolic links are what they are; everything else is shown as a regular file.
///
/// DEVIATION: QNX opens the other node's device. A device inode in a FUSE mount would open the *local* device.
fn shown_type(kind: u32) -> u32 {
    match kind {
        libc::S_IFDIR | libc::S_IFLNK => kind,
        _ => libc::S_IFREG,
    }
}

/// A bijection of 64-bit numbers that spreads neighbours over the whole range.
fn scramble(mut x: u64) -> u64 {
    x = (x ^ x >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x = (x ^ x >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^ x >> 32
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn stat(mode: u32, size: u64) -> Stat {
        Stat { ino: 5, dev: (8, 1), mode, size, nlink: 1, ..Stat::default() }
    }

    #[test]
    fn special_files_are_shown_as_regular_ones_and_read_directly() {
        for kind in [libc::S_IFIFO, libc::S_IFCHR, libc::S_IFBLK, libc::S_IFSOCK] {
            let special = stat(kind | 0o640, 77);
            let attr = of_file(2, &special);
            assert_eq!((attr.mode, attr.size, attr.rdev), (libc::S_IFREG | 0o640, 0, 0));
            assert!(is_stream(&special));
            assert_eq!(entry_type(Some(kind)), libc::DT_REG);
        }
    }

    #[test]
    fn files_keep_type_permissions_and_size() {
        for (kind, entry) in
            [(libc::S_IFREG, libc::DT_REG), (libc::S_IFDIR, libc::DT_DIR), (libc::S_IFLNK, libc::DT_LNK)]
        {
            let attr = of_file(2, &stat(kind | 0o4751, 77));
            assert_eq!((attr.mode, attr.size), (kind | 0o4751, 77));
            assert_eq!(entry_type(Some(kind)), entry);
        }
        assert_eq!(entry_type(None), libc::DT_UNKNOWN);
    }

    #[test]
    fn files_without_a_meaningful_size_are_streams() {
        assert!(is_stream(&Stat { flags: FLAG_STREAM, ..stat(libc::S_IFREG, 4096) }));
        assert!(!is_stream(&stat(libc::S_IFREG, 0)) && !is_stream(&stat(libc::S_IFREG, 1)));
    }

    #[test]
    fn a_file_with_a_dead_ones_number_is_another_file() {
        let born = |seconds| Stat {
            flags: FLAG_BTIME,
            btime: Timestamp { seconds, nanoseconds: 0 },
            ..stat(libc::S_IFREG, 1)
        };
        assert_ne!(FileId::of(&born(1)), FileId::of(&born(2)));
        assert_eq!(FileId::of(&born(1)), FileId::of(&Stat { size: 7, ..born(1) }));
    }

    #[test]
    fn a_node_has_one_seed_whatever_the_way_to_it() {
        assert_eq!(seed(b"joseph"), seed(b"Joseph~preferred:en0"));
        assert_ne!(seed(b"joseph"), seed(b"joseph.lab"));
    }

    #[test]
    fn only_a_directory_open_to_all_three_is_searched_by_everybody() {
        for (mode, expected) in [(0o755, true), (0o711, true), (0o705, false), (0o700, false), (0o770, false)]
        {
            assert_eq!(everybody_searches(&stat(libc::S_IFDIR | mode, 0)), expected, "{mode:o}");
        }
    }

    #[test]
    fn equal_inode_numbers_of_different_nodes_and_devices_are_told_apart() {
        let mut seen = HashSet::new();
        for node in 2..10 {
            for minor in 0..10 {
                for ino in 0..100 {
                    let mixed = mixed_ino(node, (8, minor), ino);
                    assert!(mixed > NODE_INO + 0xffff);
                    assert!(seen.insert(mixed));
                }
            }
        }
        assert_eq!(mixed_ino(2, (8, 1), 5), mixed_ino(2, (8, 1), 5));
    }

    #[test]
    fn times_before_1970_and_after_2038_survive() {
        let mut old = stat(libc::S_IFREG, 1);
        old.mtime.seconds = -1;
        old.atime.seconds = 1 << 40;
        let attr = of_file(2, &old);
        assert_eq!((attr.mtime.cast_signed(), attr.atime), (-1, 1 << 40));
    }
}
