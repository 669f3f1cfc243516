//! A hosts file: read at the start, and again whenever it has changed when somebody asks.
//!
//! At the start a missing file or a bad line is an error. Later it is a warning, and the last good text holds.

use std::{
    fs::{File, Metadata},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use io_pkt_sdk::Error;
use qnet_proto::{Domain, Fqnn, LinkAddr, hosts::Hosts};

/// Longest file in bytes; beyond it is a mistake.
const LONGEST: u64 = 16 << 20;

/// What tells a changed file from the one that was read: device, inode, size, time of change.
type Stamp = (u64, u64, u64, i64, i64);

/// A hosts file.
#[derive(Debug)]
pub(crate) struct HostsFile {
    path: PathBuf,
    domain: Domain,
    /// Of what was read last, or of what could not be.
    stamp: Option<Stamp>,
    hosts: Hosts,
}

impl HostsFile {
    /// Reads the file; hosts without a domain are of domain `domain`.
    ///
    /// # Errors
    /// The file cannot be read, or has a line that is none, which the sentence names.
    pub(crate) fn open(path: &Path, domain: &Domain) -> Result<Self, Error> {
        let mut file =
            Self { path: path.to_owned(), domain: domain.clone(), stamp: None, hosts: Hosts::default() };
        file.stamp = file.look();
        file.hosts = file.read().map_err(|text| Error::new(libc::EINVAL, format!("resolve=file: {text}")))?;
        tracing::debug!("{}: {} nodes", path.display(), file.hosts.len());
        Ok(file)
    }

    /// The node is of another domain, and so are the hosts without one.
    pub(crate) fn set_domain(&mut self, domain: &Domain) {
        if self.domain.as_str() != domain.as_str() {
            self.domain = domain.clone();
            // Whatever the file looks like, the next question reads it.
            self.stamp = None;
        }
    }

    /// The addresses of a node, as the file says now.
    pub(crate) fn find(&mut self, name: &Fqnn) -> Vec<LinkAddr> {
        let stamp = self.look();
        if stamp != self.stamp {
            self.stamp = stamp;
            match self.read() {
                Ok(hosts) => {
                    tracing::info!("{}: read again, {} nodes", self.path.display(), hosts.len());
                    self.hosts = hosts;
                }
                Err(text) => tracing::warn!("{text}; what it said before holds"),
            }
        }
        self.hosts.find(name).to_vec()
    }

    fn look(&self) -> Option<Stamp> {
        let stamp = |m: Metadata| (m.dev(), m.ino(), m.size(), m.mtime(), m.mtime_nsec());
        std::fs::metadata(&self.path).ok().map(stamp)
    }

    fn read(&self) -> Result<Hosts, String> {
        let shown = self.path.display();
        let mut text = String::new();
        let file = File::open(&self.path).map_err(|error| format!("{shown}: {error}"))?;
        file.take(LONGEST + 1).read_to_string(&mut text).map_err(|error| format!("{shown}: {error}"))?;
        if text.len() as u64 > LONGEST {
            return Err(format!("{shown}: is longer than {} MiB", LONGEST >> 20));
        }
        Hosts::parse(&text, &self.domain).map_err(|error| format!("{shown}, {error}"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn name(text: &str) -> Fqnn {
        Fqnn::parse(text, &Domain::default()).unwrap()
    }

    #[test]
    fn hosts_without_a_domain_follow_the_node_into_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        fs::write(&path, "joseph 2:0:0:0:0:1\nkarl.works 2:0:0:0:0:2\n").unwrap();
        let mut file = HostsFile::open(&path, &Domain::new("lab").unwrap()).unwrap();
        assert_eq!(file.find(&name("joseph.lab")).len(), 1);
        file.set_domain(&Domain::new("field").unwrap());
        assert_eq!(file.find(&name("joseph.field")), [LinkAddr::mac([2, 0, 0, 0, 0, 1])]);
        assert_eq!(file.find(&name("joseph.lab")), []);
        assert_eq!(file.find(&name("karl.works")).len(), 1);
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_spoilt_one_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        fs::write(&path, "joseph 2:0:0:0:0:1\n").unwrap();
        let mut file = HostsFile::open(&path, &Domain::default()).unwrap();
        assert_eq!(file.find(&name("joseph")), [LinkAddr::mac([2, 0, 0, 0, 0, 1])]);
        fs::write(&path, "joseph 2:0:0:0:0:2\nkarl 2:0:0:0:0:3\n").unwrap();
        assert_eq!(file.find(&name("joseph")), [LinkAddr::mac([2, 0, 0, 0, 0, 2])]);
        assert_eq!(file.find(&name("karl")), [LinkAddr::mac([2, 0, 0, 0, 0, 3])]);
        fs::write(&path, "joseph\n").unwrap();
        assert_eq!(file.find(&name("joseph")), [LinkAddr::mac([2, 0, 0, 0, 0, 2])]);
        fs::remove_file(&path).unwrap();
        assert_eq!(file.find(&name("karl")), [LinkAddr::mac([2, 0, 0, 0, 0, 3])]);
        fs::write(&path, "karl 2:0:0:0:0:4\n").unwrap();
        assert!(file.find(&name("joseph")).is_empty());
    }

    #[test]
    fn at_the_start_a_bad_line_is_named_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        let open = || HostsFile::open(&path, &Domain::default()).unwrap_err().text().to_owned();
        let shown = path.display();
        assert_eq!(open(), format!("resolve=file: {shown}: No such file or directory (os error 2)"));
        fs::write(&path, "a 2:0:0:0:0:1\nb nowhere\n").unwrap();
        let expected = "line 2: `nowhere` is no Ethernet address (xx:xx:xx:xx:xx:xx)";
        assert_eq!(open(), format!("resolve=file: {shown}, {expected}"));
    }
}
