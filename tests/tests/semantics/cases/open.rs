//! open(2): its flags, files that lose their name, descriptors that allow less than the file.

use std::fs::{self, File};
use std::path::Path;

use anyhow::Result;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::fstat;
use nix::sys::uio::{pread, pwrite};
use nix::unistd::{Whence, ftruncate, lseek, read, write};

use crate::ops;
use crate::suite::{Case, Place, User};

pub(crate) const CASES: &[Case] = &[
    ("open O_EXCL", exclusive),
    ("open O_TRUNC", truncating),
    ("open O_APPEND", appending),
    ("open for one way", one_way),
    ("open O_SYNC, O_DIRECT, O_NOATIME", special_flags),
    ("open O_TMPFILE", unnamed),
    ("open makes a file that it may not open", made_closed),
    ("open file without a name", without_a_name),
    ("open directory without a name", directory_without_a_name),
    ("open flags afterwards", flags_afterwards),
    ("open by many", by_many),
];

fn exclusive(place: &Place) -> Result<()> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR;
    let path = place.at("file");
    let file = ops::open_with(&path, flags, 0o640)?;
    place.check("a new file is written", write(&file, b"x"), Ok(1));
    place.check("and read", ops::read_from(&file, 0, 9), Ok(b"x".to_vec()));
    place.check("a second one is none", ops::opens(&path, flags), Err(Errno::EEXIST));
    ops::symlink(Path::new("nothing"), &place.at("link"))?;
    place.check("nor a link to nothing", ops::opens(&place.at("link"), flags), Err(Errno::EEXIST));
    place.check("nothing was made there", ops::lstat(&place.at("nothing")), Err(Errno::ENOENT));
    // Two processes at the same name: one makes the file.
    let race = place.at("race");
    let tries = || (0..50).map(|n| ops::create(&race.with_extension(n.to_string())).map(|()| 1)).collect();
    let other = User::Alice.starts(tries)?;
    let ours: Vec<_> = tries();
    let theirs = other.results()?;
    let winners = ours.iter().zip(&theirs).filter(|(a, b)| a.is_ok() != b.is_ok()).count();
    place.check("one of two who race", (theirs.len(), winners), (50, 50));
    Ok(())
}

fn truncating(place: &Place) -> Result<()> {
    let path = place.file("file", User::Alice, 0o644)?;
    place.check("O_RDONLY alone keeps the bytes", ops::opens(&path, OFlag::O_RDONLY), Ok(()));
    place.check("ten of them", ops::text(&path), Ok("0123456789".to_owned()));
    let bob = User::Bob.does(|| ops::opens(&path, OFlag::O_WRONLY | OFlag::O_TRUNC).map(|()| 0));
    place.check("who may not write may not empty it", bob, Err(Errno::EACCES));
    place.check("ten of them still", ops::text(&path), Ok("0123456789".to_owned()));
    let old = File::open(&path)?;
    ops::utimens(&path, ops::at(1000, 0), ops::at(1000, 0))?;
    place.check("emptied", ops::opens(&path, OFlag::O_WRONLY | OFlag::O_TRUNC), Ok(()));
    place.check("size", ops::attributes(&path).map(|stat| stat.st_size), Ok(0));
    place.check("size by an older descriptor", ops::size(&old), Ok(0));
    place.check("no bytes for it either", ops::read_from(&old, 0, 9), Ok(Vec::new()));
    place.check("a new time", ops::written(&path)?.0 > 1_000_000_000, true);
    Ok(())
}

