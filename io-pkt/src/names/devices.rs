//! Device files: `/dev/io-net/en0` and its like.
//!
//! A number is taken by making the file exclusively, so it is unique on the node whatever the number of instances,
//! and the lowest free one is taken: a driver that is mounted again gets its number back. The content tells tools
//! which instance to ask (see [`ctl::DeviceFile`]).

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use ctl::{DeviceFile, Root};
use thiserror::Error;

/// Highest interface number tried.
const MAX_NUMBER: u32 = 9999;

/// Why a name was not given.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// The user asked for this number and it is in use.
    #[error("{name} is taken already{by}; leave out lan= for the lowest free number")]
    Taken {
        /// The name asked for.
        name: String,
        /// Who has it, when that can be read.
        by: String,
    },
    /// There is no free number.
    #[error("no free name from {prefix}0 to {prefix}{MAX_NUMBER}")]
    Exhausted {
        /// Prefix tried.
        prefix: String,
    },
    /// The prefix cannot be part of a file name.
    #[error("uptype={0}: a prefix has 1 to 15 letters or digits and ends with a letter")]
    BadPrefix(String),
    /// The file cannot be made.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
}

/// The directory of device files, as one instance uses it.
#[derive(Clone, Debug)]
pub struct DeviceDir {
    dir: PathBuf,
    instance: u32,
}

/// A name of ours. Dropping it removes the file.
#[derive(Debug)]
pub struct DeviceName {
    name: String,
    path: PathBuf,
    instance: u32,
}

impl DeviceDir {
    /// The directory below `root`, for that instance. Nothing is made yet.
    #[must_use]
    pub fn new(root: &Root, instance: u32) -> Self {
        Self { dir: root.devices(), instance }
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Makes the directory.
    ///
    /// # Errors
    /// As mkdir(2).
    pub fn make(&self) -> io::Result<()> {
        fs::create_dir_all(&self.dir)
    }

    /// Removes the directory, and the `dev` above it, when nothing is left in it; another instance's names keep it
    /// alive.
    pub fn remove_if_empty(&self) {
        // The usual failure is ENOTEMPTY (always so for /dev itself), and any other one changes nothing for us.
        let removed = fs::remove_dir(&self.dir).is_ok();
        if let Some(above) = self.dir.parent().filter(|_| removed) {
            let _ = fs::remove_dir(above);
        }
    }

    /// Takes the name `prefixN`: with N = `number`, or with the lowest free one.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn take(&self, prefix: &str, number: Option<u32>) -> Result<DeviceName, DeviceError> {
        let sound = prefix.len() <= 15
            && prefix.chars().all(|c| c.is_ascii_alphanumeric())
            && prefix.ends_with(|c: char| c.is_ascii_alphabetic());
        if !sound {
            return Err(DeviceError::BadPrefix(prefix.to_owned()));
        }
        match number {
            Some(number) => {
                let name = format!("{prefix}{number}");
                self.create(&name)?.ok_or_else(|| DeviceError::Taken { by: self.holder(&name), name })
            }
            None => {
                for number in 0..=MAX_NUMBER {
                    if let Some(taken) = self.create(&format!("{prefix}{number}"))? {
                        return Ok(taken);
                    }
                }
                Err(DeviceError::Exhausted { prefix: prefix.to_owned() })
            }
        }
    }

    /// Removes the files of instances that `dead` says are gone. Files that are not ours in kind are left alone.
    pub(super) fn sweep(&self, dead: impl Fn(u32) -> bool) -> Vec<String> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        let mut removed = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            let owner = if is_file { read(&entry.path()) } else { None };
            if owner.is_some_and(|file| dead(file.instance)) && fs::remove_file(entry.path()).is_ok() {
                removed.push(name);
            }
        }
        removed
    }

    /// Makes the file, `None` when it is there already.
    fn create(&self, name: &str) -> Result<Option<DeviceName>, DeviceError> {
        let path = self.dir.join(name);
        let open = || OpenOptions::new().write(true).create_new(true).mode(0o444).open(&path);
        // Another instance that ended may just have removed the directory, which was empty then.
        let opened = match open() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.make().and_then(|()| open()),
            other => other,
        };
        match opened {
            Ok(file) => {
                let taken = DeviceName { name: name.to_owned(), path, instance: self.instance };
                taken.fill(file, "", ctl::Mac::default(), "").map_err(|source| taken.failed(source))?;
                Ok(Some(taken))
            }
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(source) => Err(DeviceError::Io { path, source }),
        }
    }

    fn holder(&self, name: &str) -> String {
        match read(&self.dir.join(name)) {
            Some(file) => format!(" by {} (instance {}, pid {})", file.driver, file.instance, file.pid),
            None => String::new(),
        }
    }
}

