//! One who uses the file: a process of a node that does what it is told on standard input, a line each.
//!
//! ```text
//!  open FLAGS        close             size               bytes of the file
//!  swap                                                   the file that is open, for another open of his
//!  read AT LEN       write AT LEN SEED append LEN SEED    the file that is open
//!  cut SIZE          punch AT LEN                         the file that is open
//!  truncate SIZE     map AT LEN SEED   look LEN
//!  copy FROM TO LEN                                       the file by its name, opened for this alone
//! ```
//!
//! A file is opened to be read and written, unless O_WRONLY is among the flags.
//!
//! The answer is `ok` with the number of the bytes that follow, or `error` with the number of the error.

use std::fs::File;
use std::io::{self, BufRead, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::fcntl::{FallocateFlags, fallocate};
use system_tests::sys::{Mapping, copy_file_range};

/// The bytes that a write with this seed puts at `at` of the file.
pub(crate) fn bytes(at: usize, len: usize, seed: u64) -> Vec<u8> {
    let mix = |at: usize| {
        let number = (seed ^ at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // No zeros: those are holes.
        (number >> 56) as u8 | 1
    };
    (at..at + len).map(mix).collect()
}

/// Does what it is told until the end of its input.
pub(crate) fn act(path: &Path) -> Result<()> {
    let mut files = [None, None];
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let (verb, numbers) = words.split_first().context("no verb")?;
        let numbers: Vec<usize> = numbers.iter().map(|word| word.parse()).collect::<Result<_, _>>()?;
        match one(path, &mut files, verb, &numbers)? {
            Ok(bytes) => {
                let mut answer = format!("ok {}\n", bytes.len()).into_bytes();
                answer.extend(bytes);
                io::stdout().write_all(&answer)?;
                io::stdout().flush()?;
            }
            Err(error) => println!("error {}", error.raw_os_error().unwrap_or(libc::EIO)),
        }
    }
    Ok(())
}

/// The inner result is the operation's own.
fn one(
    path: &Path,
    files: &mut [Option<File>; 2],
    verb: &str,
    numbers: &[usize],
) -> Result<io::Result<Vec<u8>>> {
    let [file, other] = files;
    match (verb, numbers) {
        ("open", [flags]) => {
            let flags = i32::try_from(*flags)?;
            *file = None;
            let read = flags & libc::O_WRONLY == 0;
            let opened = File::options().read(read).write(true).custom_flags(flags).open(path);
            return Ok(opened.map(|opened| {
                *file = Some(opened);
                Vec::new()
            }));
        }
        ("close", []) => {
            *file = None;
            return Ok(Ok(Vec::new()));
        }
        ("swap", []) => {
            std::mem::swap(file, other);
            return Ok(Ok(Vec::new()));
        }
        ("truncate", [size]) => {
            return Ok(nix::unistd::truncate(path, *size as i64).map_err(Into::into).map(nothing));
        }
        ("map", [at, len, seed]) => return Ok(map(path, *at, *len, *seed as u64)),
        ("look", [len]) => return Ok(look(path, *len)),
        ("copy", [from, to, len]) => return Ok(copy(path, *from, *to, *len)),
        _ => {}
    }
    let file = file.as_ref().context("the file is not open")?;
    Ok(match (verb, numbers) {
        ("size", []) => file.metadata().map(|found| found.len().to_be_bytes().to_vec()),
        ("read", [at, len]) => read(file, *at, *len),
        ("write", [at, len, seed]) => {
            file.write_all_at(&bytes(*at, *len, *seed as u64), *at as u64).map(nothing)
        }
        // Where it comes to lie is not known here: the bytes are those of the start.
        ("append", [len, seed]) => (&*file).write_all(&bytes(0, *len, *seed as u64)).map(nothing),
        ("cut", [size]) => file.set_len(*size as u64).map(nothing),
        ("punch", [at, len]) => {
            let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            fallocate(file, flags, *at as i64, *len as i64).map_err(Into::into).map(nothing)
        }
        _ => bail!("{verb} {numbers:?}"),
    })
}

fn nothing<T>(_: T) -> Vec<u8> {
    Vec::new()
}

fn read(file: &File, at: usize, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut have = 0;
    while have < len {
        match file.read_at(&mut bytes[have..], (at + have) as u64)? {
            0 => break,
            more => have += more,
        }
    }
    bytes.truncate(have);
    Ok(bytes)
}

fn copy(path: &Path, from: usize, to: usize, len: usize) -> io::Result<Vec<u8>> {
    let file = File::options().read(true).write(true).open(path)?;
    has(&file, from + len)?;
    let (mut from, mut to, mut left) = (from as i64, to as i64, len);
    while left > 0 {
        match copy_file_range(&file, Some(&mut from), &file, Some(&mut to), left)? {
            0 => break,
            copied => left -= copied,
        }
    }
    Ok(Vec::new())
}

/// Writes by memory; as it comes where others have the file open and it cannot be shared memory.
fn map(path: &Path, at: usize, len: usize, seed: u64) -> io::Result<Vec<u8>> {
    let file = File::options().read(true).write(true).open(path)?;
    has(&file, at + len)?;
    let map = match Mapping::new(&file, at + len, libc::MAP_SHARED, true) {
        Err(nix::Error::ENODEV) => {
            return file.write_all_at(&bytes(at, len, seed), at as u64).map(|()| Vec::new());
        }
        map => map,
    };
    let mut map = map?;
    for (place, byte) in bytes(at, len, seed).into_iter().enumerate() {
        map.store(at + place, byte);
    }
    map.sync()?;
    Ok(Vec::new())
}

/// Asks for the size, as programs do before they make memory of a file or copy it: what the kernel has not heard of is
/// behind the end, and that is a SIGBUS or nothing to copy.
fn has(file: &File, len: usize) -> io::Result<()> {
    let size = file.metadata()?.len();
    if size < len as u64 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// Reads the file's first bytes by memory, its own where it cannot be shared.
fn look(path: &Path, len: usize) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if len == 0 {
        return Ok(Vec::new());
    }
    has(&file, len)?;
    let map = match Mapping::new(&file, len, libc::MAP_SHARED, false) {
        Err(nix::Error::ENODEV) => Mapping::new(&file, len, libc::MAP_PRIVATE, false)?,
        map => map?,
    };
    Ok((0..len).map(|at| map.load(at)).collect())
}
