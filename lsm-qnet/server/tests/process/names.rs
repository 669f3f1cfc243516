//! `/dev/name`: names of living owners, and where they lead.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::time::Instant;

use nix::unistd::geteuid;
use qnet_iomsg::connect::{FTYPE_ANY, FTYPE_NAME};
use qnet_iomsg::redirect::{self, Entry};
use qnet_iomsg::{Connect, Subtype};
use qnet_ipc::Root;
use qnet_ipc::names::{self, HeldName};

use crate::Case;
use crate::support::{NOBODY, Need, PATIENCE, Server, Start};

pub(crate) const CASES: &[Case] = &[
    ("names_of_living_owners_are_served", Need::Nothing, living),
    ("what_dead_owners_left_goes_when_they_die", Need::Nothing, kept),
    ("a_name_leads_to_its_channel", Need::Nothing, leads),
    ("a_global_name_leads_to_its_channel_or_to_the_gns", Need::Nothing, global),
    ("links_among_names_lead_nowhere", Need::Nothing, links),
    ("names_are_served_when_only_some_files_are", Need::Nothing, selection),
];

fn attach(root: &Root, name: &str, chid: i32) -> HeldName {
    names::make_local_directory(root).unwrap();
    names::attach(&root.local_names(), OsStr::new(name), chid).unwrap()
}

/// The user that remote callers are mapped to, where that is possible.
fn caller() -> u32 {
    if geteuid().is_root() { NOBODY } else { geteuid().as_raw() }
}

fn start(start: Start) -> (Server, u32, Root) {
    let root = Root::at(start.root()).unwrap();
    let mut server = start.start();
    let conn = if geteuid().is_root() { server.connect(caller()).unwrap() } else { server.connect_self() };
    (server, conn, root)
}

fn list(server: &mut Server, conn: u32, path: &str) -> Vec<String> {
    let entries = server.list(conn, path, 4096).unwrap();
    let mut names: Vec<String> =
        entries.into_iter().map(|(name, _)| String::from_utf8(name).unwrap()).collect();
    names.retain(|name| name != "." && name != "..");
    names.sort();
    names
}

fn servers(server: &mut Server, conn: u32, path: &str) -> Result<(Vec<Entry>, Vec<u8>), i32> {
    let message = Connect { file_type: FTYPE_NAME, ..Connect::new(Subtype::Open, path.as_bytes()) };
    let answer = server.call(conn, 1, &message.emit().unwrap(), 4096)?;
    assert_eq!(answer.status, redirect::STATUS_LINK);
    let (entries, rest) = redirect::parse(&answer.data).unwrap();
    Ok((entries, rest.to_vec()))
}

fn entry(chid: i32, file_type: u32) -> Entry {
    Entry { nd: 0, pid: std::process::id().cast_signed(), chid, handle: 0, file_type }
}

fn living() {
    let (mut server, conn, root) = start(Start::new());
    assert_eq!(list(&mut server, conn, "dev/name"), ["local"], "made at once, for everybody");
    assert!(list(&mut server, conn, "dev/name/local").is_empty());
    let held = attach(&root, "plant/valve", 3);
    fs::write(root.local_names().join("dead"), "pid 1 chid 1\n").unwrap();
    assert_eq!(list(&mut server, conn, "dev/name/local"), ["plant"]);
    assert_eq!(list(&mut server, conn, "dev//name/local/plant/"), ["valve"]);
    let line = format!("pid {} chid 3\n", std::process::id());
    assert_eq!(server.cat(conn, "dev/name/local/plant/valve").unwrap(), line.as_bytes());
    assert_eq!(server.stat(conn, "dev/name/local/dead"), Err(libc::ENOENT));
    assert_eq!(server.open(conn, "dev/name/local/dead"), Err(libc::ENOENT));
    drop(held);
    assert_eq!(server.stat(conn, "dev/name/local/plant/valve"), Err(libc::ENOENT));
    assert!(list(&mut server, conn, "dev/name/local").is_empty());
}

