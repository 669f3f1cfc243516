//! Removes what dead owners left among the names of this node's channels, as soon as they are dead.
//!
//! An owner has the file of its name open for writing as long as it lives. When it ends, however it ends, the kernel closes
//! the file, which is an event in a directory that is watched; then every name is looked at. Nothing is done as long as
//! nobody dies, and no more than four times a second however many do.

use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use qnet_ipc::Root;
use qnet_ipc::names;

/// Directories that are watched; what dies in others goes with the next one that dies in one of these.
const MAX_WATCHED: usize = 1000;
/// Time between two looks: users may make as many events as they like.
const PAUSE: Duration = Duration::from_millis(250);

/// Begins; it goes on until the process ends.
///
/// # Errors
/// The kernel has no more watches for this user.
pub fn start(root: &Root) -> io::Result<()> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
    // The names of gns itself are directly in the first one.
    let bases = [root.names(), root.local_names(), root.offered_names()];
    watch(&inotify, &bases)?;
    thread::Builder::new().name("names".into()).spawn(move || run(&inotify, &bases))?;
    Ok(())
}

fn run(inotify: &Inotify, bases: &[PathBuf]) {
    loop {
        // After the watches were made: nobody dies unseen in between. A directory that cannot be watched is looked at.
        clear(bases);
        match inotify.read_events() {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => {
                tracing::warn!(target: crate::LOG, "names of dead processes stay until somebody looks: {errno}");
                return;
            }
        }
        // This looks at every name, too: who has just died is gone before the pause.
        let _unwatched = watch(inotify, bases);
        thread::sleep(PAUSE);
    }
}

/// Removes what the dead left; gives the directories that are left.
fn clear(bases: &[PathBuf]) -> Vec<PathBuf> {
    let below = |base: &PathBuf| {
        let left = names::clear(base, usize::MAX);
        left.into_iter().map(|directory| base.join(directory)).collect::<Vec<_>>()
    };
    // What is below the first one is not all names.
    bases.iter().skip(1).flat_map(below).chain(bases.first().cloned()).collect()
}

/// Watches all directories in which names are after [`clear`].
fn watch(inotify: &Inotify, bases: &[PathBuf]) -> io::Result<()> {
    // Files that were removed here, and are closed after that, are no news.
    let what = AddWatchFlags::from_bits_retain(libc::IN_EXCL_UNLINK)
        | AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_ONLYDIR
        | AddWatchFlags::IN_DONT_FOLLOW;
    for directory in clear(bases).iter().take(MAX_WATCHED) {
        match inotify.add_watch(directory, what) {
            // Gone again, or a global directory that nobody has made yet: its making is an event.
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
