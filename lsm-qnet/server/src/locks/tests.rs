//! Owners against each other and against this process, with the kernel as the judge.

use std::fs::{File, OpenOptions};
use std::path::Path;

use qnet_iomsg::filesys::lock::END;
use tempfile::NamedTempFile;

use super::*;

/// An open of a file, as a connection has it. Fields go in their order: the locks before the descriptor.
struct Opened {
    locks: OpenLocks,
    file: File,
}

impl Opened {
    fn with(table: &Arc<LockTable>, path: &Path, options: &OpenOptions) -> Self {
        Self { locks: OpenLocks::new(table, 7), file: options.open(path).unwrap() }
    }

    fn new(table: &Arc<LockTable>, path: &Path) -> Self {
        Self::with(table, path, OpenOptions::new().read(true).write(true))
    }

    fn ask(&self, request: Request) -> Result<Option<Holder>, Denied> {
        self.locks.carry_out(self.file.as_fd(), &request)
    }

    /// The errno, or 0.
    fn errno(&self, request: Request) -> i32 {
        match self.ask(request) {
            Ok(_) => 0,
            Err(Denied::Errno(errno)) => errno as i32,
            Err(Denied::Wait(_)) => -1,
        }
    }

    fn holder(&self, request: Request) -> Holder {
        self.ask(Request { verb: Verb::Test, ..request }).unwrap().unwrap()
    }
}

fn lock(owner: u64, kind: Kind, start: u64, end: u64) -> Request {
    Request {
        verb: Verb::Set,
        scope: Scope::Owner,
        kind,
        mount: 1,
        owner,
        pid: 100 + owner as u32,
        start,
        end,
    }
}

fn waiting(request: Request) -> Request {
    Request { verb: Verb::Wait, ..request }
}

const RELEASE: Verb = Verb::Release;

#[test]
fn owners_exclude_each_other_through_one_open_and_through_several() {
    let (table, file) = (Arc::default(), NamedTempFile::new().unwrap());
    let (one, two) = (Opened::new(&table, file.path()), Opened::new(&table, file.path()));
    assert_eq!(one.errno(lock(1, Kind::Write, 0, 9)), 0);
    assert_eq!(two.errno(lock(2, Kind::Read, 9, 9)), libc::EAGAIN);
    assert_eq!(one.errno(lock(2, Kind::Read, 9, 9)), libc::EAGAIN, "a child with the open of its parent");
    assert_eq!(two.errno(lock(1, Kind::Write, 5, 14)), 0, "an owner is never in its own way");
    assert_eq!(one.errno(lock(2, Kind::Write, 15, END)), 0);
    let found = two.holder(lock(3, Kind::Read, 0, END));
    assert_eq!(found, Holder { kind: Kind::Write, pid: 101, start: 0, end: 14 });
    let found = two.holder(Request { mount: 7, ..lock(1, Kind::Read, 20, 20) });
    assert_eq!(found, Holder { kind: Kind::Write, pid: 0, start: 15, end: END }, "of another mount");
}

#[test]
fn a_lock_of_this_process_keeps_remote_owners_out_and_theirs_keep_it_out() {
    let (table, file) = (Arc::default(), NamedTempFile::new().unwrap());
    let (remote, local) = (Opened::new(&table, file.path()), file.reopen().unwrap());
    let ours = |start, end, kind| sys::set(local.as_fd(), Span { start, end }, kind);
    ours(0, 9, Kind::Write).unwrap();
    assert_eq!(remote.errno(lock(1, Kind::Read, 0, 0)), libc::EAGAIN);
    let found = remote.holder(lock(1, Kind::Read, 0, END));
    assert_eq!(found, Holder { kind: Kind::Write, pid: 0, start: 0, end: 9 });
    ours(0, 9, Kind::Unlock).unwrap();
    assert_eq!(remote.errno(lock(1, Kind::Write, 0, END)), 0);
    assert_eq!(ours(100, 100, Kind::Read), Err(Errno::EAGAIN));
    assert_eq!(remote.errno(lock(1, Kind::Unlock, 50, 150)), 0);
    assert_eq!((ours(100, 100, Kind::Write), ours(151, 151, Kind::Read)), (Ok(()), Err(Errno::EAGAIN)));
}