fn kept() {
    let start = Start::new();
    let root = Root::at(start.root()).unwrap();
    let base = root.local_names();
    names::make_local_directory(&root).unwrap();
    fs::create_dir(base.join("plant")).unwrap();
    fs::write(base.join("plant/before"), "pid 1 chid 1\n").unwrap();
    let (_server, _, root) = self::start(start);
    let gone = |path: &str| {
        let path = base.join(path);
        let end = Instant::now() + PATIENCE;
        while path.exists() {
            assert!(Instant::now() < end, "{} stays", path.display());
            std::thread::yield_now();
        }
    };
    gone("plant");
    let _living = attach(&root, "living", 4);
    let dying = attach(&root, "deep/below/dying", 3);
    // The kernel takes the lock away, and closes the file for writing, as when the process ends.
    drop(File::options().write(true).open(dying.path()).unwrap());
    gone("deep");
    assert!(base.join("living").exists());
}

fn leads() {
    let (mut server, conn, root) = start(Start::new());
    let held = attach(&root, "plant/valve", 3);
    let found = servers(&mut server, conn, "dev/name/local/plant/valve");
    assert_eq!(found.unwrap().0, [entry(3, FTYPE_NAME)]);
    assert_eq!(servers(&mut server, conn, "dev/name/local/plant"), Err(libc::EISDIR));
    assert_eq!(servers(&mut server, conn, "dev/name/local/plant/valve/x"), Err(libc::ENOTDIR));
    assert_eq!(servers(&mut server, conn, "dev/name/local/pump"), Err(libc::ENOENT));
    drop(held);
    assert_eq!(servers(&mut server, conn, "dev/name/local/plant/valve"), Err(libc::ENOENT));
}

fn global() {
    let (mut server, conn, root) = start(Start::new());
    names::make_offered_directory(&root).unwrap();
    let path = "dev/name/global/alarm";
    assert_eq!(servers(&mut server, conn, path), Err(libc::ENOENT));
    let offered = names::attach(&root.offered_names(), OsStr::new("alarm"), 4).unwrap();
    assert_eq!(servers(&mut server, conn, path).unwrap().0, [entry(4, FTYPE_NAME)]);
    fs::create_dir_all(root.global_names().join("alarm")).unwrap();
    assert_eq!(server.stat(conn, path), Err(libc::ENOENT), "nobody keeps that list");
    assert_eq!(list(&mut server, conn, "dev/name"), ["local"]);

    let _gns = names::attach(&root.names(), OsStr::new("gns_client"), 9).unwrap();
    assert_eq!(list(&mut server, conn, "dev/name"), ["global", "gns_client", "local"]);
    assert!(server.stat(conn, path).is_ok());
    assert_eq!(servers(&mut server, conn, path).unwrap().0, [entry(4, FTYPE_NAME)]);
    drop(offered);
    let (found, rest) = servers(&mut server, conn, path).unwrap();
    assert_eq!((found, rest), (vec![entry(9, FTYPE_ANY)], path.as_bytes().to_vec()));
    assert_eq!(server.stat(conn, "dev/name/.global"), Err(libc::ENOENT));
}

fn links() {
    let (mut server, conn, root) = start(Start::new());
    names::make_local_directory(&root).unwrap();
    symlink("/etc", root.local_names().join("link")).unwrap();
    symlink("/etc/passwd", root.local_names().join("file")).unwrap();
    assert_eq!(server.cat(conn, "dev/name/local/file"), Err(libc::ELOOP));
    assert_eq!(server.stat(conn, "dev/name/local/link/passwd"), Err(libc::ELOOP));
    assert_eq!(servers(&mut server, conn, "dev/name/local/file"), Err(libc::EISDIR), "not an entry");
}

fn selection() {
    let (mut server, conn, root) = start(Start::new().options(&["--only", "/usr/share"]));
    let _held = attach(&root, "valve", 1);
    assert_eq!(list(&mut server, conn, "dev/name/local"), ["valve"]);
    assert_eq!(server.stat(conn, "dev/null"), Err(libc::ENOENT));
}
