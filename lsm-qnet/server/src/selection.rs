//! The directories that are served when it is not all of them: `--only PATH`, several times.
//!
//! Each appears at its own path, so a path means the same on this node and from another one; what lies beside it does
//! not exist there. The directories above are shown with the names that lead on, and nothing else:
//!
//! ```text
//!  --only /srv/pub --only /home/data        /net/NODE/            home srv
//!                                           /net/NODE/srv/        pub
//!                                           /net/NODE/srv/pub/    everything in there
//! ```
//!
//! This is the tree of the names that lead on; walking it is [`crate::resolve`]'s.

use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// A directory to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Only {
    /// Its path, absolute.
    pub path: PathBuf,
    /// Nobody may change anything in there, whatever user he is mapped to.
    pub read_only: bool,
}

/// Why a directory cannot be one of several.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OnlyError {
    /// Its path depends on who reads it.
    #[error("{0}: an absolute path is expected, without . and ..")]
    NotAbsolute(String),
    /// It is named twice, or lies in another one.
    #[error("{inner}: lies in {outer}, which is served already")]
    Covered {
        /// The one inside.
        inner: PathBuf,
        /// The other.
        outer: PathBuf,
    },
}

impl FromStr for Only {
    type Err = OnlyError;

    /// `PATH`, `PATH:ro` or `PATH:rw`.
    fn from_str(text: &str) -> Result<Self, OnlyError> {
        let (path, read_only) = match text.strip_suffix(":ro") {
            Some(path) => (path, true),
            None => (text.strip_suffix(":rw").unwrap_or(text), false),
        };
        let path = Path::new(path);
        let is_plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
        if !path.is_absolute() || !path.components().all(is_plain) {
            return Err(OnlyError::NotAbsolute(text.to_owned()));
        }
        Ok(Self { path: path.components().collect(), read_only })
    }
}

/// A directory above those that are served.
pub type Node = u32;
/// The root.
pub const ROOT: Node = 0;

/// Where a name leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nearer to a served directory.
    Above(Node),
    /// To one.
    Served {
        /// Nobody may change anything in there.
        read_only: bool,
    },
}

/// The names that lead to the served directories.
#[derive(Debug, Default)]
pub struct Selection {
    nodes: Vec<Vec<(Vec<u8>, Next)>>,
}

impl Selection {
    /// The names that lead to `served`.
    ///
    /// # Errors
    /// [`OnlyError::Covered`].
    pub fn new(served: &[Only]) -> Result<Self, OnlyError> {
        for (at, Only { path: inner, .. }) in served.iter().enumerate() {
            let others = served.iter().enumerate().filter(|(other, _)| *other != at);
            if let Some((_, outer)) =
                others.map(|(at, only)| (at, &only.path)).find(|(_, path)| inner.starts_with(path))
            {
                return Err(OnlyError::Covered { inner: inner.clone(), outer: outer.clone() });
            }
        }
        let mut selection = Self { nodes: vec![Vec::new()] };
        for only in served {
            selection.add(only);
        }
        Ok(selection)
    }

    fn add(&mut self, only: &Only) {
        let names: Vec<&[u8]> = only
            .path
            .components()
            .filter_map(|part| match part {
                Component::Normal(name) => Some(name.as_encoded_bytes()),
                _ => None,
            })
            .collect();
        let mut at = ROOT as usize;
        for (place, name) in names.iter().enumerate() {
            if place + 1 == names.len() {
                self.nodes[at].push((name.to_vec(), Next::Served { read_only: only.read_only }));
                return;
            }
            at = match self.next(at as Node, name) {
                Some(Next::Above(node)) => node as usize,
                // No served directory lies above another one.
                Some(Next::Served { .. }) | None => {
                    let node = self.nodes.len();
                    self.nodes.push(Vec::new());
                    self.nodes[at].push((name.to_vec(), Next::Above(node as Node)));
                    node
                }
            };
        }
    }

    /// Where `name` in `node` leads, if it leads on.
    #[must_use]
    pub fn next(&self, node: Node, name: &[u8]) -> Option<Next> {
        self.names(node).iter().find(|(known, _)| known == name).map(|(_, next)| *next)
    }

    /// The names in `node` that lead on.
    #[must_use]
    pub fn names(&self, node: Node) -> &[(Vec<u8>, Next)] {
        self.nodes.get(node as usize).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> Only {
        text.parse().unwrap()
    }

    #[test]
    fn a_path_may_say_that_it_is_read_only() {
        assert_eq!(only("/srv/pub/"), Only { path: "/srv/pub".into(), read_only: false });
        assert_eq!(only("/srv:ro"), Only { path: "/srv".into(), read_only: true });
        assert_eq!(only("/srv:rw"), Only { path: "/srv".into(), read_only: false });
        for text in ["srv", "", ":ro", "/srv/../etc", "./x"] {
            assert_eq!(text.parse::<Only>(), Err(OnlyError::NotAbsolute(text.to_owned())));
        }
    }

    #[test]
    fn names_lead_to_what_is_served_and_nowhere_else() {
        let selection = Selection::new(&[only("/srv/pub:ro"), only("/srv/www/x"), only("/data")]).unwrap();
        let Some(Next::Above(srv)) = selection.next(ROOT, b"srv") else { panic!("srv leads on") };
        assert_eq!(selection.next(ROOT, b"data"), Some(Next::Served { read_only: false }));
        assert_eq!(selection.next(ROOT, b"etc"), None);
        assert_eq!(selection.next(srv, b"pub"), Some(Next::Served { read_only: true }));
        assert!(matches!(selection.next(srv, b"www"), Some(Next::Above(_))));
        assert_eq!(selection.next(srv, b"data"), None);
        assert_eq!(selection.names(srv).len(), 2);
    }

    #[test]
    fn a_directory_in_another_one_is_refused() {
        for pair in [["/srv", "/srv/pub"], ["/srv/pub", "/srv"], ["/srv", "/srv"], ["/", "/srv"]] {
            let error = Selection::new(&pair.map(only)).unwrap_err();
            assert!(matches!(error, OnlyError::Covered { .. }), "{pair:?}");
        }
        assert!(Selection::new(&[only("/srv/a"), only("/srv/ab")]).is_ok());
    }
}