impl DeviceName {
    /// The name without directory.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what is behind the name. Readers see the old line or the new one, never a mixture.
    ///
    /// # Errors
    /// As for any file.
    pub fn describe(&self, driver: &str, mac: ctl::Mac, device: &str) -> Result<(), DeviceError> {
        let draft = self.path.with_file_name(format!(".{}.{}", self.name, std::process::id()));
        let write = || {
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o444).open(&draft)?;
            self.fill(file, driver, mac, device)?;
            fs::rename(&draft, &self.path)
        };
        write().map_err(|source| self.failed(source))
    }

    fn fill(&self, mut file: File, driver: &str, mac: ctl::Mac, device: &str) -> io::Result<()> {
        let driver = if driver.is_empty() { "-" } else { driver };
        let line = DeviceFile {
            instance: self.instance,
            pid: std::process::id(),
            driver: driver.to_owned(),
            mac,
            device: device.to_owned(),
        };
        file.write_all(line.to_string().as_bytes())
    }

    fn failed(&self, source: io::Error) -> DeviceError {
        DeviceError::Io { path: self.path.clone(), source }
    }
}

impl Drop for DeviceName {
    fn drop(&mut self) {
        // Somebody else may have removed it already; then there is nothing to do.
        let _ = fs::remove_file(&self.path);
    }
}

fn read(path: &Path) -> Option<DeviceFile> {
    fs::read_to_string(path).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn devices() -> (tempfile::TempDir, DeviceDir, DeviceDir) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::at(dir.path());
        let (zero, one) = (DeviceDir::new(&root, 0), DeviceDir::new(&root, 1));
        zero.make().unwrap();
        (dir, zero, one)
    }

    #[test]
    fn the_lowest_free_number_is_taken_across_instances() {
        let (_dir, zero, one) = devices();
        let first = zero.take("en", None).unwrap();
        let second = one.take("en", None).unwrap();
        assert_eq!((first.name(), second.name()), ("en0", "en1"));
        drop(first);
        assert_eq!(one.take("en", None).unwrap().name(), "en0");
        assert_eq!(zero.take("bridge", None).unwrap().name(), "bridge0");
    }

    #[test]
    fn the_directory_is_made_again_when_another_instance_removed_it() {
        let (_dir, zero, one) = devices();
        one.remove_if_empty();
        assert!(!zero.path().exists());
        assert_eq!(zero.take("en", None).unwrap().name(), "en0");
    }

    #[test]
    fn a_taken_number_is_refused_with_its_holder() {
        let (_dir, zero, one) = devices();
        let held = zero.take("en", Some(3)).unwrap();
        held.describe("devn-tap", ctl::Mac::default(), "tap0").unwrap();
        let error = one.take("en", Some(3)).unwrap_err().to_string();
        assert!(error.contains("en3 is taken already by devn-tap (instance 0, pid "), "{error}");
    }

    #[test]
    fn the_file_tells_what_is_behind_it_and_goes_with_the_name() {
        let (_dir, zero, _) = devices();
        let name = zero.take("en", None).unwrap();
        name.describe("devn-packet", ctl::Mac([2, 0, 0, 0, 0, 7]), "eth1").unwrap();
        let file = read(name.path()).unwrap();
        assert_eq!((file.instance, file.device.as_str(), file.mac.0[5]), (0, "eth1", 7));
        assert_eq!(fs::metadata(name.path()).unwrap().permissions().mode() & 0o777, 0o444);
        let path = name.path().to_owned();
        drop(name);
        assert!(!path.exists());
        zero.remove_if_empty();
        assert!(!zero.path().exists());
    }

    #[test]
    fn strange_prefixes_are_refused() {
        let (_dir, zero, _) = devices();
        for prefix in ["", "../en", "e n", "en1", "averyverylongprefix"] {
            assert!(matches!(zero.take(prefix, None), Err(DeviceError::BadPrefix(_))), "{prefix}");
        }
    }

    #[test]
    fn files_of_dead_instances_are_swept_and_foreign_ones_kept() {
        let (_dir, zero, one) = devices();
        std::mem::forget((zero.take("en", None).unwrap(), one.take("en", None).unwrap()));
        fs::write(zero.path().join("readme"), "not ours").unwrap();
        assert_eq!(zero.sweep(|instance| instance == 1), ["en1"]);
        assert!(zero.path().join("en0").exists() && zero.path().join("readme").exists());
    }
}