#[test]
fn closing_lets_go_of_what_was_locked_through_that_open() {
    let (table, file) = (Arc::default(), NamedTempFile::new().unwrap());
    let (one, two, other) = (
        Opened::new(&table, file.path()),
        Opened::new(&table, file.path()),
        Opened::new(&table, file.path()),
    );
    assert_eq!((one.errno(lock(1, Kind::Write, 0, 9)), two.errno(lock(2, Kind::Write, 20, 29))), (0, 0));
    drop(one);
    assert!(!table.take_freed().is_empty(), "those who wait are told");
    assert_eq!(other.errno(lock(3, Kind::Write, 0, 9)), 0);
    assert_eq!(other.errno(lock(3, Kind::Write, 20, 29)), libc::EAGAIN);
    assert_eq!(two.errno(Request { verb: RELEASE, ..lock(2, Kind::Unlock, 0, END) }), 0);
    assert_eq!(other.errno(lock(3, Kind::Write, 20, 29)), 0, "a process lets go with any close");
    drop((two, other));
    assert!(locked(&table.files).is_empty(), "nothing is kept of a file that nobody has open");
}

#[test]
fn an_owner_keeps_its_locks_while_one_of_its_opens_is_left() {
    let (table, file) = (Arc::default(), NamedTempFile::new().unwrap());
    let (one, two, other) = (
        Opened::new(&table, file.path()),
        Opened::new(&table, file.path()),
        Opened::new(&table, file.path()),
    );
    assert_eq!((one.errno(lock(1, Kind::Write, 0, 9)), two.errno(lock(1, Kind::Write, 20, 29))), (0, 0));
    drop(one);
    assert_eq!(other.errno(lock(2, Kind::Write, 0, 9)), libc::EAGAIN);
    drop(two);
    assert_eq!(other.errno(lock(2, Kind::Write, 0, END)), 0);
}

#[test]
fn read_locks_move_to_a_description_that_may_be_written() {
    let (table, file) = (Arc::default(), NamedTempFile::new().unwrap());
    let reader = Opened::with(&table, file.path(), OpenOptions::new().read(true));
    let (both, other) = (Opened::new(&table, file.path()), Opened::new(&table, file.path()));
    assert_eq!(reader.errno(lock(1, Kind::Read, 0, 99)), 0);
    assert_eq!(reader.errno(lock(2, Kind::Write, 200, 200)), libc::EBADF);
    assert_eq!(both.errno(lock(1, Kind::Write, 10, 19)), 0);
    assert_eq!(other.errno(lock(2, Kind::Write, 5, 5)), libc::EAGAIN);
    assert_eq!(other.errno(lock(2, Kind::Read, 5, 5)), 0);
    assert_eq!(other.errno(lock(2, Kind::Read, 10, 10)), libc::EAGAIN);
}

#[test]
fn who_may_only_write_can_read_lock_where_the_file_may_be_read() {
    let (table, file) = (Arc::default(), NamedTempFile::new().unwrap());
    let writer = Opened::with(&table, file.path(), OpenOptions::new().write(true));
    let reader = Opened::with(&table, file.path(), OpenOptions::new().read(true));
    assert_eq!((writer.errno(lock(1, Kind::Write, 0, 0)), reader.errno(lock(1, Kind::Read, 5, 5))), (0, 0));
}

#[test]
fn a_circle_of_owners_who_wait_is_a_deadlock() {
    let table = Arc::default();
    let files: Vec<_> = (0..3).map(|_| NamedTempFile::new().unwrap()).collect();
    let opens: Vec<_> = files.iter().map(|file| Opened::new(&table, file.path())).collect();
    for (owner, open) in opens.iter().enumerate() {
        assert_eq!(open.errno(lock(owner as u64, Kind::Write, 0, 0)), 0);
    }
    let first = opens[1].ask(waiting(lock(0, Kind::Write, 0, 0)));
    let second = opens[2].ask(waiting(lock(1, Kind::Read, 0, END)));
    assert!(matches!((&first, &second), (Err(Denied::Wait(_)), Err(Denied::Wait(_)))));
    assert_eq!(opens[0].errno(waiting(lock(2, Kind::Write, 0, 0))), libc::EDEADLK);
    drop(first);
    assert_eq!(opens[0].errno(waiting(lock(2, Kind::Write, 0, 0))), -1, "who gave up waits for nobody");
}