fn appending(place: &Place) -> Result<()> {
    let path = place.file("file", User::Root, 0o644)?;
    let one = ops::open(&path, OFlag::O_WRONLY | OFlag::O_APPEND)?;
    let other = ops::open(&path, OFlag::O_RDWR | OFlag::O_APPEND)?;
    place.check("the place does not matter", lseek(&one, 2, Whence::SeekSet), Ok(2));
    place.check("written", write(&one, b"A"), Ok(1));
    place.check("the place afterwards", lseek(&one, 0, Whence::SeekCur), Ok(11));
    place.check("by the other", write(&other, b"B"), Ok(1));
    place.check("by the first again", write(&one, b"C"), Ok(1));
    place.check("the bytes", ops::text(&path), Ok("0123456789ABC".to_owned()));
    // On Linux, against POSIX.
    place.check("pwrite", pwrite(&other, b"D", 0), Ok(1));
    place.check("pwrite appended", ops::text(&path), Ok("0123456789ABCD".to_owned()));
    nix::unistd::truncate(&path, 2)?;
    place.check("after the file got shorter", write(&one, b"E"), Ok(1));
    place.check("the bytes then", ops::text(&path), Ok("01E".to_owned()));
    // Two processes, 500 records each: none is lost, none is torn.
    let shared = place.at("shared");
    fs::write(&shared, "")?;
    fs::set_permissions(&shared, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    let records = |letter: u8| {
        let file = ops::open(&shared, OFlag::O_WRONLY | OFlag::O_APPEND);
        let record = [letter; 64];
        let done = file.map(|file| (0..500).filter(|_| write(&file, &record) == Ok(64)).count() as i64);
        vec![done]
    };
    let bob = User::Bob.starts(|| records(b'b'))?;
    let ours = records(b'a');
    place.check("by two at once", (ours, bob.results()?), (vec![Ok(500)], vec![Ok(500)]));
    let bytes = fs::read(&shared)?;
    let whole = bytes.chunks(64).filter(|record| record.iter().all(|byte| *byte == record[0])).count();
    place.check("every record is whole", (bytes.len(), whole), (64_000, 1000));
    Ok(())
}

fn one_way(place: &Place) -> Result<()> {
    let path = place.file("file", User::Root, 0o644)?;
    let reader = ops::open(&path, OFlag::O_RDONLY)?;
    let writer = ops::open(&path, OFlag::O_WRONLY)?;
    let mut room = [0; 4];
    place.check("a reader does not write", write(&reader, b"x"), Err(Errno::EBADF));
    place.check("a writer does not read", read(&writer, &mut room), Err(Errno::EBADF));
    place.check("a reader does not truncate", ftruncate(&reader, 0), Err(Errno::EINVAL));
    place.check("a writer truncates", ftruncate(&writer, 5), Ok(()));
    place.check("and writes in the middle of a page", pwrite(&writer, b"X", 2), Ok(1));
    place.check("the bytes", ops::text(&path), Ok("01X34".to_owned()));
    let directory = ops::open(place.path(), OFlag::O_RDONLY)?;
    place.check("a directory is not read", read(&directory, &mut room), Err(Errno::EISDIR));
    place.check("before the start", lseek(&reader, -1, Whence::SeekSet), Err(Errno::EINVAL));
    place.check("behind the end", pread(&reader, &mut room, 100), Ok(0));
    Ok(())
}

fn special_flags(place: &Place) -> Result<()> {
    let path = place.at("file");
    fs::write(&path, [7; 8192])?;
    for flag in [OFlag::O_SYNC, OFlag::O_DSYNC] {
        let file = ops::open(&path, OFlag::O_RDWR | flag)?;
        place.check(format_args!("written with {flag:?}"), pwrite(&file, b"now", 100), Ok(3));
        place.check(format_args!("read after {flag:?}"), ops::text(&path)?.get(100..103), Some("now"));
    }
    let file = File::from(ops::open(&path, OFlag::O_RDWR | OFlag::O_DIRECT)?);
    place.check("O_DIRECT stays", flags_of(&file)?.contains(OFlag::O_DIRECT), true);
    place.check("fsync", nix::unistd::fsync(&file), Ok(()));
    place.check("fdatasync", nix::unistd::fdatasync(&file), Ok(()));
    let directory = File::open(place.path())?;
    place.check("fsync of a directory", nix::unistd::fsync(&directory), Ok(()));
    let owned = place.file("owned", User::Alice, 0o666)?;
    let quiet = |user: User| user.does(|| ops::opens(&owned, OFlag::O_NOATIME).map(|()| 0));
    place.check("O_NOATIME by the owner", quiet(User::Alice), Ok(0));
    place.check("O_NOATIME by another", quiet(User::Bob), Err(Errno::EPERM));
    Ok(())
}

fn flags_of(file: &File) -> nix::Result<OFlag> {
    fcntl(file, FcntlArg::F_GETFL).map(OFlag::from_bits_truncate)
}

fn unnamed(place: &Place) -> Result<()> {
    let file = ops::open(place.path(), OFlag::O_TMPFILE | OFlag::O_RDWR);
    place.check("a file without a name", file.map(drop), Ok(()));
    Ok(())
}

fn made_closed(place: &Place) -> Result<()> {
    let path = place.at("file");
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR;
    let results = User::Alice.does_all(|| {
        let file = ops::open_with(&path, flags, 0o400);
        let Ok(file) = file else { return vec![file.map(|_| 0)] };
        vec![
            write(&file, b"text").map(|count| count as i64),
            ops::read_from(&file, 0, 9).map(|bytes| bytes.len() as i64),
            ops::opens(&path, OFlag::O_RDWR).map(|()| 0),
        ]
    });
    place.check("who makes a file may use it once", results, vec![Ok(4), Ok(4), Err(Errno::EACCES)]);
    place.check("its permissions", ops::mode(&path), Ok(0o400));
    place.check("its owner", ops::attributes(&path).map(|stat| stat.st_uid), Ok(User::Alice.id()));
    place.check("its group", ops::attributes(&path).map(|stat| stat.st_gid), Ok(User::Alice.id()));
    Ok(())
}

fn without_a_name(place: &Place) -> Result<()> {
    let (path, file) = place.open("file", b"old bytes")?;
    fs::remove_file(&path)?;
    place.check("the name is gone", ops::lstat(&path), Err(Errno::ENOENT));
    place.check("read", ops::read_from(&file, 0, 99), Ok(b"old bytes".to_vec()));
    place.check("written", pwrite(&file, b"NEW", 0), Ok(3));
    place.check("read again", ops::read_from(&file, 0, 99), Ok(b"NEW bytes".to_vec()));
    place.check("attributes", fstat(&file).map(|stat| (stat.st_size, stat.st_nlink)), Ok((9, 0)));
    place.check("shorter", ftruncate(&file, 3), Ok(()));
    place.check("its size", ops::size(&file), Ok(3));
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    place.check("fchmod", nix::sys::stat::fchmod(&file, mode), Ok(()));
    place.check("its permissions", fstat(&file).map(|stat| stat.st_mode & 0o777), Ok(0o600));
    place.check("futimens", nix::sys::stat::futimens(&file, &ops::at(5, 0), &ops::at(6, 0)), Ok(()));
    place.check("its time", fstat(&file).map(|stat| stat.st_mtime), Ok(6));
    // Another file takes the name; nobody may take one for the other.
    fs::write(&path, "another")?;
    place.check("still the old one", ops::read_from(&file, 0, 99), Ok(b"NEW".to_vec()));
    place.check("by name the new one", ops::text(&path), Ok("another".to_owned()));
    place.check("different files", fstat(&file)?.st_ino == ops::attributes(&path)?.st_ino, false);
    Ok(())
}

fn directory_without_a_name(place: &Place) -> Result<()> {
    let path = place.dir("dir", User::Root, 0o755)?;
    let directory = File::open(&path)?;
    fs::remove_dir(&path)?;
    let inside = |name: &str| {
        let flags = OFlag::O_CREAT | OFlag::O_WRONLY;
        nix::fcntl::openat(&directory, name, flags, nix::sys::stat::Mode::S_IRWXU).map(drop)
    };
    place.check("nothing can be made in it", inside("x"), Err(Errno::ENOENT));
    place.check("it is still one", fstat(&directory).map(|stat| stat.st_mode & libc::S_IFMT), {
        Ok(libc::S_IFDIR)
    });
    Ok(())
}

fn flags_afterwards(place: &Place) -> Result<()> {
    let (path, file) = place.open("file", b"0123")?;
    place.check("O_APPEND set", fcntl(&file, FcntlArg::F_SETFL(OFlag::O_APPEND)).map(drop), Ok(()));
    lseek(&file, 0, Whence::SeekSet)?;
    place.check("written", write(&file, b"45"), Ok(2));
    place.check("appended", ops::text(&path), Ok("012345".to_owned()));
    place.check("O_APPEND taken away", fcntl(&file, FcntlArg::F_SETFL(OFlag::empty())).map(drop), Ok(()));
    lseek(&file, 1, Whence::SeekSet)?;
    place.check("written then", write(&file, b"X"), Ok(1));
    place.check("where it was told", ops::text(&path), Ok("0X2345".to_owned()));
    Ok(())
}

fn by_many(place: &Place) -> Result<()> {
    let path = place.file("file", User::Root, 0o644)?;
    let files: Vec<File> = (0..300).map(|_| File::open(&path)).collect::<Result<_, _>>()?;
    let right = files.iter().filter(|file| ops::read_from(file, 0, 99) == Ok(b"0123456789".to_vec()));
    place.check("three hundred descriptors of one file", right.count(), 300);
    // What one writes is there for all others on this node at once.
    let writer = ops::open(&path, OFlag::O_WRONLY)?;
    pwrite(&writer, b"ABC", 3)?;
    let right = files.iter().filter(|file| ops::read_from(file, 0, 99) == Ok(b"012ABC6789".to_vec()));
    place.check("what is written is read by all", right.count(), 300);
    Ok(())
}
