//! What the drivers of a dead daemon changed in the system is put back by the same drivers.
//!
//! A driver that changes settings of a device keeps a locked file `DRIVER-DEVICE.undo` in the root, and undoes what
//! unlocked ones say whenever a use of it is made. So a start that finds such a file makes a use for that device and drops
//! it: nothing is opened, and the daemon need not know what the file says.

use std::{
    fs::{self, File},
    path::Path,
};

use io_pkt_host::{Kind, options};
use nix::fcntl::{Flock, FlockArg};

use super::{ModuleFile, MountError, Registry};

impl Registry {
    /// Lets drivers put back what dead daemons below this root have left changed. What cannot be put back is warned of.
    pub fn put_back_leftovers(&mut self) {
        for (driver, device) in leftovers(self.identity.root.dir()) {
            if let Err(error) = self.put_back(&driver, &device) {
                tracing::warn!("{device} stays as a dead io-pkt has left it: {error}");
            }
        }
    }

    fn put_back(&mut self, driver: &str, device: &str) -> Result<(), MountError> {
        let build = self.load(Kind::Driver, ModuleFile::Named(driver.to_owned()))?;
        let accepted = build.accept(&options::parse(&format!("dev={device}")))?;
        let context = self.context(&build, device, 0)?;
        let made = self.create(&build, device, &accepted, &context);
        let outcome = made.map(drop);
        self.release(&context);
        Ok(outcome?)
    }
}

/// Driver and device of every such file that nobody holds.
fn leftovers(root: &Path) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let left = entries.flatten().filter(|entry| is_left(&entry.path()));
    let names = left.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| parse(&name).map(|(driver, device)| (driver.into(), device.into()))).collect()
}

fn parse(name: &str) -> Option<(&str, &str)> {
    let (driver, device) = name.strip_suffix(".undo")?.split_once('-')?;
    let plain = |word: &str| !word.is_empty() && !word.contains([',', '=']);
    (plain(device) && driver.chars().all(|c| c.is_ascii_lowercase()) && !driver.is_empty())
        .then_some((driver, device))
}

/// True when no living process has the file locked.
fn is_left(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "undo")
        && File::open(path).is_ok_and(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_living_daemons_and_of_others_are_no_leftovers() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "packet-eth1.undo",
            "packet-br-lan.undo",
            "packet-eth2.undo",
            "packet-.undo",
            "x.undo",
            "io-pkt0.pid",
        ] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let held = File::open(dir.path().join("packet-eth2.undo")).unwrap();
        let _held = Flock::lock(held, FlockArg::LockExclusiveNonblock).unwrap();
        let mut found = leftovers(dir.path());
        found.sort();
        let pair = |device: &str| ("packet".to_owned(), device.to_owned());
        assert_eq!(found, [pair("br-lan"), pair("eth1")]);
    }
}
