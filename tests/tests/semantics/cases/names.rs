//! Names and paths: any byte, the longest ones, symbolic links and how far they lead.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::ops;
use crate::suite::{Case, Place, User};
use system_tests::sys::lists;

pub(crate) const CASES: &[Case] = &[
    ("any byte in a name", any_byte),
    ("longest name", longest_name),
    ("longest path", longest_path),
    ("deeper than a path", deeper_than_a_path),
    ("odd names", odd_names),
    ("symbolic link", links),
    ("longest symbolic link", longest_link),
    ("symbolic links in a ring", ring),
    ("symbolic links on the way", on_the_way),
    ("dots", dots),
];

fn any_byte(place: &Place) -> Result<()> {
    let mut names = BTreeSet::new();
    for byte in (1..=255_u8).filter(|byte| *byte != b'/') {
        // Behind a letter: a name of one dot would be none.
        names.insert(OsString::from_vec(vec![b'x', byte]));
    }
    let mut wrong = Vec::new();
    for name in &names {
        let path = place.at(name);
        let written = fs::write(&path, name.as_bytes()).is_ok();
        if !written || fs::read(&path).ok().as_deref() != Some(name.as_bytes()) {
            wrong.push(name.clone());
        }
    }
    place.check("files of each", wrong, Vec::new());
    let listed: BTreeSet<OsString> = fs::read_dir(place.path())?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<_, _>>()?;
    place.check("the list", listed == names, true);
    let sub: Vec<_> = names.iter().filter(|name| ops::unlink(&place.at(name)).is_err()).collect();
    place.check("they go", sub, Vec::new());
    Ok(())
}

fn longest_name(place: &Place) -> Result<()> {
    for filling in ["n", "ß"] {
        let name = filling.repeat(255 / filling.len());
        let long = format!("{name}{}", "x".repeat(255 - name.len()));
        let path = place.at(&long);
        place.check(format_args!("255 bytes, {filling}: made"), ops::create(&path), Ok(()));
        place.check(
            format_args!("255 bytes, {filling}: listed"),
            lists(place.path(), OsStr::new(&long))?,
            true,
        );
        place.check(format_args!("255 bytes, {filling}: removed"), ops::unlink(&path), Ok(()));
        let longer = place.at(format!("{long}y"));
        let too_long = Err(Errno::ENAMETOOLONG);
        place.check(format_args!("256 bytes, {filling}: made"), ops::create(&longer), too_long);
        place.check(format_args!("256 bytes, {filling}: a directory"), ops::mkdir(&longer), too_long);
        place.check(format_args!("256 bytes, {filling}: a link"), ops::symlink_here(&longer), too_long);
        place.check(format_args!("256 bytes, {filling}: looked for"), ops::lstat(&longer), too_long);
        place.check(format_args!("256 bytes, {filling}: removed"), ops::unlink(&longer), too_long);
    }
    Ok(())
}

/// A path of exactly `len` bytes below `start`, of directories that exist but for the last name.
fn path_of(start: &Path, len: usize) -> Result<PathBuf> {
    let mut path = start.to_owned();
    while len - path.as_os_str().len() > 256 {
        path.push("d".repeat(200));
        match fs::create_dir(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error.into()),
            _ => {}
        }
    }
    path.push("f".repeat(len - path.as_os_str().len() - 1));
    Ok(path)
}

fn longest_path(place: &Place) -> Result<()> {
    let path = path_of(place.path(), 4095)?;
    place.check("4095 bytes: made", ops::create(&path), Ok(()));
    place.check("4095 bytes: written", fs::write(&path, "deep").is_ok(), true);
    place.check("4095 bytes: read", ops::text(&path), Ok("deep".to_owned()));
    place.check("4095 bytes: looked at", ops::lstat(&path), Ok(()));
    let beside = path.with_file_name("g");
    place.check("4095 bytes: renamed", ops::rename(&path, &beside), Ok(()));
    place.check("removed", ops::unlink(&beside), Ok(()));
    let longer = path_of(place.path(), 4096)?;
    place.check("4096 bytes", ops::create(&longer), Err(Errno::ENAMETOOLONG));
    Ok(())
}

/// By steps a tree gets deeper than any path that can be named at once.
fn deeper_than_a_path(place: &Place) -> Result<()> {
    let back = nix::unistd::getcwd()?;
    nix::unistd::chdir(place.path())?;
    let name = "d".repeat(250);
    let mut outcome = Ok(());
    for _ in 0..20 {
        outcome = ops::mkdir(Path::new(&name)).and_then(|()| nix::unistd::chdir(Path::new(&name)));
        if outcome.is_err() {
            break;
        }
    }
    let file = outcome.and_then(|()| ops::create(Path::new("file")));
    nix::unistd::chdir(&back)?;
    place.check("20 directories with names of 250 bytes, and a file", file, Ok(()));
    Ok(())
}

fn odd_names(place: &Place) -> Result<()> {
    for name in ["...", " ", "-rf", "a b", "a\nb", "*", "~", "CON", ".hidden", "\u{202e}txt", "é", "e\u{301}"]
    {
        let path = place.at(name);
        place.check(format_args!("{name:?} made"), ops::create(&path), Ok(()));
        place.check(format_args!("{name:?} listed"), lists(place.path(), OsStr::new(name))?, true);
    }
    // Nothing is folded: names differ in every bit.
    place.check("upper case is another name", ops::lstat(&place.at("con")), Err(Errno::ENOENT));
    Ok(())
}

