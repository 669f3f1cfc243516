//! What is in files: sizes, holes, files above 4 GiB, memory maps, copies within the file system.

use std::fs::File;
use std::path::Path;

use anyhow::Result;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, fallocate};
use nix::sys::statvfs::statvfs;
use nix::sys::uio::pwrite;
use nix::unistd::{Whence, ftruncate, lseek, truncate};

use crate::ops;
use crate::suite::{Case, Place, User};
use system_tests::sys::{Mapping, copy_file_range, limit_file_size};

pub(crate) const CASES: &[Case] = &[
    ("truncate", sizes),
    ("truncate by permission", truncate_by_permission),
    ("large files", large),
    ("holes are found", holes),
    ("fallocate", allocate),
    ("file size limit", limit),
    ("mmap", maps),
    ("mmap private", private_maps),
    ("writers beside readers", writers_beside_readers),
    ("mmap beside who was there when it was written", mapped_beside_readers),
    ("copy_file_range", copies),
    ("odd sizes", odd_sizes),
    ("statvfs", space),
];

const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;

fn sizes(place: &Place) -> Result<()> {
    let (path, file) = place.open("file", b"0123456789")?;
    place.check("shorter", truncate(&path, 4), Ok(()));
    place.check("the bytes", ops::text(&path), Ok("0123".to_owned()));
    place.check("longer", ftruncate(&file, 8), Ok(()));
    place.check("zeros at the end", ops::read_from(&file, 0, 99), Ok(b"0123\0\0\0\0".to_vec()));
    // What lay behind the end does not come back.
    pwrite(&file, &[b'x'; 9000], 0)?;
    truncate(&path, 100)?;
    truncate(&path, 9000)?;
    let zeros = ops::read_from(&file, 100, 9000)?;
    place.check("nothing comes back", (zeros.len(), zeros.iter().all(|b| *b == 0)), (8900, true));
    ftruncate(&file, 0)?;
    place.check("a gap is zeros", pwrite(&file, b"end", 5000), Ok(3));
    let bytes = ops::read_from(&file, 0, 9999)?;
    place.check("all of them", (bytes.len(), bytes[..5000].iter().all(|b| *b == 0)), (5003, true));
    place.check("below zero", ftruncate(&file, -1), Err(Errno::EINVAL));
    place.check("to the same size", truncate(&path, 5003), Ok(()));
    ops::utimens(&path, ops::at(5, 0), ops::at(6, 0))?;
    truncate(&path, 1)?;
    place.check("a new time", ops::written(&path)?.0 > 1_000_000_000, true);
    Ok(())
}

fn truncate_by_permission(place: &Place) -> Result<()> {
    let path = place.file("file", User::Alice, 0o644)?;
    let bob = User::Bob.does(|| truncate(&path, 1).map(|()| 0));
    place.check("by one who may not write", bob, Err(Errno::EACCES));
    place.check("the bytes stay", ops::attributes(&path).map(|stat| stat.st_size), Ok(10));
    // Who has it open for writing goes on, whatever becomes of the permissions.
    let results = User::Alice.does_all(|| {
        let Ok(file) = File::options().write(true).open(&path) else { return Vec::new() };
        vec![
            ops::chmod_to(&path, 0).map(|()| 0),
            ftruncate(&file, 3).map(|()| 0),
            truncate(&path, 2).map(|()| 0),
            pwrite(&file, b"X", 0).map(|count| count as i64),
        ]
    });
    place.check("by an open descriptor", results, vec![Ok(0), Ok(0), Err(Errno::EACCES), Ok(1)]);
    place.check("what came of it", ops::text(&path), Ok("X12".to_owned()));
    Ok(())
}

