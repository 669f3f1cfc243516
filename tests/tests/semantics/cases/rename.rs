//! rename(2) and link(2): all combinations of kinds, flags, places that cannot be, who may.

use std::fs;
use std::path::Path;

use anyhow::Result;
use nix::errno::Errno;
use nix::fcntl::RenameFlags;

use crate::ops;
use crate::suite::{Case, Kind, Place, User};

pub(crate) const CASES: &[Case] = &[
    ("rename by kinds", by_kinds),
    ("rename NOREPLACE", no_replace),
    ("rename EXCHANGE", exchange),
    ("rename to impossible places", impossible),
    ("rename keeps the file", keeps_the_file),
    ("rename across directories", across_directories),
    ("rename by permission", by_permission),
    ("link", link),
    ("link by permission", link_by_permission),
];

/// What renaming `from` over `to` comes to.
fn expected(from: Kind, to: Kind) -> nix::Result<()> {
    let is_dir = |kind| matches!(kind, Kind::Dir | Kind::Full);
    match (from, to) {
        (Kind::Missing, _) => Err(Errno::ENOENT),
        (_, Kind::Missing) => Ok(()),
        (from, to) if is_dir(from) && !is_dir(to) => Err(Errno::ENOTDIR),
        (from, to) if !is_dir(from) && is_dir(to) => Err(Errno::EISDIR),
        (_, Kind::Full) => Err(Errno::ENOTEMPTY),
        _ => Ok(()),
    }
}

/// What tells whether two names have changed: number, kind and size of what is there.
fn seen(path: &Path) -> Option<(u32, i64)> {
    nix::sys::stat::lstat(path).ok().map(|stat| (stat.st_mode, stat.st_size))
}

fn by_kinds(place: &Place) -> Result<()> {
    for from in Kind::ALL {
        for to in Kind::ALL {
            let (old, new) = (place.at(format!("{from:?}-{to:?}")), place.at(format!("{from:?}-{to:?}-new")));
            from.make(&old)?;
            to.make(&new)?;
            let before = (seen(&old), seen(&new));
            let outcome = ops::rename(&old, &new);
            place.check(format_args!("{from:?} over {to:?}"), outcome, expected(from, to));
            let after = (seen(&old), seen(&new));
            let right = if outcome.is_ok() { (None, before.0) } else { before };
            place.check(format_args!("{from:?} over {to:?}: what is there then"), after, right);
        }
    }
    Ok(())
}

fn no_replace(place: &Place) -> Result<()> {
    for to in Kind::ALL {
        let (old, new) = (place.at(format!("{to:?}")), place.at(format!("{to:?}-new")));
        Kind::File.make(&old)?;
        to.make(&new)?;
        let right = if to == Kind::Missing { Ok(()) } else { Err(Errno::EEXIST) };
        let outcome = ops::rename_with(&old, &new, RenameFlags::RENAME_NOREPLACE);
        place.check(format_args!("over {to:?}"), outcome, right);
    }
    let (from, to) = (place.at("none"), place.at("new"));
    place.check(
        "of nothing",
        ops::rename_with(&from, &to, RenameFlags::RENAME_NOREPLACE),
        Err(Errno::ENOENT),
    );
    Ok(())
}

fn exchange(place: &Place) -> Result<()> {
    for from in Kind::ALL {
        for to in Kind::ALL {
            let (old, new) = (place.at(format!("{from:?}-{to:?}")), place.at(format!("{from:?}-{to:?}-new")));
            from.make(&old)?;
            to.make(&new)?;
            let before = (seen(&old), seen(&new));
            let outcome = ops::rename_with(&old, &new, RenameFlags::RENAME_EXCHANGE);
            let right = match (from, to) {
                (Kind::Missing, _) | (_, Kind::Missing) => Err(Errno::ENOENT),
                _ => Ok(()),
            };
            place.check(format_args!("{from:?} and {to:?}"), outcome, right);
            let right = if outcome.is_ok() { (before.1, before.0) } else { before };
            place.check(
                format_args!("{from:?} and {to:?}: what is there then"),
                (seen(&old), seen(&new)),
                right,
            );
        }
    }
    let both = RenameFlags::RENAME_EXCHANGE | RenameFlags::RENAME_NOREPLACE;
    let (one, other) = (place.file("one", User::Root, 0o644)?, place.file("other", User::Root, 0o644)?);
    place.check("with NOREPLACE", ops::rename_with(&one, &other, both), Err(Errno::EINVAL));
    Ok(())
}

