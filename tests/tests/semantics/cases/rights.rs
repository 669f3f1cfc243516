//! Who may do what: permission bits of files and directories for owner, group, supplementary group and others;
//! sticky directories, set-id bits, changing owners and permissions.

use std::fs;
use std::path::Path;

use anyhow::Result;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{AccessFlags, access};

use crate::ops;
use crate::suite::{Case, Place, User, give};
use system_tests::sys::Outcome;

pub(crate) const CASES: &[Case] = &[
    ("permission bits of a file", file_bits),
    ("permission bits of a directory", directory_bits),
    ("permission of a path", path_bits),
    ("access is asked of the real user", real_user),
    ("sticky directory", sticky),
    ("chmod", chmod),
    ("chmod set-id bits", chmod_set_id),
    ("chown", chown),
    ("chown takes set-id bits", chown_set_id),
    ("writing takes set-id bits", write_set_id),
    ("directory that gives its group", group_directory),
    ("umask", umask),
];

/// The three bits that count for `user` of what Alice owns.
fn bits(user: User, mode: u32) -> u32 {
    match user {
        User::Root => 7,
        User::Alice => mode >> 6 & 7,
        // She is in the group.
        User::Carol => mode >> 3 & 7,
        User::Bob => mode & 7,
    }
}

/// Modes in which each class has each set of bits, and no two classes the same.
fn modes() -> impl Iterator<Item = u32> {
    (0..8).map(|bits| bits << 6 | (bits ^ 7) << 3 | ((bits + 3) % 8))
}

fn number(allowed: nix::Result<bool>) -> Outcome {
    allowed.map(i64::from)
}

fn file_bits(place: &Place) -> Result<()> {
    let path = place.file("file", User::Alice, 0o644)?;
    for mode in modes() {
        give(&path, User::Alice, mode)?;
        for user in User::PEOPLE {
            let seen = user.does_all(|| {
                let open = |flags| number(ops::allowed(ops::opens(&path, flags)));
                let asked = |flags| number(ops::allowed(access(&path, flags)));
                vec![
                    open(OFlag::O_RDONLY),
                    open(OFlag::O_WRONLY),
                    open(OFlag::O_RDWR),
                    open(OFlag::O_WRONLY | OFlag::O_APPEND),
                    number(ops::allowed(nix::unistd::truncate(&path, 10))),
                    asked(AccessFlags::R_OK),
                    asked(AccessFlags::W_OK),
                    asked(AccessFlags::X_OK),
                    asked(AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK),
                    number(ops::allowed(ops::stat(&path))),
                ]
            });
            let bits = bits(user, mode);
            let has = |needed: u32| Ok(i64::from(bits & needed == needed));
            let right = vec![has(4), has(2), has(6), has(2), has(2), has(4), has(2), has(1), has(7), Ok(1)];
            place.check(format_args!("{mode:03o}, {user:?}: r w rw a truncate R W X RWX stat"), seen, right);
        }
    }
    Ok(())
}

fn directory_bits(place: &Place) -> Result<()> {
    let path = place.dir("dir", User::Alice, 0o755)?;
    place.file("dir/file", User::Root, 0o666)?;
    for mode in modes() {
        give(&path, User::Alice, mode)?;
        for user in User::PEOPLE {
            let seen = user.does_all(|| {
                let new = path.join("new");
                let made = ops::allowed(ops::create(&new));
                let removed = if made == Ok(true) { ops::allowed(ops::unlink(&new)) } else { made };
                let sub = path.join("sub");
                let dir = ops::allowed(ops::mkdir(&sub));
                let gone = if dir == Ok(true) { ops::allowed(ops::rmdir(&sub)) } else { dir };
                let renamed = ops::allowed(ops::rename(&path.join("file"), &path.join("file2")));
                let back = || ops::allowed(ops::rename(&path.join("file2"), &path.join("file")));
                let back = if renamed == Ok(true) { back() } else { renamed };
                let read = ops::allowed(ops::opens(&path.join("file"), OFlag::O_RDONLY));
                let looked = ops::allowed(ops::stat(&path.join("file")));
                let listed = ops::allowed(ops::list(&path));
                let entered = ops::allowed(nix::unistd::chdir(&path));
                [listed, entered, looked, read, made, removed, dir, gone, renamed, back].map(number).to_vec()
            });
            let bits = bits(user, mode);
            let has = |needed: u32| Ok(i64::from(bits & needed == needed));
            let change = has(3);
            let mut right = vec![has(4), has(1), has(1), has(1)];
            right.extend([change; 6]);
            let what = "list enter stat read create unlink mkdir rmdir rename back";
            place.check(format_args!("{mode:03o}, {user:?}: {what}"), seen, right);
        }
    }
    Ok(())
}

