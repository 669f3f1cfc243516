//! Extended attributes.

use anyhow::Result;
use nix::errno::Errno;

use crate::ops;
use crate::suite::{Case, Place, User};
use system_tests::sys::{get_xattr, list_xattr, remove_xattr, set_xattr, xattr_len};

pub(crate) const CASES: &[Case] = &[
    ("extended attributes", attributes),
    ("extended attributes, limits", limits),
    ("extended attributes by permission", by_permission),
];

fn attributes(place: &Place) -> Result<()> {
    for (what, path) in [
        ("a file", place.file("file", User::Root, 0o644)?),
        ("a directory", place.dir("dir", User::Root, 0o755)?),
    ] {
        let check = |step: &str, seen: nix::Result<()>, right: nix::Result<()>| {
            place.check(format_args!("{what}: {step}"), seen, right);
        };
        check("set", set_xattr(&path, "user.one", b"value", 0), Ok(()));
        place.check(format_args!("{what}: read"), get_xattr(&path, "user.one", 99), Ok(b"value".to_vec()));
        place.check(format_args!("{what}: its length"), xattr_len(&path, "user.one"), Ok(5));
        check("set anew", set_xattr(&path, "user.one", b"\0\xff\n", 0), Ok(()));
        place.check(format_args!("{what}: any byte"), get_xattr(&path, "user.one", 99), {
            Ok(b"\0\xff\n".to_vec())
        });
        let (create, replace) = (libc::XATTR_CREATE, libc::XATTR_REPLACE);
        check("CREATE of one there is", set_xattr(&path, "user.one", b"", create), Err(Errno::EEXIST));
        check("REPLACE of one there is not", set_xattr(&path, "user.two", b"", replace), Err(Errno::ENODATA));
        check("CREATE", set_xattr(&path, "user.two", b"2", create), Ok(()));
        check("REPLACE", set_xattr(&path, "user.two", b"", replace), Ok(()));
        place.check(format_args!("{what}: an empty one"), get_xattr(&path, "user.two", 9), Ok(Vec::new()));
        let users: Vec<String> =
            list_xattr(&path, 4096)?.into_iter().filter(|name| name.starts_with("user.")).collect();
        place.check(format_args!("{what}: the list"), users, vec!["user.one".into(), "user.two".to_owned()]);
        check("removed", remove_xattr(&path, "user.one"), Ok(()));
        check("removed twice", remove_xattr(&path, "user.one"), Err(Errno::ENODATA));
        place.check(format_args!("{what}: gone"), get_xattr(&path, "user.one", 9), Err(Errno::ENODATA));
    }
    Ok(())
}

fn limits(place: &Place) -> Result<()> {
    let path = place.file("file", User::Root, 0o644)?;
    let long: Vec<u8> = (0..3000).map(|at| at as u8).collect();
    place.check("3,000 bytes", set_xattr(&path, "user.long", &long, 0), Ok(()));
    place.check("all of them", get_xattr(&path, "user.long", 4096), Ok(long));
    place.check("too little room", get_xattr(&path, "user.long", 100), Err(Errno::ERANGE));
    place.check("too little room for the list", list_xattr(&path, 3).map(drop), Err(Errno::ERANGE));
    place.check("64 KiB and one", set_xattr(&path, "user.huge", &[1; 65_537], 0), Err(Errno::E2BIG));
    let name = format!("user.{}", "n".repeat(250));
    place.check("a name of 255 bytes", set_xattr(&path, &name, b"v", 0), Ok(()));
    place.check("its value", get_xattr(&path, &name, 9), Ok(b"v".to_vec()));
    place.check("a name of 256", set_xattr(&path, &format!("{name}n"), b"v", 0), Err(Errno::ERANGE));
    place.check("no name", set_xattr(&path, "user.", b"v", 0), Err(Errno::EINVAL));
    place.check("an unknown space", set_xattr(&path, "foreign.x", b"v", 0), Err(Errno::EOPNOTSUPP));
    Ok(())
}

fn by_permission(place: &Place) -> Result<()> {
    let path = place.file("file", User::Alice, 0o644)?;
    let closed = place.file("closed", User::Alice, 0o600)?;
    set_xattr(&path, "user.x", b"v", 0)?;
    set_xattr(&closed, "user.x", b"v", 0)?;
    let seen = User::Bob.does_all(|| {
        vec![
            get_xattr(&path, "user.x", 9).map(|value| value.len() as i64),
            set_xattr(&path, "user.x", b"w", 0).map(|()| 0),
            remove_xattr(&path, "user.x").map(|()| 0),
            get_xattr(&closed, "user.x", 9).map(|value| value.len() as i64),
        ]
    });
    let no = Err(Errno::EACCES);
    place.check("another who may read: get set remove; who may not: get", seen, vec![Ok(1), no, no, no]);
    let seen = User::Alice.does_all(|| {
        vec![
            set_xattr(&path, "user.x", b"w", 0).map(|()| 0),
            set_xattr(&path, "trusted.x", b"w", 0).map(|()| 0),
            get_xattr(&path, "trusted.x", 9).map(|_| 0),
        ]
    });
    place.check(
        "the owner: set; trusted: set get",
        seen,
        vec![Ok(0), Err(Errno::EPERM), Err(Errno::ENODATA)],
    );
    place.check("a trusted one by root", set_xattr(&path, "trusted.x", b"t", 0), Ok(()));
    let hidden = User::Alice.does(|| get_xattr(&path, "trusted.x", 9).map(|value| value.len() as i64));
    place.check("which others do not see", hidden, Err(Errno::ENODATA));
    place.check(
        "nor in the list",
        User::Alice.does(|| {
            list_xattr(&path, 4096)
                .map(|names| i64::from(names.iter().any(|name| name.starts_with("trusted."))))
        }),
        Ok(0),
    );
    ops::chmod_to(&path, 0o400)?;
    let seen = User::Alice.does(|| set_xattr(&path, "user.x", b"z", 0).map(|()| 0));
    place.check("the owner of a file that may not be written", seen, Err(Errno::EACCES));
    Ok(())
}
