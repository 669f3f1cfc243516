//! Locks: ranges of bytes by process (POSIX) and by open file (OFD), whole files (flock).

use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::Result;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};

use crate::suite::{Case, Place, User};
use system_tests::sys::Outcome;

pub(crate) const CASES: &[Case] = &[
    ("locks of ranges", ranges),
    ("locks go with the process", go_with_the_process),
    ("locks go with any close", go_with_any_close),
    ("locks that wait", waiting),
    ("locks of open files", open_files),
    ("locks of whole files", whole_files),
];

fn lock(kind: i32, start: i64, len: i64) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: start, l_len: len, l_pid: 0 }
}

/// Tries to take or give back a lock of a range.
fn set(file: &File, kind: i32, start: i64, len: i64) -> nix::Result<()> {
    fcntl(file, FcntlArg::F_SETLK(&lock(kind, start, len))).map(drop)
}

/// Which lock is in the way of one: its kind, start, length and owner.
fn who(file: &File, kind: i32, start: i64, len: i64) -> nix::Result<(i16, i64, i64, i32)> {
    let mut asked = lock(kind, start, len);
    fcntl(file, FcntlArg::F_GETLK(&mut asked))?;
    Ok((asked.l_type, asked.l_start, asked.l_len, asked.l_pid))
}

fn open(path: &Path) -> nix::Result<File> {
    crate::suite::errno(File::options().read(true).write(true).open(path))
}

/// What another process gets when it tries a lock.
fn other(path: &Path, kind: i32, start: i64, len: i64) -> Outcome {
    User::Root.does(|| open(path).and_then(|file| set(&file, kind, start, len)).map(|()| 0))
}

const BUSY: Outcome = Err(Errno::EAGAIN);

fn ranges(place: &Place) -> Result<()> {
    let (path, file) = place.open("file", &[0; 100])?;
    place.check("taken", set(&file, libc::F_WRLCK, 10, 20), Ok(()));
    place.check("by another, the same", other(&path, libc::F_WRLCK, 10, 20), BUSY);
    place.check("by another, its last byte", other(&path, libc::F_RDLCK, 29, 1), BUSY);
    place.check("by another, beside it", other(&path, libc::F_WRLCK, 30, 5), Ok(0));
    place.check("by another, all of the file", other(&path, libc::F_RDLCK, 0, 0), BUSY);
    place.check("by the same process", set(&file, libc::F_WRLCK, 15, 50), Ok(()));
    place.check("a part given back", set(&file, libc::F_UNLCK, 20, 10), Ok(()));
    place.check("by another, that part", other(&path, libc::F_WRLCK, 20, 10), Ok(0));
    place.check("by another, before it", other(&path, libc::F_WRLCK, 19, 1), BUSY);
    place.check("made a lock for readers", set(&file, libc::F_RDLCK, 0, 100), Ok(()));
    place.check("another reader", other(&path, libc::F_RDLCK, 50, 5), Ok(0));
    place.check("another writer", other(&path, libc::F_WRLCK, 50, 5), BUSY);
    place.check("behind four GiB", set(&file, libc::F_WRLCK, 5 << 30, 1 << 40), Ok(()));
    place.check("by another, there", other(&path, libc::F_WRLCK, (5 << 30) + (1 << 39), 1), BUSY);
    place.check("by another, before there", other(&path, libc::F_WRLCK, (5 << 30) - 1, 1), Ok(0));
    let ours = std::process::id() as i32;
    let told = User::Root.does_all(|| match open(&path).and_then(|file| who(&file, libc::F_WRLCK, 40, 1)) {
        Ok((kind, start, len, pid)) => [i64::from(kind), start, len, i64::from(pid)].map(Ok).to_vec(),
        Err(errno) => vec![Err(errno)],
    });
    let right = [i64::from(libc::F_RDLCK), 0, 100, i64::from(ours)].map(Ok).to_vec();
    place.check("who has it", told, right);
    place.check("nothing is in one's own way", who(&file, libc::F_WRLCK, 40, 1).map(|found| found.0), {
        Ok(libc::F_UNLCK as i16)
    });
    let reader = File::open(&path)?;
    place.check("a writer's by a reader", set(&reader, libc::F_WRLCK, 0, 1), Err(Errno::EBADF));
    place.check("given back", set(&file, libc::F_UNLCK, 0, 0), Ok(()));
    place.check("by another then", other(&path, libc::F_WRLCK, 0, 0), Ok(0));
    Ok(())
}

