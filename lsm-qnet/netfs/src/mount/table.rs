//! `/proc/self/mountinfo`: what is mounted where.
//!
//! ```text
//!  36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//!  id parent dev root point options  tags …  - type source super options
//! ```
//!
//! Space, tab, newline and backslash in a path are written as three octal digits.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::path_from;

/// The table of this process's mount namespace.
pub(super) const MOUNTINFO: &str = "/proc/self/mountinfo";

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// Number of the mount.
    pub id: u32,
    /// `major:minor` of its file system.
    pub device: String,
    /// Where it is mounted.
    pub point: PathBuf,
    /// File system type.
    pub fstype: String,
    /// What is mounted: a device, or a name the file system chose.
    pub source: String,
}

/// The mounts on `path`, the lowest first.
///
/// # Errors
/// `/proc` is not mounted.
pub fn entries_at(path: &Path) -> io::Result<Vec<MountEntry>> {
    let table = fs::read(MOUNTINFO)?;
    let entries = table.split(|byte| *byte == b'\n').filter_map(parse);
    Ok(entries.filter(|entry| entry.point == path).collect())
}

fn parse(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let text = |field: &[u8]| String::from_utf8_lossy(&unescape(field)).into_owned();
    let id = text(fields.next()?).parse().ok()?;
    let device = text(fields.nth(1)?);
    let point = path_from(unescape(fields.nth(1)?));
    let mut rest = fields.skip_while(|field| *field != b"-").skip(1);
    Some(MountEntry { id, device, point, fstype: text(rest.next()?), source: text(rest.next()?) })
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                out.push(byte);
                rest = &tail[3..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whatever_tags_it_has() {
        for tags in ["", "shared:1 ", "master:1 propagate_from:2 "] {
            let line = format!("36 35 0:52 / /my\\040net rw,nosuid {tags}- fuse.qnet qnet rw,user_id=0");
            let entry = parse(line.as_bytes()).unwrap();
            assert_eq!((entry.id, &*entry.device), (36, "0:52"));
            assert_eq!(entry.point, Path::new("/my net"));
            assert_eq!((&*entry.fstype, &*entry.source), ("fuse.qnet", "qnet"));
        }
    }

    #[test]
    fn broken_lines_are_left_out() {
        for line in ["", "x", "36 35 0:52 / /net rw", "36 35 0:52 / /net rw - fuse", "a b c d e f - g h"] {
            assert_eq!(parse(line.as_bytes()), None, "{line:?}");
        }
    }

    #[test]
    fn escapes_that_are_none_stay_as_they_are() {
        assert_eq!(unescape(b"a\\134b\\"), b"a\\b\\");
        assert_eq!(unescape(b"\\9zz\\777"), b"\\9zz\\777");
        assert_eq!(unescape(b"\\0"), b"\\0");
    }

    #[test]
    fn the_root_of_this_system_is_mounted() {
        assert!(!entries_at(Path::new("/")).unwrap().is_empty());
        assert!(entries_at(Path::new("/no/such/directory")).unwrap().is_empty());
    }
}
