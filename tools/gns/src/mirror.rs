//! The global names as people see them, below `ROOT/dev/name/global`.
//!
//! ```text
//!  global/NAME/nd,pid,chid,0,12  ->  net/NODE/NAME      an instance: a link
//!  global/net/NODE/NAME                                 what NODE offers: a file of one line
//! ```
//!
//! Nothing reads them but people: a name is opened by asking the gns. They are made anew from what the gns knows, and go
//! when it ends.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use qnet::Netmgr;

use crate::table::{Known, is_node};

/// `_FTYPE_NAME`, the last number in the name of an instance.
const FTYPE_NAME: u32 = 12;

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    File(String),
    Link(PathBuf),
}

/// The directory, and what this gns made in it.
#[derive(Debug)]
pub(crate) struct Mirror {
    directory: PathBuf,
    made: BTreeMap<PathBuf, Node>,
}

impl Mirror {
    /// The directory, empty. A symbolic link in its place, to that of another node, is left alone and nothing is shown.
    ///
    /// # Errors
    /// What an earlier gns left cannot be removed, or the directory not be made.
    pub(crate) fn new(directory: PathBuf) -> io::Result<Self> {
        if !directory.is_symlink() {
            match fs::remove_dir_all(&directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => fs::create_dir_all(directory.join("net"))?,
            }
        }
        Ok(Self { directory, made: BTreeMap::new() })
    }

    /// Shows these names, and no others. Node numbers are this node's.
    ///
    /// # Errors
    /// Those of making files; the next call tries again.
    pub(crate) fn show(
        &mut self,
        all: impl IntoIterator<Item = Known>,
        netmgr: Option<&Netmgr>,
    ) -> io::Result<()> {
        if self.directory.is_symlink() {
            return Ok(());
        }
        let mut numbers = BTreeMap::new();
        let mut wanted = BTreeMap::new();
        for known in all {
            let number = *numbers.entry(known.node.clone()).or_insert_with(|| number(&known.node, netmgr));
            wanted.extend(number.into_iter().flat_map(|nd| nodes(nd, &known)));
        }
        let gone: Vec<PathBuf> = self
            .made
            .iter()
            .filter(|(path, node)| wanted.get(*path) != Some(node))
            .map(|(path, _)| path.clone())
            .collect();
        for path in gone {
            let _gone = fs::remove_file(self.directory.join(&path));
            self.made.remove(&path);
            self.remove_empty(&path);
        }
        for (path, node) in wanted {
            if !self.made.contains_key(&path) {
                make(&self.directory.join(&path), &node)?;
                self.made.insert(path, node);
            }
        }
        Ok(())
    }

    fn remove_empty(&self, path: &Path) {
        let inner = path
            .ancestors()
            .skip(1)
            .take_while(|parent| *parent != Path::new("") && *parent != Path::new("net"));
        for parent in inner {
            if fs::remove_dir(self.directory.join(parent)).is_err() {
                return;
            }
        }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        if !self.directory.is_symlink() {
            // What is left nobody believes: it is shown only while a gns lives.
            let _removed = fs::remove_dir_all(&self.directory);
        }
    }
}

/// This node's number for a node; `None`: it is not known any more.
fn number(node: &str, netmgr: Option<&Netmgr>) -> Option<u32> {
    match netmgr {
        None => Some(0),
        Some(_) if node.is_empty() => Some(0),
        Some(netmgr) => netmgr.strtond(node).ok(),
    }
}

/// The file and the link of an instance.
fn nodes(nd: u32, known: &Known) -> [(PathBuf, Node); 2] {
    let Known { name, node, pid, chid } = known;
    // Without Qnet the own node has no name.
    let node = if is_node(node) { node } else { "localhost" };
    let file = Path::new("net").join(node).join(name);
    let line = format!("node {node} pid {pid} chid {chid}\n");
    let depth = Path::new(name).components().count();
    let link = Path::new(name).join(format!("{nd},{pid},{chid},0,{FTYPE_NAME}"));
    let target: PathBuf = std::iter::repeat_n("..", depth).collect::<PathBuf>().join(&file);
    [(file, Node::File(line)), (link, Node::Link(target))]
}

fn make(path: &Path, node: &Node) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match node {
        Node::File(text) => fs::write(path, text),
        Node::Link(target) => symlink(target, path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str, node: &str, pid: i32) -> Known {
        Known { name: name.to_owned(), node: node.to_owned(), pid, chid: 2 }
    }

    #[test]
    fn instances_are_links_to_what_their_nodes_offer() {
        let directory = tempfile::tempdir().unwrap();
        let global = directory.path().join("global");
        fs::create_dir_all(global.join("left/over")).unwrap();
        let mut mirror = Mirror::new(global.clone()).unwrap();
        mirror.show([known("plant/alarm", "joseph.lab", 7), known("plant", "kurt.lab", 8)], None).unwrap();
        assert!(!global.join("left").exists());
        let read = |path: &str| fs::read_to_string(global.join(path)).unwrap();
        assert_eq!(read("net/joseph.lab/plant/alarm"), "node joseph.lab pid 7 chid 2\n");
        assert_eq!(read("plant/alarm/0,7,2,0,12"), "node joseph.lab pid 7 chid 2\n");
        assert_eq!(read("plant/0,8,2,0,12"), "node kurt.lab pid 8 chid 2\n");
        mirror.show([known("plant", "kurt.lab", 9)], None).unwrap();
        assert_eq!(read("plant/0,9,2,0,12"), "node kurt.lab pid 9 chid 2\n");
        assert!(!global.join("plant/alarm").exists() && !global.join("net/joseph.lab").exists());
        drop(mirror);
        assert!(!global.exists());
    }

    #[test]
    fn a_link_to_another_nodes_names_stays() {
        let directory = tempfile::tempdir().unwrap();
        let global = directory.path().join("global");
        symlink("/net/server/dev/name/global", &global).unwrap();
        let mut mirror = Mirror::new(global.clone()).unwrap();
        mirror.show([known("alarm", "joseph", 7)], None).unwrap();
        drop(mirror);
        assert!(global.is_symlink());
    }
}
