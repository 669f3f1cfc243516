//! What a remote caller may send to `qnet-server`: a CONNECT, or messages on a file that is open, carried out.
//!
//! The first byte says what the rest is, and whether the caller has room for little or much. The export is a directory with a file, a
//! directory, a link and a FIFO, of which the caller may change nothing: whatever the message, it is answered, in the room that
//! there is, or put aside, and the file is as it was.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use qnet_server::export::Export;
use qnet_server::file::{Cancel, OpenFile, Opener};
use qnet_server::identity::Identity;
use qnet_server::opens::Cache;
use qnet_server::request::{Outcome, Request, Work};
use qnet_server::resolve::resolve;
use qnet_server::sys;

const CONTENT: &str = "0123456789";
const FILES: [&str; 2] = ["file", "fifo"];
/// `IOFLAG_READ`: for reading.
const READ: u32 = 1;

thread_local! {
    static PLACE: Option<Place> = Place::new();
}

/// The directory that is exported, for as long as its thread runs.
struct Place {
    path: PathBuf,
    export: Export,
}

impl Place {
    fn new() -> Option<Self> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        // one who opens a file of which another thread asks for a lease just waits, as in the program itself
        sys::ignore_signals_of_files().ok()?;
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("fuzz-server-{}-{number}", std::process::id()));
        // what a process of the same number has left
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("directory")).ok()?;
        std::fs::write(path.join("file"), CONTENT).ok()?;
        std::os::unix::fs::symlink("directory/../file", path.join("link")).ok()?;
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o644);
        nix::unistd::mkfifo(&path.join("fifo"), mode).ok()?;
        let export = Export::open(Path::new(&path)).ok()?;
        Some(Self { path, export })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // what stays is in nobody's way
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Carries the message out.
pub(super) fn run(data: &[u8]) {
    PLACE.with(|place| place.iter().for_each(|place| carry_out(place, data)));
}

fn carry_out(place: &Place, data: &[u8]) {
    let Some((&what, message)) = data.split_first() else { return };
    let room = if what & 0x80 == 0 { 300 } else { 70_000 };
    let message = message.to_vec();
    let work = match FILES.get(usize::from(what & 3)) {
        None => Work::Connect { message, source: None },
        Some(name) => match open(&place.export, name) {
            Some(file) => Work::File { message, file: Arc::clone(&file), source: Some(file) },
            None => return,
        },
    };
    let mut request = Request {
        identity: Arc::new(Identity::nobody()),
        work,
        room,
        may_change: false,
        cache: cache(),
        cancel: Arc::default(),
        spent: Vec::new(),
    };
    let mut out = Vec::new();
    let _ = request.is_idempotent();
    if let Outcome::Done(_) | Outcome::Opened(..) = request.run(&place.export, &mut out) {
        assert!(out.len() <= room, "{} bytes for {room}", out.len());
    }
    let left = std::fs::read(place.path.join("file"));
    assert!(left.is_ok_and(|left| left == CONTENT.as_bytes()), "the file is another one");
}

fn open(export: &Export, name: &str) -> Option<Arc<OpenFile>> {
    let found = resolve(export, name.as_bytes(), true).ok()?;
    let opener = Opener { identity: Arc::new(Identity::nobody()), may_change: false, cache: cache() };
    OpenFile::open(export, found, READ, opener, &Cancel::default()).ok().map(Arc::new)
}

fn cache() -> Cache {
    Cache { nd: 7, pid: 1 }
}