fn large(place: &Place) -> Result<()> {
    let (path, file) = place.open("file", b"start")?;
    for end in [4 * GIB - 1, 4 * GIB, 4 * GIB + 1, 5 * GIB, 300 * GIB] {
        place.check(format_args!("written at {end}"), pwrite(&file, b"mark", end), Ok(4));
        place.check(format_args!("size {end}"), ops::size(&file), Ok(end + 4));
        place.check(format_args!("read at {end}"), ops::read_from(&file, end, 9), Ok(b"mark".to_vec()));
    }
    place.check("the start is the start", ops::read_from(&file, 0, 5), Ok(b"start".to_vec()));
    place.check("size by name", ops::attributes(&path).map(|stat| stat.st_size), Ok(300 * GIB + 4));
    place.check("few blocks", ops::attributes(&path)?.st_blocks < 1000, true);
    place.check("shorter", ftruncate(&file, 4 * GIB + 2), Ok(()));
    place.check("the end", ops::read_from(&file, 4 * GIB - 1, 9), Ok(b"mmm".to_vec()));
    Ok(())
}

fn holes(place: &Place) -> Result<()> {
    let (_, file) = place.open("file", b"")?;
    pwrite(&file, &[1; MIB as usize], 2 * MIB)?;
    ftruncate(&file, 5 * MIB)?;
    let seek = |from, whence| lseek(&file, from, whence);
    place.check("data behind a hole", seek(0, Whence::SeekData), Ok(2 * MIB));
    place.check("the hole at the start", seek(0, Whence::SeekHole), Ok(0));
    place.check("the hole behind data", seek(2 * MIB, Whence::SeekHole), Ok(3 * MIB));
    place.check("data within data", seek(2 * MIB + 5, Whence::SeekData), Ok(2 * MIB + 5));
    place.check("no more data", seek(4 * MIB, Whence::SeekData), Err(Errno::ENXIO));
    place.check("behind the end", seek(6 * MIB, Whence::SeekHole), Err(Errno::ENXIO));
    place.check("the end", seek(0, Whence::SeekEnd), Ok(5 * MIB));
    Ok(())
}

fn allocate(place: &Place) -> Result<()> {
    let (path, file) = place.open("file", b"0123456789")?;
    place.check("longer", fallocate(&file, FallocateFlags::empty(), 0, MIB), Ok(()));
    place.check("its size", ops::size(&file), Ok(MIB));
    place.check("it takes space", ops::attributes(&path)?.st_blocks >= MIB / 512, true);
    place.check("kept size", fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, 2 * MIB), Ok(()));
    place.check("the same size", ops::size(&file), Ok(MIB));
    pwrite(&file, &[9; 3 * 4096], 0)?;
    let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    place.check("a hole", fallocate(&file, punch, 4096, 4096), Ok(()));
    let bytes = ops::read_from(&file, 0, 3 * 4096)?;
    let sums: Vec<u32> = bytes.chunks(4096).map(|page| page.iter().map(|b| u32::from(*b)).sum()).collect();
    place.check("zeros where it is", sums, vec![9 * 4096, 0, 9 * 4096]);
    place.check("no length", fallocate(&file, FallocateFlags::empty(), 0, 0), Err(Errno::EINVAL));
    place.check("before the start", fallocate(&file, FallocateFlags::empty(), -1, 5), Err(Errno::EINVAL));
    let reader = File::open(&path)?;
    place.check("a reader", fallocate(&reader, FallocateFlags::empty(), 0, 5), Err(Errno::EBADF));
    let bare = FallocateFlags::FALLOC_FL_PUNCH_HOLE;
    place.check("a hole that changes the size", fallocate(&file, bare, 0, 5), Err(Errno::EOPNOTSUPP));
    Ok(())
}

fn limit(place: &Place) -> Result<()> {
    let path = place.file("file", User::Root, 0o666)?;
    let results = User::Alice.does_all(|| {
        let Ok(file) = File::options().write(true).open(&path) else { return Vec::new() };
        // SIGXFSZ would end the process.
        let ignored = nix::sys::signal::SigSet::from(nix::sys::signal::Signal::SIGXFSZ).thread_block();
        vec![
            ignored.and(limit_file_size(1000)).map(|()| 0),
            pwrite(&file, &[1; 100], 950).map(|count| count as i64),
            pwrite(&file, &[1; 100], 1000).map(|count| count as i64),
            ftruncate(&file, 1001).map(|()| 0),
        ]
    });
    place.check("writes end there", results, vec![Ok(0), Ok(50), Err(Errno::EFBIG), Err(Errno::EFBIG)]);
    Ok(())
}