fn impossible(place: &Place) -> Result<()> {
    let outer = place.dir("outer", User::Root, 0o755)?;
    let inner = outer.join("inner");
    fs::create_dir(&inner)?;
    place.check("into itself", ops::rename(&outer, &outer.join("below")), Err(Errno::EINVAL));
    place.check("far into itself", ops::rename(&outer, &inner.join("below")), Err(Errno::EINVAL));
    place.check("over its parent", ops::rename(&inner, &outer), Err(Errno::ENOTEMPTY));
    place.check("of `.`", ops::rename(&inner.join("."), &place.at("new")), Err(Errno::EBUSY));
    place.check("to `..`", ops::rename(&inner, &inner.join("..")), Err(Errno::EBUSY));
    let file = place.file("file", User::Root, 0o644)?;
    place.check("to a slash behind a file", ops::rename(&file, &place.at("new/")), Err(Errno::ENOTDIR));
    place.check("below a file", ops::rename(&outer, &file.join("x")), Err(Errno::ENOTDIR));
    let long = place.at("x".repeat(256));
    place.check("to a name of 256 bytes", ops::rename(&file, &long), Err(Errno::ENAMETOOLONG));
    place.check("to no directory", ops::rename(&file, &place.at("none/file")), Err(Errno::ENOENT));
    Ok(())
}

fn keeps_the_file(place: &Place) -> Result<()> {
    let (path, file) = place.open("file", b"before")?;
    let number = ops::attributes(&path)?.st_ino;
    let new = place.at("new");
    fs::rename(&path, &new)?;
    place.check("the same inode number", ops::attributes(&new).map(|stat| stat.st_ino), Ok(number));
    nix::sys::uio::pwrite(&file, b"AFTER", 0)?;
    place.check("an open descriptor goes on", ops::text(&new), Ok("AFTERe".to_owned()));
    place.check("onto itself", ops::rename(&new, &new), Ok(()));
    let second = place.at("second");
    fs::hard_link(&new, &second)?;
    place.check("onto another name of the same file", ops::rename(&new, &second), Ok(()));
    let both = (ops::lstat(&new), ops::lstat(&second));
    place.check("both names stay", both, (Ok(()), Ok(())));
    // Over a file that is open: its data stay with who has it.
    let (over, held) = place.open("over", b"held")?;
    fs::rename(&second, &over)?;
    place.check("what was replaced is still read", ops::read_from(&held, 0, 9), Ok(b"held".to_vec()));
    place.check("and has no name", nix::sys::stat::fstat(&held).map(|stat| stat.st_nlink), Ok(0));
    place.check("the name means the new file", ops::text(&over), Ok("AFTERe".to_owned()));
    Ok(())
}

fn across_directories(place: &Place) -> Result<()> {
    let (one, other) = (place.dir("one", User::Root, 0o755)?, place.dir("other", User::Root, 0o755)?);
    fs::write(one.join("file"), "text")?;
    fs::create_dir(one.join("sub"))?;
    fs::write(one.join("sub/deep"), "deep")?;
    place.check("a file", ops::rename(&one.join("file"), &other.join("moved")), Ok(()));
    place.check("its text", ops::text(&other.join("moved")), Ok("text".to_owned()));
    place.check("a directory", ops::rename(&one.join("sub"), &other.join("sub")), Ok(()));
    place.check("what is in it", ops::text(&other.join("sub/deep")), Ok("deep".to_owned()));
    let links = |path: &Path| ops::attributes(path).map(|stat| stat.st_nlink);
    place.check("links of where it was", links(&one), Ok(2));
    place.check("links of where it is", links(&other), Ok(3));
    let up = fs::canonicalize(other.join("sub/.."))?;
    place.check("its `..`", up, fs::canonicalize(&other)?);
    Ok(())
}