#[test]
fn a_crowd_cannot_make_the_search_for_deadlocks_long() {
    let table: Arc<LockTable> = Arc::default();
    let (near, far) = (NamedTempFile::new().unwrap(), NamedTempFile::new().unwrap());
    let (near, far) = (Opened::new(&table, near.path()), Opened::new(&table, far.path()));
    assert_eq!((near.errno(lock(1, Kind::Write, 0, 0)), far.errno(lock(2, Kind::Write, 0, 0))), (0, 0));
    let _first = far.ask(waiting(lock(1, Kind::Write, 0, 0))).unwrap_err();
    let (owner, span) = ((1, 2), Span { start: 0, end: 0 });
    let want = Want { owner, file: near.locks.file.get().unwrap().key, span, write: true };
    let found = |steps| table.is_deadlock(&locked(&table.wants), &want, Budget(steps));
    // one in the way, his wait, and the one in his way
    assert_eq!((found(2), found(3)), (false, true));
    // neither owners of other bytes nor their many ranges are free of charge
    for at in 0..640 {
        assert_eq!(near.errno(lock(3, Kind::Write, 100 + 2 * at, 100 + 2 * at)), 0);
    }
    for owner in 4..100 {
        assert_eq!(near.errno(lock(owner, Kind::Read, 10, 10)), 0);
    }
    let needed = 1 + 1 + 1 + (1 + 640 / 64) + 96;
    assert_eq!((found(needed - 1), found(needed)), (false, true));
}

#[test]
fn whole_files_are_locked_by_opens_and_not_by_owners() {
    let (table, file) = (Arc::default(), NamedTempFile::new().unwrap());
    let (one, two) = (Opened::new(&table, file.path()), Opened::new(&table, file.path()));
    let whole = |kind| Request { scope: Scope::Open, ..lock(1, kind, 0, END) };
    assert_eq!((one.errno(whole(Kind::Read)), two.errno(whole(Kind::Read))), (0, 0));
    assert_eq!(two.errno(whole(Kind::Write)), libc::EAGAIN);
    assert_eq!(two.errno(waiting(whole(Kind::Write))), -1);
    assert_eq!(two.errno(lock(2, Kind::Write, 0, END)), 0, "ranges are another matter");
    table.take_freed();
    drop(one);
    assert!(!table.take_freed().is_empty());
    assert_eq!(two.errno(whole(Kind::Write)), 0);
    let local = file.reopen().unwrap();
    assert_eq!(sys::whole(local.as_fd(), Kind::Read), Err(Errno::EAGAIN));
}

#[test]
fn one_owner_cannot_hold_ranges_without_end() {
    let (table, file) = (Arc::default(), NamedTempFile::new().unwrap());
    let open = Opened::new(&table, file.path());
    let result =
        (0..=limits::LOCK_RANGES_PER_OWNER as u64).map(|at| open.errno(lock(1, Kind::Write, 2 * at, 2 * at)));
    let refused: Vec<i32> = result.filter(|errno| *errno != 0).collect();
    assert_eq!(refused, [libc::ENOLCK]);
    assert_eq!(open.errno(lock(1, Kind::Unlock, 0, END)), 0);
    assert_eq!(open.errno(lock(1, Kind::Write, 0, END)), 0);
}

#[test]
fn one_node_cannot_hold_all_locks_and_what_goes_comes_back() {
    let (table, file): (Arc<LockTable>, _) = (Arc::default(), NamedTempFile::new().unwrap());
    let shares = Arc::clone(&table.shares);
    table.bound(100);
    let mut owners: Vec<_> = std::iter::from_fn(|| shares.owner(7).ok()).collect();
    assert_eq!(owners.len(), 75);
    let open = Opened::new(&table, file.path());
    assert_eq!(open.errno(lock(1, Kind::Read, 0, 0)), libc::ENOLCK);
    let others: Vec<_> = std::iter::from_fn(|| shares.owner(8).ok()).collect();
    assert_eq!(others.len(), 25);
    drop(others);
    owners.truncate(1);
    assert!(
        locked(&table.files).values().all(|file| locked(&file.owners).is_empty()),
        "nothing is left of who was refused"
    );
    owners[0].note(limits::LOCK_RANGES_PER_NODE - 2);
    assert_eq!(open.errno(lock(1, Kind::Write, 0, 9)), 0);
    assert_eq!(open.errno(lock(1, Kind::Write, 20, 29)), 0);
    assert_eq!(open.errno(lock(1, Kind::Write, 40, 49)), libc::ENOLCK);
    assert_eq!(open.errno(lock(1, Kind::Unlock, 5, 5)), libc::ENOLCK, "it would make one more");
    assert_eq!(open.errno(lock(1, Kind::Unlock, 0, 9)), 0);
    assert_eq!(open.errno(lock(1, Kind::Write, 40, 49)), 0);
    owners.clear();
    drop(open);
    assert_eq!(shares.nodes(), 0);
}