fn maps(place: &Place) -> Result<()> {
    let (path, file) = place.open("file", &[b'.'; 10_000])?;
    let mut map = Mapping::new(&file, 10_000, libc::MAP_SHARED, true)?;
    place.check("a byte", map.load(9_999), b'.');
    map.store(5, b'M');
    map.store(9_000, b'N');
    place.check("msync", map.sync(), Ok(()));
    place.check("by a descriptor", ops::read_from(&file, 5, 1), Ok(b"M".to_vec()));
    place.check("by name", ops::text(&path)?.get(9_000..9_001), Some("N"));
    pwrite(&file, b"W", 100)?;
    place.check("what is written is mapped", map.load(100), b'W');
    // Written to memory, never synced, unmapped: it is in the file all the same.
    map.store(200, b'U');
    drop(map);
    drop(file);
    place.check("after the last close", ops::text(&path)?.get(200..201), Some("U"));
    let reader = File::open(&path)?;
    place.check("writable by a reader", Mapping::new(&reader, 10, libc::MAP_SHARED, true).err(), {
        Some(Errno::EACCES)
    });
    let map = Mapping::new(&reader, 10_000, libc::MAP_SHARED, false)?;
    place.check("read only", map.load(200), b'U');
    std::fs::remove_file(&path)?;
    place.check("of a file without a name", (map.load(5), map.load(9_000)), (b'M', b'N'));
    Ok(())
}

fn private_maps(place: &Place) -> Result<()> {
    let path = place.file("file", User::Root, 0o644)?;
    let file = File::open(&path)?;
    let mut map = Mapping::new(&file, 10, libc::MAP_PRIVATE, true)?;
    map.store(0, b'P');
    place.check("its own bytes", (map.load(0), map.load(1)), (b'P', b'1'));
    place.check("the file's bytes", ops::text(&path), Ok("0123456789".to_owned()));
    Ok(())
}

/// A reader who came while somebody only wrote the file sees what is stored by memory later.
fn mapped_beside_readers(place: &Place) -> Result<()> {
    let path = place.file("file", User::Root, 0o644)?;
    let writer = ops::open(&path, OFlag::O_WRONLY)?;
    let reader = ops::open(&path, OFlag::O_RDONLY)?;
    place.check("read meanwhile", ops::read_from(&reader, 0, 3), Ok(b"012".to_vec()));
    drop(writer);
    let file = File::options().read(true).write(true).open(&path)?;
    let mut map = Mapping::new(&file, 10, libc::MAP_SHARED, true)?;
    map.store(1, b'M');
    place.check("read afterwards", ops::read_from(&reader, 0, 3), Ok(b"0M2".to_vec()));
    map.store(2, b'N');
    place.check("read once more", ops::read_from(&reader, 0, 3), Ok(b"0MN".to_vec()));
    Ok(())
}

/// Whoever opens a file first, and for what: a byte that was written is read at once, by everybody here.
fn writers_beside_readers(place: &Place) -> Result<()> {
    let opens = [("writes", OFlag::O_WRONLY), ("reads", OFlag::O_RDONLY), ("does both", OFlag::O_RDWR)];
    for (who, first) in opens {
        let path = place.file(&format!("file of who {who}"), User::Root, 0o644)?;
        let first = ops::open(&path, first)?;
        let reader = ops::open(&path, OFlag::O_RDONLY)?;
        let writer = ops::open(&path, OFlag::O_WRONLY)?;
        let both = ops::open(&path, OFlag::O_RDWR)?;
        let sees = |what: &str, text: &[u8]| {
            let what = format!("{what}, opened first by who {who}");
            place.check(&what, ops::read_from(&reader, 0, 99), Ok(text.to_vec()));
            place.check(format!("{what}, by the other"), ops::read_from(&both, 0, 99), Ok(text.to_vec()));
        };
        sees("before", b"0123456789");
        pwrite(&writer, b"ab", 2)?;
        sees("written by one", b"01ab456789");
        pwrite(&both, b"cd", 4)?;
        sees("written by another", b"01abcd6789");
        pwrite(&writer, b"end", 9)?;
        sees("made longer", b"01abcd678end");
        drop((writer, first));
        let late = ops::open(&path, OFlag::O_RDONLY)?;
        place.check("a late one", ops::read_from(&late, 0, 2), Ok(b"01".to_vec()));
        pwrite(&both, b"xy", 0)?;
        sees("written when writers have left", b"xyabcd678end");
        place.check("by the late one", ops::read_from(&late, 0, 2), Ok(b"xy".to_vec()));
    }
    Ok(())
}

