//! Settings of a Linux interface that change while it is mounted, and the way back.
//!
//! Every former value is written to a small file below the node's root *before* the setting is changed, so that whoever
//! comes next can undo what a killed daemon left behind:
//!
//! ```text
//!  ROOT/packet-eth1.undo      interface eth1 7        name and number; a number that no longer fits means that the
//!                             mtu 1500                interface was made anew and has nothing to be undone
//!                             off                     it was switched off
//!                             features 1fffffff:a821… word by word: what can be changed, what was asked for
//! ```
//!
//! The file is locked while the interface is mounted: a locked file tells a second mount of the same interface that it
//! comes too late, an unlocked one was left by a dead daemon.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use io_pkt_sdk::{
    Error,
    linux::{Link, LinkWatch, device},
};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::stat::fstat,
};

use crate::sys::ethtool::{self, Features, OFFLOADS};

const PREFIX: &str = "packet-";
const SUFFIX: &str = ".undo";

/// A setting to put back.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Undo {
    /// The former payload size.
    Mtu(u32),
    /// The interface was switched off.
    Off,
    /// The features that were asked for, the offloads among them.
    Features(Vec<Features>),
}

/// The settings of one mounted interface. Dropping it puts them back.
#[derive(Debug)]
pub(crate) struct Settings {
    path: PathBuf,
    file: Flock<File>,
    name: String,
    index: i32,
    undo: Vec<Undo>,
}

impl Settings {
    /// Takes the interface for this use; nothing of it is changed yet.
    ///
    /// # Errors
    /// EBUSY when it is mounted already below this root, or the file's error.
    pub(crate) fn take(root: &str, link: &Link) -> Result<Self, Error> {
        let path = Path::new(root).join(format!("{PREFIX}{}{SUFFIX}", link.name));
        let file = lock(&path).map_err(|errno| match errno {
            Errno::EWOULDBLOCK => {
                Error::new(libc::EBUSY, format!("dev={}: the interface is mounted already", link.name))
            }
            errno => Error::os(format!("cannot keep {}", path.display()), &errno.into()),
        })?;
        let mut this = Self { path, file, name: link.name.clone(), index: link.index, undo: Vec::new() };
        this.write(&format!("interface {} {}\n", link.name, link.index));
        Ok(this)
    }

    /// Sets the payload size.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn set_mtu(&mut self, former: u32, mtu: u32) -> io::Result<()> {
        if former == mtu {
            return Ok(());
        }
        self.note(Undo::Mtu(former));
        device::set_mtu(&self.name, mtu)
    }

    /// Switches the interface on.
    ///
    /// # Errors
    /// What the kernel says; EPERM without CAP_NET_ADMIN.
    pub(crate) fn switch_on(&mut self) -> io::Result<()> {
        self.note(Undo::Off);
        device::set_up(&self.name, true).inspect_err(|_| {
            self.undo.pop();
        })
    }

    /// Switches off the offloads that are on; returns their names.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN. An interface that cannot switch one is no error: the driver copes with it.
    pub(crate) fn offloads_off(&mut self) -> io::Result<Vec<&'static str>> {
        let on = OFFLOADS.into_iter().filter(|offload| ethtool::is_on(&self.name, *offload) == Some(true));
        let on: Vec<_> = on.collect();
        if on.is_empty() {
            return Ok(Vec::new());
        }
        // Each command switches a group of features; only the kernel's own list says which of them were on.
        let Some(features) = ethtool::features(&self.name) else { return Ok(Vec::new()) };
        self.note(Undo::Features(features));
        let mut switched = Vec::new();
        for offload in on {
            match ethtool::switch(&self.name, offload, false) {
                Ok(()) => switched.push(offload.name),
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                    self.undo.pop();
                    return Err(error);
                }
                Err(error) => tracing::debug!("{}: {} stays on: {error}", self.name, offload.name),
            }
        }
        Ok(switched)
    }

    /// Remembers a way back, on disk first.
    fn note(&mut self, undo: Undo) {
        self.write(&format!("{}\n", line(&undo)));
        self.undo.push(undo);
    }

    /// A full disk must not keep the interface from being used; only a crash would then leave a trace.
    fn write(&mut self, text: &str) {
        if let Err(error) = self.file.write_all(text.as_bytes()) {
            tracing::warn!("{}: {error}; after a crash {} stays changed", self.path.display(), self.name);
        }
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        // It may have another name by now.
        if let Some(name) = present_name(self.index) {
            put_back(&name, &self.undo);
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!("{}: {error}", self.path.display());
        }
    }
}