/// Every directory on the way must be searchable, not only the last one.
fn path_bits(place: &Place) -> Result<()> {
    let outer = place.dir("outer", User::Alice, 0o700)?;
    place.dir("outer/inner", User::Bob, 0o777)?;
    let file = place.file("outer/inner/file", User::Bob, 0o666)?;
    let reads = |user: User| user.does(|| ops::opens(&file, OFlag::O_RDONLY).map(|()| 0));
    place.check("the owner of the outer one", reads(User::Alice), Ok(0));
    // What another looked up must not serve him.
    place.check("the owner of the file", reads(User::Bob), Err(Errno::EACCES));
    place.check("one of the group", reads(User::Carol), Err(Errno::EACCES));
    give(&outer, User::Alice, 0o710)?;
    place.check("one of the group when it may search", reads(User::Carol), Ok(0));
    place.check("others still not", reads(User::Bob), Err(Errno::EACCES));
    give(&outer, User::Alice, 0o701)?;
    place.check("others when they may search", reads(User::Bob), Ok(0));
    place.check("the group no more", reads(User::Carol), Err(Errno::EACCES));
    let names = User::Bob.does(|| ops::list(&outer).map(|()| 0));
    place.check("who may search may not list", names, Err(Errno::EACCES));
    Ok(())
}

fn real_user(place: &Place) -> Result<()> {
    let path = place.file("file", User::Alice, 0o600)?;
    let root = access(&path, AccessFlags::R_OK | AccessFlags::W_OK);
    place.check("root reads and writes", root, Ok(()));
    place.check("root runs no file without an x", access(&path, AccessFlags::X_OK), Err(Errno::EACCES));
    ops::chmod_to(&path, 0o610)?;
    place.check("root runs one with any x", access(&path, AccessFlags::X_OK), Ok(()));
    Ok(())
}

fn sticky(place: &Place) -> Result<()> {
    let shared = place.dir("shared", User::Root, 0o1777)?;
    let file = |name: &str| place.file(&format!("shared/{name}"), User::Alice, 0o666);
    let (one, other) = (file("one")?, file("other")?);
    let bobs = place.file("shared/bobs", User::Bob, 0o666)?;
    let sub = place.dir("shared/sub", User::Alice, 0o777)?;
    let seen = User::Bob.does_all(|| {
        vec![
            ops::unlink(&one).map(|()| 0),
            ops::rename(&one, &shared.join("new")).map(|()| 0),
            ops::rename(&bobs, &one).map(|()| 0),
            ops::rmdir(&sub).map(|()| 0),
            ops::rename(&sub, &place.at("sub")).map(|()| 0),
            ops::opens(&one, OFlag::O_RDWR).map(|()| 0),
            ops::link(&one, &shared.join("linked")).map(|()| 0),
            ops::rename(&bobs, &shared.join("bobs2")).map(|()| 0),
        ]
    });
    let no = Err(Errno::EPERM);
    place.check("another's files", seen, vec![no, no, no, no, no, Ok(0), Ok(0), Ok(0)]);
    let seen = User::Alice.does_all(|| {
        vec![ops::unlink(&one).map(|()| 0), ops::rename(&other, &shared.join("new")).map(|()| 0)]
    });
    place.check("one's own files", seen, vec![Ok(0), Ok(0)]);
    place.check("root", ops::unlink(&shared.join("new")), Ok(()));
    // Who owns the directory may remove what is in it.
    let hers = place.dir("hers", User::Alice, 0o1777)?;
    place.file("hers/bobs", User::Bob, 0o600)?;
    place.check(
        "the directory's owner",
        User::Alice.does(|| ops::unlink(&hers.join("bobs")).map(|()| 0)),
        Ok(0),
    );
    Ok(())
}

