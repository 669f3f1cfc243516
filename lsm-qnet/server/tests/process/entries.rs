//! The attributes of several entries of a directory, in one round trip.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};

use qnet_iomsg::filesys::{EntryNames, Identity, Request, xattr};
use qnet_iomsg::stat::FLAG_BARE;
use qnet_iomsg::{Connect, Dirents, Link, Stat};

use crate::Case;
use crate::support::{NOBODY, Need, Result, Server, Start, public_dir};

pub(crate) const CASES: &[Case] = &[
    ("attributes_of_several_names_cost_one_round_trip", Need::Nothing, several_names),
    ("no_name_leads_out_of_its_directory", Need::Nothing, inside),
    ("entries_of_what_has_none_are_refused", Need::Nothing, refused),
    ("entries_without_extended_attributes_are_told_so", Need::Nothing, bare),
    ("names_are_told_to_who_may_search_their_directory", Need::Root, nobody),
];

/// What an entry of a reply says: its name's place in the request, its name, its attributes.
type Told = (u64, Vec<u8>, Stat);

fn ask(
    server: &mut Server,
    conn: u32,
    path: &str,
    names: &[u8],
    meant: Option<Identity>,
    room: u32,
) -> Result<Vec<Told>> {
    let mut chain = Vec::new();
    if let Some(meant) = meant {
        Request::Expect(meant).emit(Link::Follows, &mut chain);
    }
    Request::Entries(EntryNames::new(names).unwrap()).emit(Link::Last, &mut chain);
    let connect = Connect::combine_close(path.as_bytes(), false, &chain).emit().unwrap();
    let answer = server.call(conn, 0, &connect, room)?;
    assert_eq!(answer.status, answer.data.len() as i64);
    let told = |entry: qnet_iomsg::Dirent<'_>| (entry.next, entry.name.to_vec(), entry.stat.unwrap());
    Ok(Dirents::new(&answer.data).map(|entry| told(entry.unwrap())).collect())
}

fn several_names() {
    let dir = public_dir();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("d/one"), "12345").unwrap();
    symlink("one", dir.path().join("d/two")).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    let names = b"two\0none\0one\0";
    let told = ask(&mut server, conn, "d", names, None, 4096).unwrap();
    let found: Vec<_> = told.iter().map(|(place, name, stat)| (*place, &name[..], stat.size)).collect();
    assert_eq!(found, [(1, &b"two"[..], 3), (3, b"one", 5)], "what is not there is left out");
    let stat = server.stat(conn, "d/one").unwrap();
    let entry = Stat { flags: told[1].2.flags & !FLAG_BARE, ..told[1].2 };
    assert_eq!(entry, stat, "all that a look-up tells");

    let told = ask(&mut server, conn, "d", names, None, 300).unwrap();
    assert_eq!(told.len(), 1, "as many as there is room for");
    let directory = Identity::of(&server.stat(conn, "d").unwrap());
    assert_eq!(ask(&mut server, conn, "d", names, Some(directory), 4096).unwrap().len(), 2);
    let another = Identity { ino: directory.ino + 1, ..directory };
    assert_eq!(ask(&mut server, conn, "d", names, Some(another), 4096), Err(libc::ESTALE));
}

fn inside() {
    let dir = public_dir();
    fs::create_dir(dir.path().join("d")).unwrap();
    fs::write(dir.path().join("secret"), "").unwrap();
    let mut server = Start::new().export(&dir.path().join("d")).start();
    let conn = server.connect_owner();
    assert_eq!(ask(&mut server, conn, "", b"..\0.\0", None, 4096), Ok(vec![]));
    // A client of ours would not make this message.
    let names = [b'.', b'.', 0, b's', b'e', b'c', b'r', b'e', b't', 0];
    let mut message = Request::Entries(EntryNames::new(&names).unwrap()).to_bytes();
    let at = message.windows(3).position(|window| window == [b'.', b'.', 0]).unwrap();
    message[at + 2] = b'/';
    message[at - 4] = 1;
    let connect = Connect::combine_close(b"", false, &message).emit().unwrap();
    assert_eq!(server.call(conn, 0, &connect, 4096).err(), Some(libc::EBADMSG));
}

fn refused() {
    let dir = public_dir();
    fs::write(dir.path().join("f"), "").unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    assert_eq!(ask(&mut server, conn, "f", b"x\0", None, 4096), Err(libc::ENOTDIR));
    assert_eq!(ask(&mut server, conn, "none", b"x\0", None, 4096), Err(libc::ENOENT));
}

fn bare() {
    let dir = public_dir();
    for name in ["bare", "coloured", "d/x"] {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    symlink("bare", dir.path().join("link")).unwrap();
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect_owner();
    let mut attribute = |path: &str, request: &xattr::Request<'_>| {
        let connect = Connect::combine_close(path.as_bytes(), false, &request.emit()).emit().unwrap();
        server.call(conn, 0, &connect, 100).map(|answer| answer.data)
    };
    let set = xattr::Request::Set { name: b"user.colour", value: b"red", flags: 0 };
    attribute("coloured", &set).unwrap();
    let mut is_without =
        |name| attribute("bare", &xattr::Request::Get { name, size: 100 }).err() == Some(libc::ENODATA);
    // A file system without them, or a kernel that makes labels up, is asked for each file.
    let expected = is_without(b"security.selinux") && is_without(b"system.posix_acl_access");
    let told = ask(&mut server, conn, "", b"bare\0coloured\0d\0link\0", None, 4096).unwrap();
    let bare: Vec<_> = told.iter().map(|(_, _, stat)| stat.flags & FLAG_BARE != 0).collect();
    assert_eq!(bare, [expected, false, expected, false]);
}

fn nobody() {
    let dir = public_dir();
    for (name, mode) in [("open", 0o711), ("closed", 0o700)] {
        let below = dir.path().join(name);
        fs::create_dir(&below).unwrap();
        fs::write(below.join("f"), "").unwrap();
        fs::set_permissions(&below, Permissions::from_mode(mode)).unwrap();
    }
    let mut server = Start::new().export(dir.path()).start();
    let conn = server.connect(NOBODY).unwrap();
    assert_eq!(ask(&mut server, conn, "open", b"f\0", None, 4096).unwrap().len(), 1);
    assert_eq!(ask(&mut server, conn, "closed", b"f\0", None, 4096), Ok(vec![]));
}
