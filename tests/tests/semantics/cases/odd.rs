//! What is seldom done: descriptors that only name a file, files and directories that lose their names while they are open, and
//! calls that move bytes between descriptors.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;

use anyhow::Result;
use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags};
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::{Whence, lseek};

use crate::ops;
use crate::suite::{Case, Place, User, errno};
use system_tests::sys::copy_file_range;

pub(crate) const CASES: &[Case] = &[
    ("descriptors that only name", only_names),
    ("open files that lose their names", without_a_name),
    ("open files below a directory that moves", below_a_moved_directory),
    ("a directory and a file change places", change_places),
    ("bytes between descriptors", between_descriptors),
    ("offsets far behind the end", far_offsets),
    ("longest symbolic link", longest_link),
];

/// The path of an open file, by which it is opened anew.
fn again(file: impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()).into()
}

fn only_names(place: &Place) -> Result<()> {
    let path = place.file("file", User::Root, 0o644)?;
    let named = ops::open(&path, OFlag::O_PATH)?;
    place.check("its size", fstat(&named).map(|stat| stat.st_size), Ok(10));
    place.check("read", ops::read_from(&named, 0, 1), Err(Errno::EBADF));
    place.check("fchmod", fchmod(&named, Mode::S_IRWXU), Err(Errno::EBADF));
    place.check("opened anew and read", ops::text(&again(&named)), Ok("0123456789".to_owned()));
    let read = File::open(&path)?;
    let both = errno(File::options().write(true).open(again(&read)))?;
    place.check("opened anew for writing", errno(both.write_at(b"X", 0)), Ok(1));
    place.check("seen by who reads", ops::read_from(&read, 0, 3), Ok(b"X12".to_vec()));
    let link = place.at("link");
    ops::symlink(&path, &link)?;
    place.check("a link, not followed", ops::opens(&link, OFlag::O_NOFOLLOW), Err(Errno::ELOOP));
    let link = ops::open(&link, OFlag::O_NOFOLLOW | OFlag::O_PATH)?;
    let kind = fstat(&link).map(|stat| stat.st_mode & libc::S_IFMT);
    place.check("the link itself", kind, Ok(libc::S_IFLNK));
    Ok(())
}

fn without_a_name(place: &Place) -> Result<()> {
    let (path, file) = place.open("file", b"0123456789")?;
    fs::remove_file(&path)?;
    place.check("shorter", errno(file.set_len(3)), Ok(()));
    place.check("written", errno(file.write_at(b"X", 1)), Ok(1));
    place.check("fchmod", fchmod(&file, Mode::S_IRUSR), Ok(()));
    let stat = fstat(&file)?;
    place.check("what it is", (stat.st_nlink, stat.st_size, stat.st_mode & 0o777), (0, 3, 0o400));
    place.check("its bytes", ops::read_from(&file, 0, 9), Ok(b"0X2".to_vec()));
    let (old, replaced) = place.open("old", b"old")?;
    let new = place.file("new", User::Root, 0o644)?;
    fs::rename(&new, &old)?;
    place.check("replaced: its bytes", ops::read_from(&replaced, 0, 9), Ok(b"old".to_vec()));
    place.check("replaced: links", fstat(&replaced).map(|stat| stat.st_nlink), Ok(0));
    place.check("what has its name", ops::text(&old), Ok("0123456789".to_owned()));
    Ok(())
}

fn below_a_moved_directory(place: &Place) -> Result<()> {
    let dir = place.dir("dir", User::Root, 0o755)?;
    fs::write(dir.join("file"), "0123456789")?;
    let mut file = File::options().read(true).write(true).open(dir.join("file"))?;
    let moved = place.at("moved");
    fs::rename(&dir, &moved)?;
    place.check("written", errno(file.write_at(b"X", 0)), Ok(1));
    place.check("fchmod", errno(file.set_permissions(fs::Permissions::from_mode(0o640))), Ok(()));
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    place.check("read", text, "X123456789".to_owned());
    place.check("by its new name", ops::text(&moved.join("file")), Ok("X123456789".to_owned()));
    place.check("its mode", ops::mode(&moved.join("file")).map(|mode| mode & 0o777), Ok(0o640));
    place.check("the old name", ops::stat(&dir.join("file")), Err(Errno::ENOENT));
    Ok(())
}

