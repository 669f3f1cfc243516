//! What a caller of `name_open` means: which name, where.

use std::{
    ffi::OsStr,
    fs,
    path::{Component, Path},
};

use qnet_ipc::{Root, names};

use crate::Error;

/// Which names are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Those of one node's channels.
    Local,
    /// Those that any node may offer, as `gns` knows them.
    Global,
}

/// A name, and the node on which it is looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The node, as it stands below `/net`; `None` is this node.
    pub node: Option<String>,
    /// Which names.
    pub scope: Scope,
    /// The name.
    pub name: String,
}

impl Target {
    /// A name of this node.
    ///
    /// # Errors
    /// `EINVAL`, `ENAMETOOLONG`: it cannot be a name.
    pub fn new(scope: Scope, name: &str) -> Result<Self, Error> {
        names::check(OsStr::new(name))?;
        Ok(Self { node: None, scope, name: name.to_owned() })
    }

    /// What `path` means: a name, which is then of `scope`, or one of the paths `/dev/name/local/NAME`,
    /// `/dev/name/global/NAME`, `/net/NODE/dev/name/local/NAME`, `/net/NODE/dev/name/global/NAME`. Instead of `/net` any
    /// network directory may stand there, and the node's root before `dev`.
    ///
    /// # Errors
    /// `ENOENT`: a path that leads to no names. `EINVAL`, `ENAMETOOLONG`: it cannot be a name.
    pub fn parse(root: &Root, path: &str, scope: Scope) -> Result<Self, Error> {
        if !path.starts_with('/') {
            return Self::new(scope, path);
        }
        let nowhere = || Error::Errno(libc::ENOENT);
        let mut parts = Vec::new();
        for component in Path::new(path).components() {
            match component {
                Component::Normal(part) => parts.push(part.to_str().ok_or_else(nowhere)?),
                Component::ParentDir => return Err(Error::Errno(libc::EINVAL)),
                Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            }
        }
        let names = |window: &[&str]| matches!(window, ["dev", "name", "local" | "global"]);
        let at = parts.windows(3).position(names).ok_or_else(nowhere)?;
        let (before, after) = (&parts[..at], &parts[at + 3..]);
        let scope = if parts[at + 2] == "global" { Scope::Global } else { Scope::Local };
        if after.is_empty() {
            return Err(Error::Errno(libc::EISDIR));
        }
        let node = match before.split_last() {
            None => None,
            Some(_) if is_path(before, root.path()) => None,
            Some((node, directory)) if is_network(root, directory) => Some((*node).to_owned()),
            Some(_) => return Err(nowhere()),
        };
        Ok(Self { node, ..Self::new(scope, &after.join("/"))? })
    }

    /// The path of the name on its node.
    #[must_use]
    pub fn path(&self) -> String {
        let scope = match self.scope {
            Scope::Local => "local",
            Scope::Global => "global",
        };
        format!("/dev/name/{scope}/{}", self.name)
    }
}

fn is_path(parts: &[&str], path: &Path) -> bool {
    let normal = path.components().filter(|part| matches!(part, Component::Normal(_)));
    normal.map(|part| part.as_os_str()).eq(parts.iter().map(OsStr::new))
}

/// Whether a directory of nodes is (or would be, once mounted) at that path.
fn is_network(root: &Root, parts: &[&str]) -> bool {
    if parts == ["net"] || is_path(parts, &root.path().join("net")) {
        return true;
    }
    // Without a /proc there are no other network directories to be found.
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| {
        let mut words = line.split(' ').skip(1);
        let (directory, kind) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        kind == "fuse.qnet" && is_path(parts, Path::new(&directory.replace("\\040", " ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str, scope: Scope) -> Result<(Option<String>, Scope, String), i32> {
        let root = Root::at(Path::new("/tmp/no/such/root")).unwrap();
        let target = Target::parse(&root, path, scope).map_err(|error| error.errno())?;
        Ok((target.node, target.scope, target.name))
    }

    #[test]
    fn a_bare_name_is_of_the_scope_that_the_caller_asked_for() {
        for scope in [Scope::Local, Scope::Global] {
            assert_eq!(parse("plant/valve", scope), Ok((None, scope, "plant/valve".to_owned())));
        }
    }

    #[test]
    fn a_path_tells_node_and_scope_itself() {
        let joseph = Some("joseph.lab~preferred".to_owned());
        for (path, node, scope, name) in [
            ("/dev/name/local/a", None, Scope::Local, "a"),
            ("/dev/name/global/a/b", None, Scope::Global, "a/b"),
            ("/tmp/no/such/root/dev/name/local/a", None, Scope::Local, "a"),
            ("/net/joseph.lab~preferred/dev/name/local/a", joseph.clone(), Scope::Local, "a"),
            (
                "//net/joseph.lab~preferred/dev//name/global/dev/name",
                joseph.clone(),
                Scope::Global,
                "dev/name",
            ),
            ("/tmp/no/such/root/net/joseph.lab~preferred/dev/name/local/a", joseph, Scope::Local, "a"),
        ] {
            assert_eq!(parse(path, Scope::Local), Ok((node, scope, name.to_owned())), "{path}");
        }
    }

    #[test]
    fn a_path_that_leads_to_no_name_says_which_way_it_fails() {
        for (path, errno) in [
            ("", libc::EINVAL),
            ("a//b", libc::EINVAL),
            ("/etc/passwd", libc::ENOENT),
            ("/dev/name/a", libc::ENOENT),
            ("/elsewhere/joseph/dev/name/local/a", libc::ENOENT),
            ("/net/dev/name/local/a", libc::ENOENT),
            ("/net/joseph/dev/name/local", libc::EISDIR),
            ("/net/joseph/../dev/name/local/a", libc::EINVAL),
        ] {
            assert_eq!(parse(path, Scope::Local), Err(errno), "{path}");
        }
    }
}