fn go_with_the_process(place: &Place) -> Result<()> {
    let (path, file) = place.open("file", &[0; 100])?;
    // It ends with the lock and does not give it back.
    let taken = User::Root.does(|| {
        let file = open(&path)?;
        set(&file, libc::F_WRLCK, 0, 0)?;
        std::mem::forget(file);
        Ok(0)
    });
    place.check("taken by one that ended", taken, Ok(0));
    place.check("free again", set(&file, libc::F_WRLCK, 0, 0), Ok(()));
    Ok(())
}

fn go_with_any_close(place: &Place) -> Result<()> {
    let (path, file) = place.open("file", &[0; 100])?;
    set(&file, libc::F_WRLCK, 0, 10)?;
    drop(File::open(&path)?);
    place.check(
        "the process closed the file by another descriptor",
        other(&path, libc::F_WRLCK, 0, 10),
        Ok(0),
    );
    Ok(())
}

fn waiting(place: &Place) -> Result<()> {
    let (path, file) = place.open("file", &[0; 100])?;
    set(&file, libc::F_WRLCK, 0, 10)?;
    let wait = User::Root.starts(|| {
        let taken = open(&path)
            .and_then(|file| fcntl(&file, FcntlArg::F_SETLKW(&lock(libc::F_WRLCK, 5, 1))).map(|_| file));
        // What was written before the lock was given back is there when it is taken.
        vec![taken.and_then(|file| crate::ops::read_from(&file, 5, 1)).map(|bytes| i64::from(bytes[0]))]
    })?;
    // The other one waits when the kernel says that its process sleeps in the lock; it may not be there yet.
    nix::sys::uio::pwrite(&file, b"!", 5)?;
    place.check("given back", set(&file, libc::F_UNLCK, 0, 10), Ok(()));
    place.check("taken by the one that waited", wait.results()?, vec![Ok(i64::from(b'!'))]);
    // Who waits for ever ends by a signal.
    set(&file, libc::F_WRLCK, 0, 10)?;
    let wait = User::Root.starts(|| {
        let outcome =
            open(&path).and_then(|file| fcntl(&file, FcntlArg::F_SETLKW(&lock(libc::F_WRLCK, 5, 1))));
        vec![outcome.map(i64::from)]
    })?;
    nix::sys::signal::kill(wait.pid(), nix::sys::signal::Signal::SIGKILL)?;
    place.check("who is killed got nothing", wait.results()?, Vec::new());
    place.check("a lock of the same range is still ours", other(&path, libc::F_WRLCK, 5, 1), BUSY);
    Ok(())
}

fn open_files(place: &Place) -> Result<()> {
    let (path, one) = place.open("file", &[0; 100])?;
    let two = open(&path)?;
    let take = |file: &File, kind| fcntl(file, FcntlArg::F_OFD_SETLK(&lock(kind, 0, 10))).map(drop);
    place.check("taken", take(&one, libc::F_WRLCK), Ok(()));
    place.check("by another descriptor of the same process", take(&two, libc::F_WRLCK), Err(Errno::EAGAIN));
    place.check("by another process", other(&path, libc::F_WRLCK, 5, 1), BUSY);
    let copy = one.try_clone()?;
    drop(one);
    place.check("while a copy of the descriptor is open", take(&two, libc::F_WRLCK), Err(Errno::EAGAIN));
    drop(copy);
    let free = system_tests::eventually("the lock", || take(&two, libc::F_WRLCK).is_ok());
    place.check("after the last close", free.is_ok(), true);
    Ok(())
}

fn whole_files(place: &Place) -> Result<()> {
    let (path, one) = place.open("file", b"x")?;
    let two = open(&path)?;
    let busy = |outcome: Result<(), TryLockError>| matches!(outcome, Err(TryLockError::WouldBlock));
    place.check("taken", one.try_lock().is_ok(), true);
    place.check("by another descriptor", busy(two.try_lock()), true);
    place.check("for readers by another descriptor", busy(two.try_lock_shared()), true);
    place.check("made one for readers", one.try_lock_shared().is_ok(), true);
    place.check("another reader", two.try_lock_shared().is_ok(), true);
    place.check("no writer meanwhile", busy(one.try_lock()), true);
    place.check("given back", (one.unlock().is_ok(), two.unlock().is_ok()), (true, true));
    place.check("a writer then", one.try_lock().is_ok(), true);
    let theirs = User::Root.does(|| Ok(i64::from(open(&path)?.try_lock().is_ok())));
    place.check("not by another process", theirs, Ok(0));
    drop(one);
    // The last close of a descriptor is told to another node when close(2) has returned.
    let free = system_tests::eventually("the lock", || two.try_lock().is_ok());
    place.check("after the last close", free.is_ok(), true);
    Ok(())
}