fn change_places(place: &Place) -> Result<()> {
    let (dir, file) = (place.dir("dir", User::Root, 0o755)?, place.file("file", User::Root, 0o644)?);
    fs::write(dir.join("in"), "")?;
    place.check("exchanged", ops::rename_with(&dir, &file, RenameFlags::RENAME_EXCHANGE), Ok(()));
    place.check("the file", ops::text(&dir), Ok("0123456789".to_owned()));
    place.check("what is in the directory", ops::stat(&file.join("in")), Ok(()));
    let inside = ops::rename_with(&file, &file.join("in"), RenameFlags::RENAME_EXCHANGE);
    place.check("with what it holds", inside, Err(Errno::EINVAL));
    Ok(())
}

fn between_descriptors(place: &Place) -> Result<()> {
    let bytes: Vec<u8> = (0..20_000_u32).map(|at| at as u8).collect();
    let (source, mut from) = place.open("from", &bytes)?;
    let (path, mut to) = place.open("to", b"")?;
    // the standard library's copy lets the kernel move the bytes: copy_file_range, sendfile, splice
    place.check("from file to file", errno(io::copy(&mut from, &mut to)), Ok(20_000));
    place.check("what came", fs::read(&path)? == bytes, true);
    let (mut output, mut input) = io::pipe()?;
    from.seek(SeekFrom::Start(100))?;
    place.check("into a pipe", errno(io::copy(&mut (&from).take(1000), &mut input)), Ok(1000));
    drop(input);
    to.seek(SeekFrom::Start(5))?;
    place.check("out of it", errno(io::copy(&mut output, &mut to)), Ok(1000));
    place.check("what came by it", ops::read_from(&to, 5, 1000)? == bytes[100..1100], true);
    let within = |mut at: i64, mut there: i64, len| {
        copy_file_range(&from, Some(&mut at), &from, Some(&mut there), len)
    };
    place.check("copied over itself", within(0, 50, 100), Err(Errno::EINVAL));
    place.check("copied within itself", within(0, 10_000, 100), Ok(100));
    place.check("what was copied", ops::read_from(&from, 10_000, 100)? == bytes[..100], true);
    let end = File::options().append(true).open(&source)?;
    place.check(
        "copied to one that appends",
        copy_file_range(&from, Some(&mut 0), &end, None, 10),
        Err(Errno::EBADF),
    );
    Ok(())
}

fn far_offsets(place: &Place) -> Result<()> {
    let (path, file) = place.open("file", b"0123456789")?;
    // no file system that a test may run on ends before it
    let far = 1 << 43;
    place.check("lseek", lseek(&file, far, Whence::SeekSet), Ok(far));
    place.check("lseek before the first", lseek(&file, -1, Whence::SeekSet), Err(Errno::EINVAL));
    place.check("read there", ops::read_from(&file, far, 1), Ok(Vec::new()));
    place.check("the file", fs::metadata(path)?.size(), 10);
    Ok(())
}

fn longest_link(place: &Place) -> Result<()> {
    let (longest, longer) = ("a".repeat(4095), "a".repeat(4096));
    let path = place.at("link");
    place.check("4,095 bytes", ops::symlink(longest.as_ref(), &path), Ok(()));
    place.check("its target", errno(fs::read_link(&path)).map(|target| target == *longest), Ok(true));
    let longer = ops::symlink(longer.as_ref(), &place.at("other"));
    place.check("4,096 bytes", longer, Err(Errno::ENAMETOOLONG));
    Ok(())
}
