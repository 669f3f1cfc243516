//! One keeps pages, whoever comes in whichever order; and what is a local program of this node and what is us.

use std::fs::File;
use std::path::Path;
use std::thread;

use super::*;

const HERE: Cache = Cache { nd: 7, pid: 1 };
const THERE: Cache = Cache { nd: 8, pid: 1 };
const WRITER: By = By { cache: HERE, writes: true, keeps: true };

/// A file and who has it open.
struct Rig {
    _dir: tempfile::TempDir,
    path: std::path::PathBuf,
    opens: Arc<Opens>,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        File::create(&path).unwrap();
        Self { _dir: dir, path, opens: Arc::default() }
    }

    fn open(&self, cache: Cache, writes: bool) -> (OwnedFd, Use) {
        let key = sys::file_key(local(&self.path, false).as_fd()).unwrap();
        self.opens
            .open(key, By { cache, writes, keeps: true }, || Ok(local(&self.path, writes).into()))
            .unwrap()
    }

    fn keeps(&self, cache: Cache, writes: bool) -> bool {
        self.open(cache, writes).1.keeps_pages()
    }
}

fn local(path: &Path, writes: bool) -> File {
    File::options().read(true).write(writes).open(path).unwrap()
}

#[test]
fn of_those_who_write_the_first_keeps_pages() {
    let rig = Rig::new();
    let first = rig.open(HERE, true);
    assert!(first.1.keeps_pages());
    assert!(!rig.keeps(THERE, true) && !rig.keeps(THERE, false));
    assert!(!rig.keeps(Cache { pid: 2, ..HERE }, true), "another mount of the same node");
    assert!(rig.keeps(HERE, true) && rig.keeps(HERE, false), "its own node's programs share them");
}

#[test]
fn readers_keep_pages_of_what_nobody_writes() {
    let rig = Rig::new();
    let readers = [rig.open(HERE, false), rig.open(THERE, false)];
    assert!(readers.iter().all(|(_, booked)| booked.keeps_pages()));
    assert!(!rig.keeps(HERE, true), "the others have pages");
    let [_, there] = readers;
    drop(there);
    assert!(rig.keeps(HERE, true));
}

#[test]
fn who_stays_keeps_pages_of_what_he_opens_when_the_first_has_gone() {
    let rig = Rig::new();
    let first = rig.open(HERE, true);
    let second = rig.open(THERE, true);
    assert!(!second.1.keeps_pages());
    drop(first);
    let again = rig.open(THERE, true);
    assert!(again.1.keeps_pages());
    assert!(!rig.keeps(HERE, true));
    drop((second, again));
    assert!(rig.opens.files.lock().unwrap().is_empty());
}

#[test]
fn who_only_appends_is_in_nobodys_way() {
    let rig = Rig::new();
    let key = sys::file_key(local(&rig.path, false).as_fd()).unwrap();
    let by = By { keeps: false, ..WRITER };
    let appender = rig.opens.open(key, by, || Ok(local(&rig.path, true).into())).unwrap();
    assert!(!appender.1.keeps_pages());
    assert!(rig.keeps(THERE, false) && rig.keeps(THERE, true));
}

#[test]
fn nobody_meets_a_lease_after_it_was_asked_for() {
    let rig = Rig::new();
    let path = rig.path.clone();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    std::fs::set_permissions(path.parent().unwrap(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let asked = thread::spawn(move || {
        // as somebody else, where this process may become one
        let own = sys::thread_identity().unwrap();
        let mut switcher = crate::identity::Switcher::new(own).unwrap();
        let _ = switcher.become_identity(&crate::identity::Identity::nobody());
        for writes in [false, true, true] {
            let file = local(&path, writes);
            assert!(!sys::is_open_elsewhere(file.as_fd(), writes).unwrap_or_default());
            let mut options = File::options();
            let options =
                std::os::unix::fs::OpenOptionsExt::custom_flags(options.write(true), libc::O_NONBLOCK);
            options.open(&path).expect("nobody has a lease");
        }
    });
    asked.join().unwrap();
}

#[test]
fn local_programs_come_first() {
    let rig = Rig::new();
    let writer = local(&rig.path, true);
    assert!(!rig.keeps(HERE, true) && !rig.keeps(HERE, false));
    drop(writer);
    assert!(rig.keeps(HERE, true));
    let reader = local(&rig.path, false);
    assert!(rig.keeps(HERE, false), "he sees what is written");
    drop(reader);
}

#[test]
fn what_is_just_being_made_here_is_not_taken_for_a_local_programs() {
    for _ in 0..200 {
        let rig = Rig::new();
        std::fs::remove_file(&rig.path).unwrap();
        let device = sys::file_key(local(rig.path.parent().unwrap(), false).as_fd()).unwrap().0;
        let make = || File::options().read(true).write(true).create_new(true).open(&rig.path);
        thread::scope(|scope| {
            let maker =
                scope.spawn(|| rig.opens.make((WRITER, device), || Ok(make().unwrap().into())).unwrap());
            // as soon as the name is there, whether or not its maker has come any further
            let file = loop {
                if let Ok(file) = File::options().read(true).write(true).open(&rig.path) {
                    break file;
                }
            };
            let key = sys::file_key(file.as_fd()).unwrap();
            let (_fd, booked) = rig.opens.open(key, WRITER, || Ok(file.into())).unwrap();
            assert!(booked.keeps_pages());
            assert!(maker.join().unwrap().1.keeps_pages());
        });
        assert!(rig.opens.files.lock().unwrap().is_empty());
        assert!(rig.opens.making.lock().unwrap().known.is_empty());
    }
}

#[test]
fn who_opens_a_file_waits_for_none_that_is_made_on_another_device() {
    let opens = Opens::default();
    let hung = opens.begin_making(1);
    let made = opens.begin_making(2);
    let may_become = |device, last| opens.making.lock().unwrap().may_become(device, last);
    assert!(may_become(1, made) && may_become(2, made));
    assert!(!may_become(3, made), "whatever hangs elsewhere");
    assert!(!may_become(2, hung), "what is begun later is not waited for");
    opens.end_making(made, None);
    assert!(!may_become(2, made) && may_become(1, made));
}

#[test]
fn what_cannot_be_opened_or_made_is_booked_nowhere() {
    let rig = Rig::new();
    let refused = || Err(Errno::EACCES);
    assert_eq!(rig.opens.open((1, 2), WRITER, refused).unwrap_err(), Errno::EACCES);
    assert_eq!(rig.opens.make((WRITER, 1), refused).unwrap_err(), Errno::EACCES);
    assert!(rig.opens.files.lock().unwrap().is_empty());
    assert!(rig.opens.making.lock().unwrap().unknown.is_empty());
}