fn chmod(place: &Place) -> Result<()> {
    let path = place.file("file", User::Alice, 0o644)?;
    for mode in [0, 0o400, 0o777, 0o1777, 0o123] {
        let by = User::Alice.does(|| ops::chmod_to(&path, mode).map(|()| 0));
        place.check(format_args!("{mode:o} by the owner"), by, Ok(0));
        place.check(format_args!("{mode:o} is seen"), ops::mode(&path), Ok(mode));
    }
    for user in [User::Bob, User::Carol] {
        let by = user.does(|| ops::chmod_to(&path, 0o777).map(|()| 0));
        place.check(format_args!("by {user:?}"), by, Err(Errno::EPERM));
    }
    place.check("by root", ops::chmod_to(&path, 0o600), Ok(()));
    ops::utimens(&path, ops::at(5, 0), ops::at(6, 0))?;
    ops::chmod_to(&path, 0o640)?;
    place.check("it is no writing", ops::written(&path), Ok((6, 0)));
    ops::symlink(Path::new("file"), &place.at("link"))?;
    ops::chmod_to(&place.at("link"), 0o604)?;
    place.check("of a link's target", ops::mode(&path), Ok(0o604));
    place.check("not of the link", ops::mode(&place.at("link")), Ok(0o777));
    Ok(())
}

fn chmod_set_id(place: &Place) -> Result<()> {
    let path = place.file("file", User::Alice, 0o755)?;
    for mode in [0o4755, 0o2755, 0o6755, 0o7755] {
        let seen =
            User::Alice.does(|| ops::chmod_to(&path, mode).and_then(|()| ops::mode(&path)).map(i64::from));
        place.check(format_args!("{mode:o} by the owner"), seen, Ok(i64::from(mode)));
    }
    // A group that she is not in: the bit is quietly left out.
    ops::chown(&path, None, Some(User::Bob.id()), true)?;
    let seen =
        User::Alice.does(|| ops::chmod_to(&path, 0o2755).and_then(|()| ops::mode(&path)).map(i64::from));
    place.check("set-group-id of a foreign group", seen, Ok(0o755));
    ops::chmod_to(&path, 0o2755)?;
    place.check("set-group-id by root", ops::mode(&path), Ok(0o2755));
    // One that she is in by a supplementary group counts.
    let path = place.file("carols", User::Carol, 0o755)?;
    ops::chown(&path, None, Some(User::Alice.id()), true)?;
    let seen =
        User::Carol.does(|| ops::chmod_to(&path, 0o2755).and_then(|()| ops::mode(&path)).map(i64::from));
    place.check("set-group-id of a supplementary group", seen, Ok(0o2755));
    Ok(())
}

fn chown(place: &Place) -> Result<()> {
    let path = place.file("file", User::Alice, 0o644)?;
    let (alice, bob) = (User::Alice.id(), User::Bob.id());
    let by = |user: User, uid, gid| user.does(|| ops::chown(&path, uid, gid, true).map(|()| 0));
    let owners = || ops::attributes(&path).map(|stat| (stat.st_uid, stat.st_gid));
    let no = Err(Errno::EPERM);
    place.check("given away by the owner", by(User::Alice, Some(bob), None), no);
    place.check("taken by another", by(User::Bob, Some(bob), None), no);
    place.check("to a group that the owner is not in", by(User::Alice, None, Some(bob)), no);
    place.check("to the same owner", by(User::Alice, Some(alice), None), Ok(0));
    place.check("to nobody new", by(User::Alice, None, None), Ok(0));
    place.check("nothing happened", owners(), Ok((alice, alice)));
    place.check("by root", ops::chown(&path, Some(bob), Some(77), true), Ok(()));
    place.check("both are new", owners(), Ok((bob, 77)));
    ops::chown(&path, None, Some(78), true)?;
    place.check("the group alone", owners(), Ok((bob, 78)));
    ops::chown(&path, Some(4_000_000_000), None, true)?;
    place.check("a large number", owners(), Ok((4_000_000_000, 78)));
    let carols = place.file("carols", User::Carol, 0o644)?;
    let by = User::Carol.does(|| ops::chown(&carols, None, Some(alice), true).map(|()| 0));
    place.check("to a supplementary group", by, Ok(0));
    ops::symlink(Path::new("file"), &place.at("link"))?;
    ops::chown(&place.at("link"), Some(9), Some(9), false)?;
    place.check("of a link itself", owners(), Ok((4_000_000_000, 78)));
    Ok(())
}

