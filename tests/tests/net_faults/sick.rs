//! A sick disk: a FUSE file system of a few files that fail, each in its way, which its name tells.
//!
//! | File | What fails |
//! |---|---|
//! | `good` | nothing |
//! | `read` | reading behind the first 64 KiB, with EIO |
//! | `write`, `full`, `quota` | writing behind the first 64 KiB, with EIO, ENOSPC, EDQUOT |
//! | `sync` | fsync, with EIO |
//! | `close` | closing, with EIO |
//! | `open` | opening, with EIO |
//!
//! None of them gets another name (EMLINK). Each is 256 KiB long; byte `n` of it is the low byte of `n / 7` until something else is written there.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use qnet_netfs::fuse::abi::{
    Attr, AttrOut, EntryOut, FUSE_BIG_WRITES, FUSE_KERNEL_MINOR_VERSION, FUSE_KERNEL_VERSION, InitOut,
    OpenOut, WriteOut,
};
use qnet_netfs::fuse::{Operation, READ_BUFFER, ROOT_ID, Request, reply};

/// Bytes of each file.
pub(crate) const SIZE: u64 = 256 * 1024;
/// The part that is well.
pub(crate) const WELL: u64 = 64 * 1024;

const FILES: [&str; 8] = ["good", "read", "write", "full", "quota", "sync", "open", "close"];

/// Mounts it at `at`, says `mounted` and serves it until it is unmounted.
pub(crate) fn serve(at: &Path) -> Result<()> {
    let mut device = File::options().read(true).write(true).open("/dev/fuse").context("/dev/fuse")?;
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    mount(Some("sick"), at, Some("fuse.sick"), MsFlags::MS_NODEV, Some(options.as_str())).context("mount")?;
    println!("mounted");
    let mut buffer = vec![0; READ_BUFFER];
    let mut written = Written::new();
    loop {
        let len = match device.read(&mut buffer) {
            Ok(len) => len,
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
            // A request that was interrupted before it was read.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        if let Some(answer) = answer(&buffer[..len], &mut written) {
            // One who does not wait any more is not told.
            let _ = device.write_all(&answer);
        }
    }
}

/// Files that were written, by their numbers.
type Written = HashMap<u64, Vec<u8>>;

fn answer(bytes: &[u8], written: &mut Written) -> Option<Vec<u8>> {
    let request = match Request::parse(bytes) {
        Ok(request) => request,
        Err(error) => return error.unique().map(|unique| reply::status(unique, libc::EIO)),
    };
    let unique = request.header.unique;
    let node = request.header.nodeid;
    let name = FILES.get((node as usize).wrapping_sub(2)).copied().unwrap_or_default();
    let fails = |errno: i32| Some(reply::status(unique, errno));
    match request.operation {
        Operation::Init { asked, .. } => {
            let minor = FUSE_KERNEL_MINOR_VERSION.min(asked.minor);
            let max_write = 128 * 1024;
            let flags = FUSE_BIG_WRITES & asked.flags;
            let ours = InitOut { major: FUSE_KERNEL_VERSION, minor, flags, max_write, ..InitOut::default() };
            Some(reply::body(unique, &ours))
        }
        Operation::Forget { .. } | Operation::BatchForget(_) | Operation::Interrupt { .. } => None,
        Operation::Lookup { name } => match FILES.iter().position(|file| file.as_bytes() == name) {
            Some(at) => {
                let nodeid = at as u64 + 2;
                let entry =
                    EntryOut { nodeid, generation: 1, attr: attributes(nodeid), ..EntryOut::default() };
                Some(reply::body(unique, &entry))
            }
            None => fails(libc::ENOENT),
        },
        Operation::Getattr { .. } | Operation::Setattr { .. } => {
            Some(reply::body(unique, &AttrOut { attr: attributes(node), ..AttrOut::default() }))
        }
        Operation::Open { .. } if name == "open" => fails(libc::EIO),
        Operation::Open { .. } | Operation::Opendir => Some(reply::body(unique, &OpenOut::default())),
        Operation::Read { offset, size, .. } => {
            let end = SIZE.min(offset + u64::from(size));
            if name == "read" && end > WELL {
                return fails(libc::EIO);
            }
            let content = written.entry(node).or_insert_with(|| (0..SIZE).map(byte).collect());
            Some(reply::bytes(unique, &content[offset.min(end) as usize..end as usize]))
        }
        Operation::Write { offset, data, .. } => {
            let errno = [("write", libc::EIO), ("full", libc::ENOSPC), ("quota", libc::EDQUOT)];
            match errno.iter().find(|(file, _)| *file == name) {
                Some((_, errno)) if offset + data.len() as u64 > WELL => fails(*errno),
                _ => {
                    let content = written.entry(node).or_insert_with(|| (0..SIZE).map(byte).collect());
                    let (start, end) = (offset as usize, offset as usize + data.len());
                    if end > content.len() {
                        return fails(libc::EFBIG);
                    }
                    content[start..end].copy_from_slice(data);
                    Some(reply::body(unique, &WriteOut { size: data.len() as u32, padding: 0 }))
                }
            }
        }
        Operation::Fsync { .. } if name == "sync" => fails(libc::EIO),
        Operation::Flush { .. } if name == "close" => fails(libc::EIO),
        Operation::Link { .. } => fails(libc::EMLINK),
        Operation::Flush { .. } | Operation::Fsync { .. } => fails(0),
        Operation::Release { .. } | Operation::Releasedir { .. } | Operation::Access { .. } => fails(0),
        _ => fails(libc::ENOSYS),
    }
}

/// What every file holds at a place at first.
pub(crate) fn byte(at: u64) -> u8 {
    (at / 7) as u8
}

fn attributes(node: u64) -> Attr {
    let (mode, size) =
        if node == ROOT_ID { (libc::S_IFDIR | 0o755, 0) } else { (libc::S_IFREG | 0o666, SIZE) };
    Attr { ino: node, size, blocks: size / 512, mode, nlink: 1, blksize: 4096, ..Attr::default() }
}