fn copies(place: &Place) -> Result<()> {
    let (_, from) = place.open("from", b"0123456789")?;
    let (path, to) = place.open("to", b"")?;
    let copy = |from: &File, at: i64, to: &File, there: i64, len: usize| {
        let (mut at, mut there) = (at, there);
        copy_file_range(from, Some(&mut at), to, Some(&mut there), len).map(|count| (count, at, there))
    };
    place.check("all of it", copy(&from, 0, &to, 0, 100), Ok((10, 10, 10)));
    place.check("behind the end", copy(&from, 10, &to, 10, 100), Ok((0, 10, 10)));
    place.check("some of it", copy(&from, 2, &to, 8, 4), Ok((4, 6, 12)));
    place.check("the bytes", ops::text(&path), Ok("012345672345".to_owned()));
    place.check("within one file", copy(&to, 0, &to, 12, 3), Ok((3, 3, 15)));
    place.check("over itself", copy(&to, 0, &to, 1, 5), Err(Errno::EINVAL));
    let reader = File::open(&path)?;
    place.check("to a reader", copy(&from, 0, &reader, 0, 5), Err(Errno::EBADF));
    let appender = File::from(ops::open(&path, OFlag::O_WRONLY | OFlag::O_APPEND)?);
    place.check("to one that appends", copy(&from, 0, &appender, 0, 5), Err(Errno::EBADF));
    place.check("by the descriptors' places", copy_file_range(&from, None, &to, None, 4), Ok(4));
    place.check("which move", lseek(&from, 0, Whence::SeekCur), Ok(4));
    Ok(())
}

/// Files whose sizes are beside those of pages and requests, written and read in odd pieces.
fn odd_sizes(place: &Place) -> Result<()> {
    for size in [1_usize, 4095, 4096, 4097, 65_535, 131_073, MIB as usize - 1, MIB as usize + 1, 3_000_001] {
        let bytes: Vec<u8> = (0..size).map(|at| (at * 7 + at / 251) as u8).collect();
        let path = place.at(size.to_string());
        let file = File::create_new(&path)?;
        let mut at = 0;
        for piece in bytes.chunks(size / 3 + 1) {
            pwrite(&file, piece, at)?;
            at += piece.len() as i64;
        }
        drop(file);
        let whole = std::fs::read(&path)?;
        place.check(format_args!("{size} bytes"), whole == bytes, true);
        let middle = ops::read_from(&File::open(&path)?, size as i64 / 2, 5000)?;
        place.check(format_args!("{size} bytes, the middle"), bytes[size / 2..].starts_with(&middle), true);
    }
    Ok(())
}

fn space(place: &Place) -> Result<()> {
    let about = |path: &Path| statvfs(path);
    let found = about(place.path())?;
    place.check("longest name", found.name_max(), 255);
    place.check("blocks", found.blocks() > 0 && found.block_size() > 0, true);
    place.check("free ones", found.blocks_available() <= found.blocks_free(), true);
    place.check("not more than all", found.blocks_free() <= found.blocks(), true);
    let (path, file) = place.open("file", b"")?;
    place.check("of a file", about(&path)?.blocks(), found.blocks());
    place.check("of an open file", nix::sys::statvfs::fstatvfs(&file)?.blocks(), found.blocks());
    Ok(())
}