fn links(place: &Place) -> Result<()> {
    let path = place.file("file", User::Root, 0o644)?;
    for target in ["file", "./file", "../x/../y", "no such/thing", " ", "a//b/", "\u{1}\n\"'\\"] {
        let link = place.at("link");
        place.check(format_args!("to {target:?}"), ops::symlink(Path::new(target), &link), Ok(()));
        place.check(format_args!("{target:?} is read"), nix::fcntl::readlink(&link), Ok(target.into()));
        let size = nix::sys::stat::lstat(&link).map(|stat| stat.st_size);
        place.check(format_args!("{target:?}: its size"), size, Ok(target.len() as i64));
        ops::unlink(&link)?;
    }
    ops::symlink(Path::new("file"), &place.at("soft"))?;
    fs::write(place.at("soft"), "by the link")?;
    place.check("written by it", ops::text(&path), Ok("by the link".to_owned()));
    place.check("to nothing", ops::symlink(Path::new(""), &place.at("none")), Err(Errno::ENOENT));
    ops::symlink(&path, &place.at("absolute"))?;
    place.check("an absolute one", ops::text(&place.at("absolute")), Ok("by the link".to_owned()));
    let read = nix::fcntl::readlink(&place.at("absolute"));
    place.check("an absolute one as it was made", read, Ok(path.into_os_string()));
    ops::symlink(Path::new("made"), &place.at("maker"))?;
    place.check("a file made by one to nothing", ops::opens(&place.at("maker"), OFlag::O_CREAT), Ok(()));
    place.check("it is there", ops::lstat(&place.at("made")), Ok(()));
    Ok(())
}

fn longest_link(place: &Place) -> Result<()> {
    for len in [255, 1000, 4000, 4095] {
        let target: OsString = "./".repeat(len / 2 + 1)[..len].into();
        let link = place.at(len.to_string());
        place.check(format_args!("{len} bytes"), ops::symlink(Path::new(&target), &link), Ok(()));
        place.check(format_args!("{len} bytes read"), nix::fcntl::readlink(&link), Ok(target));
    }
    let target = "t".repeat(4096);
    let made = ops::symlink(Path::new(&target), &place.at("longer"));
    place.check("4096 bytes", made, Err(Errno::ENAMETOOLONG));
    Ok(())
}

fn ring(place: &Place) -> Result<()> {
    for (from, to) in [("a", "b"), ("b", "a"), ("self", "self")] {
        ops::symlink(Path::new(to), &place.at(from))?;
    }
    let all: [(&str, ops::Op); 7] = [
        ("stat", ops::stat),
        ("open", |p| ops::opens(p, OFlag::O_RDONLY)),
        ("open O_CREAT", |p| ops::opens(p, OFlag::O_CREAT | OFlag::O_RDWR)),
        ("truncate", ops::truncate),
        ("chmod", ops::chmod),
        ("list", ops::list),
        ("a name behind it", |p| ops::lstat(&p.join("x"))),
    ];
    for (what, op) in all {
        for name in ["a", "self"] {
            place.check(format_args!("{what} of {name}"), op(&place.at(name)), Err(Errno::ELOOP));
        }
    }
    place.check("the link itself is looked at", ops::lstat(&place.at("a")), Ok(()));
    place.check("and removed", ops::unlink(&place.at("a")), Ok(()));
    // Forty in a row are followed, and not one more.
    fs::write(place.at("link0"), "there")?;
    for at in 1..=41 {
        ops::symlink(Path::new(&format!("link{}", at - 1)), &place.at(format!("link{at}")))?;
    }
    place.check("forty", ops::text(&place.at("link40")), Ok("there".to_owned()));
    place.check("forty-one", ops::text(&place.at("link41")), Err(Errno::ELOOP));
    Ok(())
}

fn on_the_way(place: &Place) -> Result<()> {
    fs::create_dir_all(place.at("real/sub"))?;
    fs::write(place.at("real/sub/file"), "found")?;
    ops::symlink(Path::new("real"), &place.at("way"))?;
    ops::symlink(Path::new("../../way/sub"), &place.at("real/sub/round"))?;
    place.check("by one", ops::text(&place.at("way/sub/file")), Ok("found".to_owned()));
    place.check("by two", ops::text(&place.at("way/sub/round/file")), Ok("found".to_owned()));
    place.check("by four", ops::text(&place.at("way/sub/round/round/round/file")), Ok("found".to_owned()));
    place.check("back up", ops::text(&place.at("way/sub/round/../sub/file")), Ok("found".to_owned()));
    place.check("a directory made behind it", ops::mkdir(&place.at("way/new")), Ok(()));
    place.check("is there", ops::list(&place.at("real/new")), Ok(()));
    let opened = ops::opens(&place.at("way/sub/file"), OFlag::O_NOFOLLOW);
    place.check("O_NOFOLLOW means the last name only", opened, Ok(()));
    Ok(())
}

fn dots(place: &Place) -> Result<()> {
    let dir = place.dir("dir", User::Root, 0o755)?;
    fs::write(place.at("file"), "beside")?;
    place.check("`..`", ops::text(&dir.join("../file")), Ok("beside".to_owned()));
    place.check("`./.`", ops::text(&dir.join("./.././file")), Ok("beside".to_owned()));
    let number = |path: &Path| ops::attributes(path).map(|stat| (stat.st_dev, stat.st_ino));
    place.check("`..` is the directory above", number(&dir.join("..")), number(place.path()));
    place.check("`.` is the directory", number(&dir.join(".")), number(&dir));
    place.check("`..` of nothing", ops::lstat(&place.at("none/..")), Err(Errno::ENOENT));
    place.check("`..` of a file", ops::lstat(&place.at("file/..")), Err(Errno::ENOTDIR));
    Ok(())
}
