//! Times: what sets them, what changes them, before 1970 and after 2038.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use nix::errno::Errno;
use nix::sys::time::TimeSpec;

use crate::ops;
use crate::suite::{Case, Place, User};

pub(crate) const CASES: &[Case] =
    &[("utimens", sets), ("utimens by permission", by_permission), ("time changes", changes)];

/// 2001-09-09: what a test sets before it looks for a change.
const LONG_AGO: i64 = 1_000_000_000;

fn sets(place: &Place) -> Result<()> {
    let path = place.file("file", User::Root, 0o644)?;
    // 1969, 1970, 2038 and the second after, 2100, 2400.
    for second in [-1, 0, 2_147_483_647, 2_147_483_648, 4_102_444_800, 13_569_465_600] {
        for nano in [0, 1, 999_999_999] {
            ops::utimens(&path, ops::at(second, nano), ops::at(second, nano))?;
            place.check(
                format_args!("written at {second}.{nano:09}"),
                ops::written(&path),
                Ok((second, nano)),
            );
            place.check(format_args!("read at {second}.{nano:09}"), ops::read_at(&path), Ok((second, nano)));
        }
    }
    ops::utimens(&path, ops::at(10, 1), ops::at(20, 2))?;
    ops::utimens(&path, TimeSpec::UTIME_OMIT, ops::at(30, 3))?;
    place.check(
        "one is left as it is",
        (ops::read_at(&path), ops::written(&path)),
        (Ok((10, 1)), Ok((30, 3))),
    );
    ops::utimens(&path, ops::at(40, 4), TimeSpec::UTIME_OMIT)?;
    place.check("or the other", (ops::read_at(&path), ops::written(&path)), (Ok((40, 4)), Ok((30, 3))));
    ops::utimens(&path, TimeSpec::UTIME_NOW, TimeSpec::UTIME_OMIT)?;
    place.check("now", ops::read_at(&path)?.0 > LONG_AGO, true);
    place.check("and not the other", ops::written(&path), Ok((30, 3)));
    ops::symlink(Path::new("file"), &place.at("link"))?;
    ops::lutimens(&place.at("link"), ops::at(7, 0), ops::at(8, 0))?;
    place.check("of a link itself", ops::written(&place.at("link")), Ok((8, 0)));
    place.check("not of its target", ops::written(&path), Ok((30, 3)));
    let dir = place.dir("dir", User::Root, 0o755)?;
    ops::utimens(&dir, ops::at(7, 0), ops::at(8, 0))?;
    place.check("of a directory", ops::written(&dir), Ok((8, 0)));
    place.check("too many nanoseconds", ops::utimens(&path, ops::at(1, 0), ops::at(1, 1_000_000_000)), {
        Err(Errno::EINVAL)
    });
    Ok(())
}

fn by_permission(place: &Place) -> Result<()> {
    let open = place.file("open", User::Alice, 0o666)?;
    let closed = place.file("closed", User::Alice, 0o644)?;
    let now = |path: &Path| ops::utimens(path, TimeSpec::UTIME_NOW, TimeSpec::UTIME_NOW).map(|()| 0);
    let then = |path: &Path| ops::utimens(path, ops::at(1, 0), ops::at(2, 0)).map(|()| 0);
    let omit = |path: &Path| ops::utimens(path, TimeSpec::UTIME_OMIT, TimeSpec::UTIME_OMIT).map(|()| 0);
    let bob =
        User::Bob.does_all(|| vec![now(&open), then(&open), now(&closed), then(&closed), omit(&closed)]);
    let (no, never) = (Err(Errno::EACCES), Err(Errno::EPERM));
    place.check("another: now or then, where he may write or not", bob, vec![Ok(0), never, no, never, Ok(0)]);
    let alice = User::Alice.does_all(|| vec![now(&closed), then(&closed)]);
    place.check("the owner", alice, vec![Ok(0), Ok(0)]);
    Ok(())
}

/// Which of a file's times an operation changes: those of its bytes and of its attributes.
fn changed(place: &Place, what: &str, path: &Path, right: (bool, bool), change: impl FnOnce()) -> Result<()> {
    // The time of the attributes cannot be set: it is compared with what it was.
    ops::utimens(path, ops::at(LONG_AGO, 0), ops::at(LONG_AGO, 0))?;
    let before = ops::attributes(path)?;
    // Kernels keep time in ticks of some milliseconds: go on when the next one shows.
    let clock = place.at("clock");
    let ticked = (0..100_000).any(|_| {
        let now = fs::write(&clock, "tick").ok().and_then(|()| ops::attributes(&clock).ok());
        now.is_some_and(|now| (now.st_ctime, now.st_ctime_nsec) > (before.st_ctime, before.st_ctime_nsec))
    });
    ensure!(ticked, "{what}: time does not pass");
    change();
    let after = ops::attributes(path)?;
    let written = after.st_mtime != LONG_AGO;
    let attributes = (after.st_ctime, after.st_ctime_nsec) != (before.st_ctime, before.st_ctime_nsec);
    place.check(format_args!("{what}: bytes, attributes"), (written, attributes), right);
    Ok(())
}

fn changes(place: &Place) -> Result<()> {
    let path = place.file("file", User::Root, 0o644)?;
    let dir = place.dir("dir", User::Root, 0o755)?;
    let (inside, moved) = (dir.join("inside"), dir.join("moved"));
    let done = |result: nix::Result<()>| result.expect("the change itself");
    changed(place, "write", &path, (true, true), || fs::write(&path, "new").expect("a write"))?;
    changed(place, "truncate", &path, (true, true), || done(nix::unistd::truncate(&path, 1)))?;
    changed(place, "read", &path, (false, false), || drop(fs::read(&path).expect("a read")))?;
    changed(place, "chmod", &path, (false, true), || done(ops::chmod_to(&path, 0o600)))?;
    changed(place, "chown", &path, (false, true), || done(ops::chown(&path, Some(5), None, true)))?;
    changed(place, "link", &path, (false, true), || done(ops::link(&path, &place.at("link"))))?;
    changed(place, "unlink of another name", &path, (false, true), || done(ops::unlink(&place.at("link"))))?;
    changed(place, "a directory, create", &dir, (true, true), || done(ops::create(&inside)))?;
    changed(place, "a directory, write to a file in it", &dir, (false, false), || {
        fs::write(&inside, "x").expect("a write");
    })?;
    changed(place, "a directory, rename in it", &dir, (true, true), || done(ops::rename(&inside, &moved)))?;
    changed(place, "a directory, unlink", &dir, (true, true), || done(ops::unlink(&moved)))?;
    changed(place, "a directory, mkdir", &dir, (true, true), || done(ops::mkdir(&inside)))?;
    changed(place, "a directory, rmdir", &dir, (true, true), || done(ops::rmdir(&inside)))?;
    changed(place, "a directory, symlink", &dir, (true, true), || done(ops::symlink_here(&inside)))?;
    Ok(())
}
