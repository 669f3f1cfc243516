//! What a case works with: a place of its own, users, kinds of files, and `check`, which writes down what was seen.
//!
//! ```text
//!  ok   <tab> case: what was checked
//!  not  <tab> case: what was checked <tab> what Linux does <tab> what was seen
//! ```
//!
//! The process that runs the cases has one thread, so that a child can become another user.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fmt::{Debug, Display};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use system_tests::sys::{Child, Outcome};

/// A test of one thing. An error is one in setting it up.
pub(crate) type Case = (&'static str, fn(&Place) -> Result<()>);

/// Somebody who uses files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    /// May everything.
    Root,
    /// Owns most files of the cases.
    Alice,
    /// Somebody else.
    Bob,
    /// Somebody else, with Alice's group among her supplementary ones.
    Carol,
}

impl User {
    /// All but root.
    pub(crate) const PEOPLE: [Self; 3] = [Self::Alice, Self::Bob, Self::Carol];

    /// User id and group id, which are the same number.
    pub(crate) const fn id(self) -> u32 {
        match self {
            Self::Root => 0,
            Self::Alice => 2001,
            Self::Bob => 2002,
            Self::Carol => 2003,
        }
    }

    fn identity(self) -> (u32, u32, &'static [u32]) {
        const ALICES: &[u32] = &[User::Alice.id()];
        (self.id(), self.id(), if self == Self::Carol { ALICES } else { &[] })
    }

    /// Does one thing as this user.
    pub(crate) fn does(self, work: impl FnOnce() -> Outcome) -> Outcome {
        let results = self.does_all(|| vec![work()]);
        results.into_iter().next().unwrap_or(Err(nix::errno::Errno::ECHILD))
    }

    /// Does several things as this user, in one process.
    pub(crate) fn does_all(self, work: impl FnOnce() -> Vec<Outcome>) -> Vec<Outcome> {
        let results = self.starts(work).and_then(Child::results);
        results.unwrap_or_else(|error| panic!("a child of {self:?}: {error:#}"))
    }

    /// Starts doing something as this user.
    pub(crate) fn starts(self, work: impl FnOnce() -> Vec<Outcome>) -> Result<Child> {
        Child::start(self.identity(), work)
    }
}

/// What may be found under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file with a few bytes.
    File,
    /// An empty directory.
    Dir,
    /// A directory with something in it.
    Full,
    /// A symbolic link to a file.
    Link,
    /// A symbolic link to nothing.
    Dangling,
    /// A FIFO.
    Fifo,
    /// Nothing.
    Missing,
}

impl Kind {
    /// All of them, in the order of the tables.
    pub(crate) const ALL: [Self; 7] =
        [Self::File, Self::Dir, Self::Full, Self::Link, Self::Dangling, Self::Fifo, Self::Missing];

    /// Makes one at `path`, by root; what a link points to is beside it.
    pub(crate) fn make(self, path: &Path) -> Result<()> {
        let beside = |ending: &str| {
            let mut name = path.file_name().unwrap_or_default().to_owned();
            name.push(ending);
            name
        };
        match self {
            Self::File => fs::write(path, "some bytes")?,
            Self::Dir => fs::create_dir(path)?,
            Self::Full => {
                fs::create_dir(path)?;
                fs::write(path.join("inside"), "")?;
            }
            Self::Link => {
                let target = beside(".target");
                fs::write(path.with_file_name(&target), "some bytes")?;
                symlink(target, path)?;
            }
            Self::Dangling => symlink(beside(".nothing"), path)?,
            Self::Fifo => mkfifo(path, Mode::from_bits_truncate(0o644))?,
            Self::Missing => {}
        }
        Ok(())
    }
}

/// Runs cases below a directory, each in a place of its own, and prints what they find.
pub(crate) fn run(below: &Path, cases: &[Case]) -> Result<()> {
    fs::create_dir_all(below).with_context(|| below.display().to_string())?;
    fs::set_permissions(below, Permissions::from_mode(0o777))?;
    for (number, (name, case)) in cases.iter().enumerate() {
        let path = below.join(format!("{number}"));
        let place = Place { name, path, checks: Cell::new(0) };
        let outcome = catch_unwind(AssertUnwindSafe(|| -> Result<()> {
            fs::create_dir(&place.path)?;
            fs::set_permissions(&place.path, Permissions::from_mode(0o777))?;
            case(&place)
        }));
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => place.say("can be set up", &"yes", &format!("{error:#}")),
            Err(_) => place.say("can be set up", &"yes", &"a panic"),
        }
        if place.checks.get() == 0 {
            place.say("checks something", &"yes", &"no");
        }
    }
    println!("end");
    Ok(())
}

/// Where a case runs: an empty directory that everybody may use.
#[derive(Debug)]
pub(crate) struct Place {
    name: &'static str,
    path: PathBuf,
    checks: Cell<usize>,
}

impl Place {
    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A name in the directory.
    pub(crate) fn at(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.path.join(name.as_ref())
    }

    /// A file of `owner` with these permissions and ten bytes.
    pub(crate) fn file(&self, name: &str, owner: User, mode: u32) -> Result<PathBuf> {
        let path = self.at(name);
        fs::write(&path, "0123456789")?;
        give(&path, owner, mode)?;
        Ok(path)
    }

    /// An empty directory of `owner` with these permissions.
    pub(crate) fn dir(&self, name: &str, owner: User, mode: u32) -> Result<PathBuf> {
        let path = self.at(name);
        fs::create_dir(&path)?;
        give(&path, owner, mode)?;
        Ok(path)
    }

    /// A file that is open for reading and writing.
    pub(crate) fn open(&self, name: &str, bytes: &[u8]) -> Result<(PathBuf, File)> {
        let path = self.at(name);
        fs::write(&path, bytes)?;
        let file = File::options().read(true).write(true).open(&path)?;
        Ok((path, file))
    }

    /// Writes down whether `seen` is what Linux does.
    pub(crate) fn check<T: PartialEq + Debug>(&self, what: impl Display, seen: T, right: T) {
        self.checks.set(self.checks.get() + 1);
        if seen == right {
            println!("ok\t{}: {what}", self.name);
        } else {
            self.say(what, &right, &seen);
        }
    }

    fn say(&self, what: impl Display, right: &dyn Debug, seen: &dyn Debug) {
        self.checks.set(self.checks.get() + 1);
        println!("not\t{}: {what}\t{right:?}\t{seen:?}", self.name);
    }
}

/// Makes a file somebody's.
pub(crate) fn give(path: &Path, owner: User, mode: u32) -> Result<()> {
    std::os::unix::fs::lchown(path, Some(owner.id()), Some(owner.id()))?;
    // After the owner: a change of it takes set-id bits away.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    Ok(())
}

/// The error of an operation of the standard library as a number.
pub(crate) fn errno<T>(result: std::io::Result<T>) -> nix::Result<T> {
    result.map_err(|error| nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
}