/// Undoes what daemons left below `root` that ended without doing so themselves. Returns the interfaces concerned.
pub(crate) fn put_back_leftovers(root: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let ours = names.filter(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
    ours.filter_map(|name| put_back_leftover(&Path::new(root).join(name))).collect()
}

/// Undoes what one file says, unless its writer lives.
fn put_back_leftover(path: &Path) -> Option<String> {
    let mut file = OpenOptions::new().read(true).write(true).open(path).ok()?;
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()?;
    let (name, index, undo) = parse(&text)?;
    // After a restart of the machine the number may be that of something else.
    if present_name(index).as_ref() == Some(&name) {
        put_back(&name, &undo);
    }
    let _ = fs::remove_file(path);
    drop(file);
    Some(name)
}

/// Creates and locks the file. A file that its last holder removes in between is left for a new one.
fn lock(path: &Path) -> Result<Flock<File>, Errno> {
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
        let held = fstat(file.as_fd())?;
        if fs::metadata(path).is_ok_and(|named| named.ino() == held.st_ino && named.dev() == held.st_dev) {
            file.set_len(0).map_err(|_| Errno::EIO)?;
            return Ok(file);
        }
    }
}

/// Puts settings back, the last one first.
fn put_back(name: &str, undo: &[Undo]) {
    for undo in undo.iter().rev() {
        let outcome = match undo {
            Undo::Mtu(mtu) => device::set_mtu(name, *mtu),
            Undo::Off => device::set_up(name, false),
            Undo::Features(features) => ethtool::set_features(name, features),
        };
        if let Err(error) = outcome {
            tracing::warn!("{name}: cannot put back {}: {error}", line(undo));
        }
    }
}

/// What the interface of this number is called now.
fn present_name(index: i32) -> Option<String> {
    let link = LinkWatch::open().and_then(|mut links| links.by_index(index)).ok()?;
    link.map(|link| link.name)
}

fn line(undo: &Undo) -> String {
    match undo {
        Undo::Mtu(mtu) => format!("mtu {mtu}"),
        Undo::Off => "off".to_owned(),
        Undo::Features(words) => {
            let words = words.iter().map(|word| format!(" {:08x}:{:08x}", word.changeable, word.wanted));
            format!("features{}", words.collect::<String>())
        }
    }
}

/// Reads the file back. A line that was cut by a crash, or that is not known, ends it.
fn parse(text: &str) -> Option<(String, i32, Vec<Undo>)> {
    let mut lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let mut head = lines.next()?.strip_prefix("interface ")?.split(' ');
    let (name, index) = (head.next()?.to_owned(), head.next()?.parse().ok()?);
    let undo = lines.map_while(|line| match line.split_once(' ') {
        None if line == "off" => Some(Undo::Off),
        Some(("mtu", mtu)) => mtu.parse().ok().map(Undo::Mtu),
        Some(("features", words)) => parse_features(words).map(Undo::Features),
        _ => None,
    });
    let undo = undo.collect();
    Some((name, index, undo))
}

fn parse_features(words: &str) -> Option<Vec<Features>> {
    let word = |word: &str| {
        let (changeable, wanted) = word.split_once(':')?;
        let number = |text| u32::from_str_radix(text, 16).ok();
        Some(Features { changeable: number(changeable)?, wanted: number(wanted)? })
    };
    words.split(' ').map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let word = |changeable, wanted| Features { changeable, wanted };
        let undo =
            [Undo::Mtu(1500), Undo::Off, Undo::Features(vec![word(0x1fff_ffff, 0xa821), word(0, u32::MAX)])];
        let text: String = undo.iter().map(|undo| line(undo) + "\n").collect();
        let read = parse(&format!("interface eth1 7\n{text}")).expect("it is whole");
        assert_eq!(read, ("eth1".to_owned(), 7, undo.to_vec()));
    }

    #[test]
    fn a_file_cut_by_a_crash_gives_what_is_whole() {
        let read = parse("interface eth1 7\nmtu 1500\nfeatures 1fff").expect("the head is whole");
        assert_eq!(read.2, [Undo::Mtu(1500)]);
        assert_eq!(parse("interface eth1 7"), None);
        assert_eq!(parse(""), None);
        assert_eq!(parse("something else\n"), None);
    }

    #[test]
    fn a_held_file_is_busy_and_a_left_one_is_not() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path().to_str().expect("a plain path");
        let link = Link { name: "no-such-if".to_owned(), index: i32::MAX, ..Link::default() };
        let held = Settings::take(root, &link).expect("nobody has it");
        assert_eq!(Settings::take(root, &link).expect_err("held").errno(), libc::EBUSY);
        assert!(put_back_leftovers(root).is_empty(), "its holder lives");
        drop(held);
        assert!(Settings::take(root, &link).is_ok());
        fs::write(Path::new(root).join("packet-gone0.undo"), "interface gone0 99999\noff\n")
            .expect("written");
        assert_eq!(put_back_leftovers(root), ["gone0"]);
        assert_eq!(fs::read_dir(root).expect("it is there").count(), 0);
    }
}
