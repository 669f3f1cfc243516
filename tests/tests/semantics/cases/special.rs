//! FIFOs, devices, sockets, programs.

use std::fs::{self, File};
use std::os::unix::net::UnixListener;
use std::process::Command;

use anyhow::Result;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{read, write};

use crate::ops;
use crate::suite::{Case, Kind, Place, User, errno, give};

pub(crate) const CASES: &[Case] = &[
    ("types", types),
    ("fifo", fifo),
    ("device", device),
    ("socket", socket),
    ("program", program),
    ("program with set-id bits", set_id_program),
];

fn types(place: &Place) -> Result<()> {
    let right = [
        (Kind::File, libc::S_IFREG),
        (Kind::Dir, libc::S_IFDIR),
        (Kind::Dangling, libc::S_IFLNK),
        (Kind::Fifo, libc::S_IFIFO),
    ];
    for (kind, right) in right {
        let path = place.at(format!("{kind:?}"));
        kind.make(&path)?;
        let seen = nix::sys::stat::lstat(&path).map(|stat| stat.st_mode & libc::S_IFMT);
        place.check(format_args!("{kind:?}"), seen, Ok(right));
    }
    Ok(())
}

fn fifo(place: &Place) -> Result<()> {
    let path = place.at("fifo");
    Kind::Fifo.make(&path)?;
    let nobody = ops::open(&path, OFlag::O_WRONLY | OFlag::O_NONBLOCK).map(drop);
    place.check("a writer without a reader", nobody, Err(Errno::ENXIO));
    let reader = ops::open(&path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
    let mut room = [0; 99];
    place.check("a reader without a writer", read(&reader, &mut room), Ok(0));
    let sent = User::Root.does(|| {
        let writer = ops::open(&path, OFlag::O_WRONLY)?;
        write(&writer, b"through ")?;
        write(&writer, b"the pipe").map(|count| count as i64)
    });
    place.check("written", sent, Ok(8));
    let got = read(&reader, &mut room).map(|count| String::from_utf8_lossy(&room[..count]).into_owned());
    place.check("read", got, Ok("through the pipe".to_owned()));
    place.check("the end", read(&reader, &mut room), Ok(0));
    Ok(())
}

fn device(place: &Place) -> Result<()> {
    let path = place.at("null");
    let made = mknod(&path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3));
    place.check("made by root", made, Ok(()));
    let path = place.at("bobs");
    let made = User::Bob.does(|| mknod(&path, SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 3)).map(|()| 0));
    place.check("made by another", made, Err(Errno::EPERM));
    Ok(())
}

fn socket(place: &Place) -> Result<()> {
    // The name of a socket has little room: it is bound where we are.
    let back = nix::unistd::getcwd()?;
    nix::unistd::chdir(place.path())?;
    let bound = errno(UnixListener::bind("socket"));
    nix::unistd::chdir(&back)?;
    place.check("bound", bound.map(drop), Ok(()));
    Ok(())
}

/// What the shell script at `path` says, run by `user`; its status when it says nothing.
fn runs(user: User, path: &std::path::Path, args: &[&str]) -> nix::Result<i64> {
    user.does(|| {
        let output = errno(Command::new(path).args(args).output())?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.trim().parse().unwrap_or(-1))
    })
}

fn program(place: &Place) -> Result<()> {
    let script = place.at("script");
    fs::write(&script, "#!/bin/sh\necho 42\n")?;
    give(&script, User::Alice, 0o755)?;
    place.check("a script", runs(User::Bob, &script, &[]), Ok(42));
    give(&script, User::Alice, 0o744)?;
    place.check("a script without an x for him", runs(User::Bob, &script, &[]), Err(Errno::EACCES));
    give(&script, User::Alice, 0o600)?;
    place.check("a script without any x, by root", runs(User::Root, &script, &[]), Err(Errno::EACCES));
    let binary = place.at("echo");
    fs::copy("/bin/echo", &binary)?;
    give(&binary, User::Alice, 0o711)?;
    place.check("a program that may not be read", runs(User::Bob, &binary, &["7"]), Ok(7));
    let writer = File::options().write(true).open(&binary)?;
    place.check("a program that is being written", runs(User::Root, &binary, &["7"]), Err(Errno::ETXTBSY));
    drop(writer);
    place.check("and afterwards", runs(User::Root, &binary, &["7"]), Ok(7));
    Ok(())
}

fn set_id_program(place: &Place) -> Result<()> {
    let program = place.at("id");
    fs::copy("/usr/bin/id", &program)?;
    give(&program, User::Root, 0o4755)?;
    place.check("the bit is shown", ops::mode(&program), Ok(0o4755));
    place.check("who the program is", runs(User::Bob, &program, &["-u"]), Ok(0));
    Ok(())
}