fn by_permission(place: &Place) -> Result<()> {
    let mine = place.dir("mine", User::Alice, 0o755)?;
    let open = place.dir("open", User::Root, 0o777)?;
    let file = place.file("mine/file", User::Bob, 0o644)?;
    let rename = |user: User, from: &Path, to: &Path| user.does(|| ops::rename(from, to).map(|()| 0));
    let denied = Err(Errno::EACCES);
    place.check("out of another's directory", rename(User::Bob, &file, &open.join("file")), denied);
    place.check("within another's directory", rename(User::Bob, &file, &mine.join("new")), denied);
    place.check("another's file in one's directory", rename(User::Alice, &file, &open.join("file")), Ok(0));
    place.check("into another's directory", rename(User::Bob, &open.join("file"), &mine.join("b")), denied);
    // `..` of a directory that moves is written: who moves it must be allowed to write to it.
    let sub = place.dir("open/sub", User::Bob, 0o755)?;
    place.check("another's directory stays", rename(User::Alice, &sub, &mine.join("sub")), denied);
    place.check("and gets a new name", rename(User::Alice, &sub, &open.join("named")), Ok(0));
    let moved = rename(User::Bob, &open.join("named"), &mine.join("sub"));
    place.check("its owner moves it not into another's", moved, denied);
    Ok(())
}

fn link(place: &Place) -> Result<()> {
    let (path, file) = place.open("file", b"text")?;
    let second = place.at("second");
    place.check("a second name", ops::link(&path, &second), Ok(()));
    place.check("links", ops::attributes(&path).map(|stat| stat.st_nlink), Ok(2));
    let numbers = (ops::attributes(&path)?.st_ino, ops::attributes(&second)?.st_ino);
    place.check("one inode number", numbers.0, numbers.1);
    nix::sys::uio::pwrite(&file, b"more", 4)?;
    place.check("the same bytes", ops::text(&second), Ok("textmore".to_owned()));
    place.check("the first name goes", ops::unlink(&path), Ok(()));
    place.check("the second stays", ops::text(&second), Ok("textmore".to_owned()));
    place.check("links then", nix::sys::stat::fstat(&file).map(|stat| stat.st_nlink), Ok(1));
    let soft = place.at("soft");
    ops::symlink(Path::new("second"), &soft)?;
    place.check("of a symbolic link", ops::link(&soft, &place.at("soft2")), Ok(()));
    place.check("is one", nix::fcntl::readlink(&place.at("soft2")), Ok("second".into()));
    place.check("of what it points to", ops::link_target(&soft, &place.at("hard")), Ok(()));
    place.check("is a file", ops::attributes(&place.at("hard")).map(|stat| stat.st_nlink), Ok(2));
    place.check("to no directory", ops::link(&second, &place.at("none/x")), Err(Errno::ENOENT));
    Ok(())
}

fn link_by_permission(place: &Place) -> Result<()> {
    let file = place.file("file", User::Alice, 0o666)?;
    let closed = place.dir("closed", User::Alice, 0o755)?;
    let link = |user: User, to: &Path| user.does(|| ops::link(&file, to).map(|()| 0));
    place.check("into another's directory", link(User::Bob, &closed.join("b")), Err(Errno::EACCES));
    place.check("into one's own", link(User::Alice, &closed.join("a")), Ok(0));
    place.check("into everybody's", link(User::Alice, &place.at("c")), Ok(0));
    Ok(())
}
