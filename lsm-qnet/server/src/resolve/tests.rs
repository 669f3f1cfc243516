//! Paths below an export made for the test, and in the machine's own `/proc`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::export::ExportError;
use crate::selection::Only;

fn export() -> (TempDir, Export) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
    fs::write(dir.path().join("a/b/f"), "x").unwrap();
    let export = Export::open(dir.path()).unwrap();
    (dir, export)
}

fn ino(found: &Found) -> u64 {
    sys::statx(found.fd.as_fd(), true).unwrap().stx_ino
}

/// Resolves by one system call where possible, and step by step; both must agree.
fn both_ways(export: &Export, path: &str, follow: bool) -> Result<u64, Errno> {
    let at_once = resolve(export, path.as_bytes(), follow).map(|found| ino(&found));
    let walked = Walk::new(export, path.as_bytes(), follow, None).run().map(|found| ino(&found));
    assert_eq!(at_once, walked, "{path}");
    walked
}

fn real(dir: &TempDir, path: &str) -> Result<u64, Errno> {
    use std::os::unix::fs::MetadataExt;
    Ok(fs::metadata(dir.path().join(path)).unwrap().ino())
}

#[test]
fn walking_step_by_step_finds_what_the_kernel_finds() {
    let (dir, export) = export();
    for (path, means) in [
        ("", ""),
        ("/", ""),
        (".", ""),
        ("..", ""),
        ("a", "a"),
        ("//a//./b/", "a/b"),
        ("a/b/f", "a/b/f"),
        ("a/b/c/../f", "a/b/f"),
        ("../../a/../../a/b", "a/b"),
    ] {
        assert_eq!(both_ways(&export, path, true), real(&dir, means), "{path}");
    }
    for (path, errno) in [
        ("x", Errno::ENOENT),
        ("a/x/..", Errno::ENOENT),
        ("a/b/f/", Errno::ENOTDIR),
        ("a/b/f/.", Errno::ENOTDIR),
        ("a/b/f/..", Errno::ENOTDIR),
        ("a/b/f/g", Errno::ENOTDIR),
    ] {
        assert_eq!(both_ways(&export, path, true), Err(errno), "{path}");
    }
}

#[test]
fn links_lead_where_they_lead_inside_the_export() {
    let (dir, export) = export();
    let link = |target: &str, name: &str| symlink(target, dir.path().join(name)).unwrap();
    link("b/f", "a/to-f");
    link("/a/b", "to-b");
    link("../../../..", "a/to-root");
    link("/etc/passwd", "outside");
    link("a/b/", "slash");
    link("ring", "ring");
    for (path, means) in [
        ("a/to-f", "a/b/f"),
        ("to-b/f", "a/b/f"),
        ("to-b/../to-f", "a/b/f"),
        ("a/to-root/a/to-root/to-b", "a/b"),
        ("slash", "a/b"),
        ("slash/c/..", "a/b"),
    ] {
        assert_eq!(both_ways(&export, path, true), real(&dir, means), "{path}");
    }
    assert_eq!(both_ways(&export, "outside", true), Err(Errno::ENOENT));
    assert_eq!(both_ways(&export, "ring", true), Err(Errno::ELOOP));
    assert_eq!(both_ways(&export, "ring/x", false), Err(Errno::ELOOP));
    let link = resolve(&export, b"to-b", false).unwrap();
    assert_eq!(read_link(link.fd.as_fd()).unwrap(), b"/a/b");
    assert_eq!(both_ways(&export, "to-b/", false), real(&dir, "a/b"), "a slash follows");
}

#[test]
fn forty_links_are_the_limit() {
    let (dir, export) = export();
    for n in 0..50 {
        symlink(if n == 0 { "a".into() } else { format!("l{}", n - 1) }, dir.path().join(format!("l{n}")))
            .unwrap();
    }
    assert_eq!(both_ways(&export, "l39", true), real(&dir, "a"));
    assert_eq!(both_ways(&export, "l40", true), Err(Errno::ELOOP));
}

#[test]
fn paths_that_cannot_be_are_refused() {
    let (_dir, export) = export();
    assert_eq!(both_ways(&export, &"n".repeat(256), true), Err(Errno::ENAMETOOLONG));
    assert_eq!(resolve(&export, &[b'/'; PATH_MAX], true).unwrap_err(), Errno::ENAMETOOLONG);
    assert_eq!(resolve(&export, b"a\0b", true).unwrap_err(), Errno::EINVAL);
    // any other byte may stand in a name
    assert_eq!(resolve(&export, b"\xff\x01\n", true).unwrap_err(), Errno::ENOENT);
}

#[test]
fn places_in_proc_are_told_apart() {
    let export = Export::open(Path::new("/")).unwrap();
    let place = |path: &str| resolve(&export, path.as_bytes(), true).map(|found| found.place);
    let own = std::process::id();
    assert_eq!(place("proc"), Ok(Place::ProcRoot));
    assert_eq!(place("proc/meminfo"), Ok(Place::ProcPart));
    assert_eq!(place("proc/sys/kernel"), Ok(Place::ProcPart));
    assert_eq!(place("proc/net/dev"), Ok(Place::ProcPart));
    assert_eq!(place("proc/1/status"), Ok(Place::Process));
    assert_eq!(place(&format!("proc/{own}")), Ok(Place::OwnProcess));
    assert_eq!(place(&format!("proc/{own}/status")), Err(Errno::EACCES));
    assert_eq!(place(&format!("proc/{}", nix::unistd::gettid())), Ok(Place::OwnProcess));
    assert_eq!(place("proc/self"), Err(Errno::ENOENT));
}

