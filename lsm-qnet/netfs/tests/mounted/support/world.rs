//! The nodes of the fake Qnet and their files, and a record of what was asked of them.

use std::collections::{BTreeMap, HashMap};

use qnet_iomsg::{
    Stat, Timestamp,
    flags::{S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG},
    stat::FLAG_STREAM,
};

/// What a file is made of.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Directory,
    File(Vec<u8>),
    /// Like a file of `/proc`: size 0, yet not empty.
    Stream(Vec<u8>),
    Link(String),
    /// Reads wait until the reader leaves.
    Blocking,
}

#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) content: Content,
    pub(crate) permissions: u32,
    pub(crate) ino: u64,
}

impl File {
    pub(crate) fn stat(&self) -> Stat {
        let (kind, size, flags) = match &self.content {
            Content::Directory => (S_IFDIR, 4096, 0),
            Content::File(data) => (S_IFREG, data.len() as u64, 0),
            Content::Stream(_) => (S_IFREG, 0, FLAG_STREAM),
            Content::Link(target) => (S_IFLNK, target.len() as u64, 0),
            Content::Blocking => (S_IFIFO, 0, 0),
        };
        Stat {
            ino: self.ino,
            size,
            blocks: size.div_ceil(512),
            mode: kind | self.permissions,
            nlink: 1,
            uid: 1000,
            gid: 100,
            dev: (8, 1),
            blksize: 4096,
            flags,
            mtime: Timestamp { seconds: 1 << 33, nanoseconds: 123_456_789 },
            ..Stat::default()
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) nd: u32,
    pub(crate) name: String,
    pub(crate) domain: String,
    /// Whether it is in the list of known nodes. One that is not can still be resolved.
    pub(crate) listed: bool,
    /// Whether it answers.
    pub(crate) alive: bool,
    pub(crate) files: BTreeMap<String, File>,
    last_ino: u64,
}

impl Host {
    pub(crate) fn new(nd: u32, name: &str) -> Self {
        let files = BTreeMap::new();
        let (name, domain) = (name.to_owned(), "lab.example".to_owned());
        Self { nd, name, domain, listed: true, alive: true, files, last_ino: 0 }.with(
            "",
            0o755,
            Content::Directory,
        )
    }

    /// Adds a file; one of this name is replaced by a new one.
    pub(crate) fn put(&mut self, path: &str, permissions: u32, content: Content) {
        self.last_ino += 1;
        self.files.insert(path.to_owned(), File { content, permissions, ino: self.last_ino });
    }

    /// Gives a file another content; it stays the same file.
    pub(crate) fn rewrite(&mut self, path: &str, content: &str) {
        self.files.get_mut(path).unwrap().content = Content::File(content.into());
    }

    pub(crate) fn with(mut self, path: &str, permissions: u32, content: Content) -> Self {
        self.put(path, permissions, content);
        self
    }

    pub(crate) fn with_file(self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.with(path, 0o644, Content::File(content.into()))
    }

    pub(crate) fn with_directory(self, path: &str) -> Self {
        self.with(path, 0o755, Content::Directory)
    }

    /// Whether `uid` may reach the file: root everywhere, others through directories that everybody may search.
    pub(crate) fn may_reach(&self, uid: u32, path: &str) -> bool {
        let above = path.match_indices('/').map(|(end, _)| &path[..end]).chain([""]);
        uid == 0
            || above.filter_map(|directory| self.files.get(directory)).all(|dir| dir.permissions & 1 != 0)
    }

    /// Names in a directory, in order.
    pub(crate) fn names_in(&self, directory: &str) -> Vec<(String, File)> {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let below = self.files.iter().filter(|(path, _)| !path.is_empty() && path.starts_with(&prefix));
        let direct = below.filter(|(path, _)| !path[prefix.len()..].contains('/'));
        direct.map(|(path, file)| (path[prefix.len()..].to_owned(), file.clone())).collect()
    }
}

/// The fake network.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) hosts: Vec<Host>,
    /// Every request, as `uid name path`.
    pub(crate) asked: Vec<String>,
    /// Open files by connection and coid.
    pub(crate) open: HashMap<(u32, i32), (u32, String)>,
    /// Reads that wait.
    pub(crate) waiting: usize,
    /// Unblocks received.
    pub(crate) unblocked: usize,
    /// Groups of the last caller who connected.
    pub(crate) groups: Vec<u32>,
}

impl World {
    /// The own node `alonzo`, and `joseph`.
    pub(crate) fn pair() -> Self {
        let own = Host::new(0, "alonzo").with_directory("etc").with_file("etc/hostname", "alonzo\n");
        let other = Host::new(1, "joseph").with_directory("etc").with_file("etc/hostname", "joseph\n");
        Self { hosts: vec![own, other], ..Self::default() }
    }

    pub(crate) fn with(mut self, host: Host) -> Self {
        self.hosts.push(host);
        self
    }

    pub(crate) fn host(&mut self, name: &str) -> &mut Host {
        self.hosts.iter_mut().find(|host| host.name == name).unwrap()
    }

    pub(crate) fn by_nd(&self, nd: u32) -> Option<&Host> {
        self.hosts.iter().find(|host| host.nd == nd)
    }

    /// How often exactly this was asked.
    pub(crate) fn times(&self, asked: &str) -> usize {
        self.asked.iter().filter(|line| *line == asked).count()
    }
}
