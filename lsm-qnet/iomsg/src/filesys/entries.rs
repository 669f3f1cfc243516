//! Several names of one directory, whose attributes are asked for at once.
//!
//! ```text
//! 0 flags u32 (0)   4 number of names u32   8 names, a NUL behind each
//! ```
//! The reply is what a READ with XTYPE_DIR_ATTRIBUTES gives ([`crate::dirent`]), of those of the names that are there and whose
//! attributes the server can tell, in the order of the request; an entry's cookie is its name's place in it, from 1. Who is not
//! told of looks that name up by itself.

use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

use crate::{ParseError, take};

/// Most names in one request.
pub const ENTRIES_MAX: usize = 512;

/// The names in a request: single components of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryNames<'a> {
    count: u32,
    /// A NUL behind each.
    bytes: &'a [u8],
}

impl<'a> EntryNames<'a> {
    /// The names in `bytes`, a NUL behind each.
    ///
    /// # Errors
    /// More than [`ENTRIES_MAX`] names; one that is empty or has a slash; the last one's NUL is missing.
    pub fn new(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let count = bytes.iter().filter(|byte| **byte == 0).count();
        Self::checked(count as u64, bytes)
    }

    /// The names, without their NULs.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        self.bytes.split_inclusive(|byte| *byte == 0).map(|name| name.strip_suffix(b"\0").unwrap_or(name))
    }

    fn checked(count: u64, bytes: &'a [u8]) -> Result<Self, ParseError> {
        let invalid = |what| Err(ParseError::Invalid { what, value: count });
        if count > ENTRIES_MAX as u64 {
            return invalid("number of names");
        }
        if bytes.last().is_some_and(|last| *last != 0) {
            return invalid("last name");
        }
        let names = Self { count: count as u32, bytes };
        if names.iter().any(|name| name.is_empty() || name.contains(&b'/')) {
            return invalid("name of an entry");
        }
        if names.iter().count() as u64 != count {
            return invalid("number of names");
        }
        Ok(names)
    }

    pub(super) fn parse(data: &'a [u8]) -> Result<Self, ParseError> {
        let ([flags, count], bytes) = take::<[U32; 2]>(data, "ENTRIES")?;
        match flags.get() {
            0 => Self::checked(count.get().into(), bytes),
            other => Err(ParseError::Invalid { what: "ENTRIES flags", value: other.into() }),
        }
    }

    pub(super) fn emit(&self) -> Vec<u8> {
        [[U32::ZERO, U32::new(self.count)].as_bytes(), self.bytes].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_components_of_paths_are_names() {
        let names = EntryNames::new(b"one\0.\0two three\0").unwrap();
        assert_eq!(names.iter().collect::<Vec<_>>(), [&b"one"[..], b".", b"two three"]);
        assert_eq!(EntryNames::new(b"").unwrap().iter().count(), 0);
        for bad in [&b"one"[..], b"one\0two", b"\0", b"one\0\0", b"a/b\0", b"/\0", b"../x\0"] {
            assert!(EntryNames::new(bad).is_err(), "{bad:?}");
        }
        assert!(EntryNames::new(&b"n\0".repeat(ENTRIES_MAX)).is_ok());
        assert!(EntryNames::new(&b"n\0".repeat(ENTRIES_MAX + 1)).is_err());
    }

    #[test]
    fn a_number_that_is_not_that_of_the_names_is_refused() {
        let good = EntryNames::new(b"one\0two\0").unwrap();
        let data = good.emit();
        assert_eq!(EntryNames::parse(&data), Ok(good));
        for (at, value) in [(0, 1), (4, 1), (4, 3), (7, 1)] {
            let mut bad = data.clone();
            bad[at] = value;
            assert!(EntryNames::parse(&bad).is_err(), "{at}");
        }
    }
}