fn chown_set_id(place: &Place) -> Result<()> {
    let path = place.file("file", User::Alice, 0o6755)?;
    let by = User::Alice.does(|| ops::chown(&path, None, Some(User::Alice.id()), true).map(|()| 0));
    place.check("by the owner", by, Ok(0));
    place.check("both bits are gone", ops::mode(&path), Ok(0o755));
    give(&path, User::Alice, 0o6755)?;
    ops::chown(&path, Some(5), Some(5), true)?;
    place.check("by root they go, too", ops::mode(&path), Ok(0o755));
    // Without an x for the group the bit means locking, and stays.
    give(&path, User::Alice, 0o2644)?;
    ops::chown(&path, Some(5), None, true)?;
    place.check("the group's bit of a file that is not run", ops::mode(&path), Ok(0o2644));
    let dir = place.dir("dir", User::Alice, 0o2755)?;
    ops::chown(&dir, Some(5), Some(5), true)?;
    place.check("a directory keeps it", ops::mode(&dir), Ok(0o2755));
    Ok(())
}

fn write_set_id(place: &Place) -> Result<()> {
    let changes: [(&str, ops::Op); 3] = [
        ("write", |path| {
            ops::open(path, OFlag::O_WRONLY).and_then(|f| nix::unistd::write(&f, b"x")).map(drop)
        }),
        ("truncate", |path| nix::unistd::truncate(path, 3)),
        ("O_TRUNC", |path| ops::opens(path, OFlag::O_WRONLY | OFlag::O_TRUNC)),
    ];
    for (what, change) in changes {
        let path = place.file(what, User::Alice, 0o6777)?;
        place.check(format_args!("{what} by another"), User::Bob.does(|| change(&path).map(|()| 0)), Ok(0));
        place.check(format_args!("{what}: the bits are gone"), ops::mode(&path), Ok(0o777));
        give(&path, User::Alice, 0o6777)?;
        place.check(format_args!("{what} by root"), change(&path), Ok(()));
        place.check(format_args!("{what} by root: the bits stay"), ops::mode(&path), Ok(0o6777));
    }
    Ok(())
}

fn group_directory(place: &Place) -> Result<()> {
    let dir = place.dir("dir", User::Bob, 0o2777)?;
    let seen = User::Alice.does_all(|| {
        vec![ops::create(&dir.join("file")).map(|()| 0), ops::mkdir(&dir.join("sub")).map(|()| 0)]
    });
    place.check("things are made in it", seen, vec![Ok(0), Ok(0)]);
    let file = ops::attributes(&dir.join("file"))?;
    let sub = ops::attributes(&dir.join("sub"))?;
    let (alice, bob) = (User::Alice.id(), User::Bob.id());
    place.check("a file's owner and group", (file.st_uid, file.st_gid), (alice, bob));
    place.check("a directory's owner and group", (sub.st_uid, sub.st_gid), (alice, bob));
    place.check("a directory gives it on", sub.st_mode & 0o2000, 0o2000);
    place.check("a file does not", file.st_mode & 0o2000, 0);
    Ok(())
}

fn umask(place: &Place) -> Result<()> {
    use nix::sys::stat::Mode;
    let before = nix::sys::stat::umask(Mode::from_bits_truncate(0o027));
    let made = [
        ops::create(&place.at("file")),
        ops::mkdir(&place.at("dir")),
        ops::mkfifo(&place.at("fifo")),
        ops::symlink_here(&place.at("link")),
    ];
    nix::sys::stat::umask(before);
    place.check("made", made, [Ok(()); 4]);
    for (name, mode) in [("file", 0o640), ("dir", 0o750), ("fifo", 0o640), ("link", 0o777)] {
        place.check(format_args!("permissions of the {name}"), ops::mode(&place.at(name)), Ok(mode));
    }
    let bits = Mode::from_bits_truncate(0o1751);
    nix::unistd::mkdir(&place.at("sticky"), bits)?;
    place.check("a sticky bit at once", ops::mode(&place.at("sticky"))? & 0o1000, 0o1000);
    fs::remove_dir(place.at("sticky"))?;
    Ok(())
}
