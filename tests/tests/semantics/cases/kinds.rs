//! Every operation on every kind of file, by root: a table of what each comes to.

use anyhow::Result;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::AccessFlags;

use crate::ops::{self, Op};
use crate::suite::{Case, Kind, Place};
use system_tests::sys;

pub(crate) const CASES: &[Case] = &[
    ("open by kind", |place| table(place, OPENS)),
    ("make by kind", |place| table(place, MAKES)),
    ("remove by kind", |place| table(place, REMOVES)),
    ("look by kind", |place| table(place, LOOKS)),
    ("change by kind", |place| table(place, CHANGES)),
    ("path by kind", |place| table(place, PATHS)),
];

/// What an operation comes to with each of [`Kind::ALL`].
type Row = (&'static str, Op, [nix::Result<()>; 7]);

const OK: nix::Result<()> = Ok(());
const ENOENT: nix::Result<()> = Err(Errno::ENOENT);
const ENOTDIR: nix::Result<()> = Err(Errno::ENOTDIR);
const EISDIR: nix::Result<()> = Err(Errno::EISDIR);
const EEXIST: nix::Result<()> = Err(Errno::EEXIST);
const ELOOP: nix::Result<()> = Err(Errno::ELOOP);
const EINVAL: nix::Result<()> = Err(Errno::EINVAL);
const ENXIO: nix::Result<()> = Err(Errno::ENXIO);
const EPERM: nix::Result<()> = Err(Errno::EPERM);
const ENOTEMPTY: nix::Result<()> = Err(Errno::ENOTEMPTY);
const ENODATA: nix::Result<()> = Err(Errno::ENODATA);

//                     File     Dir      Full       Link     Dangling Fifo     Missing
const OPENS: &[Row] = &[
    ("open O_RDONLY", |p| ops::opens(p, OFlag::O_RDONLY), [OK, OK, OK, OK, ENOENT, OK, ENOENT]),
    ("open O_WRONLY", |p| ops::opens(p, OFlag::O_WRONLY), [OK, EISDIR, EISDIR, OK, ENOENT, ENXIO, ENOENT]),
    ("open O_RDWR", |p| ops::opens(p, OFlag::O_RDWR), [OK, EISDIR, EISDIR, OK, ENOENT, OK, ENOENT]),
    (
        "open O_RDWR|O_TRUNC",
        |p| ops::opens(p, OFlag::O_RDWR | OFlag::O_TRUNC),
        [OK, EISDIR, EISDIR, OK, ENOENT, OK, ENOENT],
    ),
    (
        "open O_RDWR|O_CREAT",
        |p| ops::opens(p, OFlag::O_RDWR | OFlag::O_CREAT),
        [OK, EISDIR, EISDIR, OK, OK, OK, OK],
    ),
    ("open O_RDONLY|O_CREAT", |p| ops::opens(p, OFlag::O_CREAT), [OK, EISDIR, EISDIR, OK, OK, OK, OK]),
    ("open O_CREAT|O_EXCL", ops::create, [EEXIST, EEXIST, EEXIST, EEXIST, EEXIST, EEXIST, OK]),
    (
        "open O_DIRECTORY",
        |p| ops::opens(p, OFlag::O_DIRECTORY),
        [ENOTDIR, OK, OK, ENOTDIR, ENOENT, ENOTDIR, ENOENT],
    ),
    ("open O_NOFOLLOW", |p| ops::opens(p, OFlag::O_NOFOLLOW), [OK, OK, OK, ELOOP, ELOOP, OK, ENOENT]),
    (
        "open O_PATH|O_NOFOLLOW",
        |p| ops::opens(p, OFlag::O_PATH | OFlag::O_NOFOLLOW),
        [OK, OK, OK, OK, OK, OK, ENOENT],
    ),
    ("list", ops::list, [ENOTDIR, OK, OK, ENOTDIR, ENOENT, ENOTDIR, ENOENT]),
];

const MAKES: &[Row] = &[
    ("mkdir", ops::mkdir, [EEXIST, EEXIST, EEXIST, EEXIST, EEXIST, EEXIST, OK]),
    ("mkfifo", ops::mkfifo, [EEXIST, EEXIST, EEXIST, EEXIST, EEXIST, EEXIST, OK]),
    ("symlink", ops::symlink_here, [EEXIST, EEXIST, EEXIST, EEXIST, EEXIST, EEXIST, OK]),
    ("link from it", ops::link_beside, [OK, EPERM, EPERM, OK, OK, OK, ENOENT]),
    (
        "link to it",
        |p| {
            let other = p.with_extension("other");
            std::fs::write(&other, "").expect("a file beside it");
            ops::link(&other, p)
        },
        [EEXIST, EEXIST, EEXIST, EEXIST, EEXIST, EEXIST, OK],
    ),
];

const REMOVES: &[Row] = &[
    ("unlink", ops::unlink, [OK, EISDIR, EISDIR, OK, OK, OK, ENOENT]),
    ("rmdir", ops::rmdir, [ENOTDIR, OK, ENOTEMPTY, ENOTDIR, ENOTDIR, ENOTDIR, ENOENT]),
];

const LOOKS: &[Row] = &[
    ("stat", ops::stat, [OK, OK, OK, OK, ENOENT, OK, ENOENT]),
    ("lstat", ops::lstat, [OK, OK, OK, OK, OK, OK, ENOENT]),
    ("readlink", ops::readlink, [EINVAL, EINVAL, EINVAL, OK, OK, EINVAL, ENOENT]),
    ("access F_OK", |p| nix::unistd::access(p, AccessFlags::F_OK), [OK, OK, OK, OK, ENOENT, OK, ENOENT]),
    ("access R_OK", |p| nix::unistd::access(p, AccessFlags::R_OK), [OK, OK, OK, OK, ENOENT, OK, ENOENT]),
    ("statvfs", |p| nix::sys::statvfs::statvfs(p).map(drop), [OK, OK, OK, OK, ENOENT, OK, ENOENT]),
    (
        "lgetxattr of one that is not there",
        |p| sys::get_xattr(p, "user.none", 10).map(drop),
        [ENODATA, ENODATA, ENODATA, ENODATA, ENODATA, ENODATA, ENOENT],
    ),
];

const CHANGES: &[Row] = &[
    ("truncate", ops::truncate, [OK, EISDIR, EISDIR, OK, ENOENT, EINVAL, ENOENT]),
    ("chmod", ops::chmod, [OK, OK, OK, OK, ENOENT, OK, ENOENT]),
    ("chown", |p| ops::chown(p, Some(5), Some(6), true), [OK, OK, OK, OK, ENOENT, OK, ENOENT]),
    ("lchown", |p| ops::chown(p, Some(5), Some(6), false), [OK, OK, OK, OK, OK, OK, ENOENT]),
    ("utimens", |p| ops::utimens(p, ops::at(5, 0), ops::at(6, 0)), [OK, OK, OK, OK, ENOENT, OK, ENOENT]),
    ("lutimens", |p| ops::lutimens(p, ops::at(5, 0), ops::at(6, 0)), [OK, OK, OK, OK, OK, OK, ENOENT]),
    ("lsetxattr", |p| sys::set_xattr(p, "user.some", b"thing", 0), [OK, OK, OK, EPERM, EPERM, EPERM, ENOENT]),
];

const PATHS: &[Row] = &[
    (
        "a name below it",
        |p| ops::lstat(&p.join("none")),
        [ENOTDIR, ENOENT, ENOENT, ENOTDIR, ENOENT, ENOTDIR, ENOENT],
    ),
    (
        "a file made below it",
        |p| ops::create(&p.join("new")),
        [ENOTDIR, OK, OK, ENOTDIR, ENOENT, ENOTDIR, ENOENT],
    ),
    ("a slash behind it", |p| ops::lstat(&p.join("")), [ENOTDIR, OK, OK, ENOTDIR, ENOENT, ENOTDIR, ENOENT]),
    (
        "a directory removed with a slash behind it",
        |p| ops::rmdir(&p.join("")),
        [ENOTDIR, OK, ENOTEMPTY, ENOTDIR, ENOTDIR, ENOTDIR, ENOENT],
    ),
    (
        "a directory made with a slash behind it",
        |p| ops::mkdir(&p.join("")),
        [EEXIST, EEXIST, EEXIST, EEXIST, EEXIST, EEXIST, OK],
    ),
    (
        "a file made with a slash behind it",
        |p| ops::create(&p.join("")),
        [EISDIR, EISDIR, EISDIR, EISDIR, EISDIR, EISDIR, EISDIR],
    ),
    ("`.` of it", |p| ops::stat(&p.join(".")), [ENOTDIR, OK, OK, ENOTDIR, ENOENT, ENOTDIR, ENOENT]),
    ("`.` of it removed", |p| ops::rmdir(&p.join(".")), {
        [ENOTDIR, EINVAL, EINVAL, ENOTDIR, ENOENT, ENOTDIR, ENOENT]
    }),
    ("`..` of it removed", |p| ops::rmdir(&p.join("..")), {
        [ENOTDIR, ENOTEMPTY, ENOTEMPTY, ENOTDIR, ENOENT, ENOTDIR, ENOENT]
    }),
    (
        "a working directory",
        |p| {
            let back = nix::unistd::getcwd()?;
            nix::unistd::chdir(p)?;
            nix::unistd::chdir(&back)
        },
        [ENOTDIR, OK, OK, ENOTDIR, ENOENT, ENOTDIR, ENOENT],
    ),
];

fn table(place: &Place, rows: &[Row]) -> Result<()> {
    for (number, (what, op, expected)) in rows.iter().enumerate() {
        for (kind, expected) in Kind::ALL.iter().zip(expected) {
            let path = place.at(format!("{number}-{kind:?}"));
            kind.make(&path)?;
            place.check(format_args!("{what}, {kind:?}"), op(&path), *expected);
        }
    }
    Ok(())
}