#[test]
fn directories_that_must_not_be_exported_are_refused() {
    for path in ["/proc/self", "/proc/self/fd", "/proc/sys"] {
        assert!(matches!(Export::open(Path::new(path)), Err(ExportError::Forbidden { .. })), "{path}");
    }
    let missing = Export::open(Path::new("/no such directory")).unwrap_err();
    assert!(missing.to_string().contains("/no such directory"), "{missing}");
    assert!(matches!(Export::open(Path::new("/etc/passwd")), Err(ExportError::Open { .. })));
}

#[test]
fn of_several_served_directories_only_the_way_to_them_exists() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    for inner in ["one/deep", "two/x", "three"] {
        fs::create_dir_all(base.join(inner)).unwrap();
    }
    fs::write(base.join("one/deep/f"), "x").unwrap();
    symlink(base.join("three"), base.join("one/to-three")).unwrap();
    symlink("../two/x", base.join("one/to-two")).unwrap();
    symlink("deep/f", base.join("one/to-f")).unwrap();
    let only = |name: &str| Only { path: base.join(name), read_only: false };
    let export = Export::open_only(&[only("one"), only("two/x")]).unwrap();
    let find = |path: &str| resolve(&export, path.as_bytes(), true).map(|found| found.place);
    let at = |inner: &str| format!("{}/{inner}", base.display());
    for inner in ["one/deep/f", "one/to-f", "two/x", "one/to-two", "one/deep/../../two/x", "one/.."] {
        assert!(find(&at(inner)).is_ok(), "{inner}");
    }
    for inner in ["three", "one/to-three", "two/y", "one/../three", "one/nothing"] {
        assert_eq!(find(&at(inner)), Err(Errno::ENOENT), "{inner}");
    }
    assert_eq!(find("/etc"), Err(Errno::ENOENT));
    assert_eq!(find("/proc/1"), Err(Errno::ENOENT));
    assert!(matches!(find("/"), Ok(Place::Above(_))));
    assert!(matches!(find(&at("two")), Ok(Place::Above(_))));
    let names = export.names(find(&at("")).unwrap()).unwrap();
    assert_eq!(names, [b"one".to_vec(), b"two".to_vec()]);
    let wrong = Export::open_only(&[only("one"), only("one/deep")]).unwrap_err();
    assert!(wrong.to_string().contains("one/deep: lies in"), "{wrong}");
    assert!(Export::open_only(&[only("nothing")]).is_err());
}

#[test]
fn a_guard_is_asked_of_the_directory_of_the_last_name_and_of_no_other() {
    let (dir, export) = export();
    fs::write(dir.path().join("f"), "above").unwrap();
    for (name, target) in [("near", "f"), ("above", "../../f"), ("far", "/a/b/c"), ("a/way", "b")] {
        let place =
            if name.contains('/') { dir.path().join(name) } else { dir.path().join("a/b").join(name) };
        symlink(target, place).unwrap();
    }
    let whole = Export::open(Path::new("/")).unwrap();
    let guard_of = |export: &Export, path: &str| {
        let found = sys::statx(resolve(export, path.as_bytes(), true).unwrap().fd.as_fd(), true).unwrap();
        qnet_iomsg::filesys::guard((found.stx_dev_major, found.stx_dev_minor), found.stx_ino)
    };
    for (export, path, directory) in [
        (&export, "a", ""),
        (&export, "a/b/f", "a/b"),
        (&export, "a/way/c/", "a/b"),
        // links that lead away, and mount points
        (&export, "a/b/near", "a/b"),
        (&export, "a/way/above", "a/b"),
        (&export, "a/b/far", "a/b"),
        (&whole, "proc", ""),
        (&whole, "proc/sys/kernel", "proc/sys"),
        (&whole, "dev/null", "dev"),
    ] {
        let guarded = |guard, follow| {
            resolve_guarded(export, path.as_bytes(), guard, follow).map(|found| (ino(&found), found.place))
        };
        let guard = guard_of(export, directory);
        for follow in [false, true] {
            let plain = resolve(export, path.as_bytes(), follow).map(|found| (ino(&found), found.place));
            assert_eq!(guarded(guard, follow), plain, "{path} {follow}");
            assert!(plain.is_ok(), "{path}");
            let walked = Walk::new(export, path.as_bytes(), follow, Some(guard)).run();
            assert_eq!(walked.map(|found| (ino(&found), found.place)), plain, "{path} {follow} step by step");
            assert_eq!(guarded(guard ^ 1, follow), Err(Errno::ESTALE), "{path}");
            let walked = Walk::new(export, path.as_bytes(), follow, Some(guard ^ 1)).run();
            assert_eq!(walked.map(|found| ino(&found)), Err(Errno::ESTALE), "{path} step by step");
        }
    }
    assert_eq!(resolve_guarded(&export, b"a/..", 1, true).map(|found| ino(&found)), Err(Errno::EINVAL));
}
