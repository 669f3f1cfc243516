//! Which file a request means.
//!
//! A path is a name, and another node may have given it to another file meanwhile: what was meant for the file that a program
//! looked up or has open would change that one. An EXPECT in front of a change says which file it is for.

use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::flags::{S_IFMT, S_IFREG};
use crate::stat::{FLAG_BTIME, FLAG_STREAM};
use crate::{ParseError, Stat, Timestamp, take};

/// What makes a file the same file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// `S_IFMT` bits of its mode.
    pub file_type: u32,
    /// Device that it lies on, major and minor.
    pub device: (u32, u32),
    /// Inode number on that device.
    pub ino: u64,
    /// When it was made; 0 where that is not known. A file that has got a dead one's inode number is another one.
    pub born: Timestamp,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Wire {
    major: U32,
    minor: U32,
    ino: U64,
    seconds: I64,
    nanoseconds: U32,
    file_type: U32,
}

impl Identity {
    /// Of the file with these attributes.
    #[must_use]
    pub fn of(stat: &Stat) -> Self {
        let born = if stat.flags & FLAG_BTIME != 0 { stat.btime } else { Timestamp::default() };
        Self { file_type: stat.mode & S_IFMT, device: stat.dev, ino: stat.ino, born }
    }

    /// Whether a file with these attributes is the one that is meant. Those that are made up while they are read change
    /// their numbers as their kernel pleases; it suffices that they are regular.
    #[must_use]
    pub fn is_met_by(&self, stat: &Stat) -> bool {
        let is_made_up = stat.flags & FLAG_STREAM != 0 && stat.mode & S_IFMT == S_IFREG;
        is_made_up && self.file_type == S_IFREG || Self::of(stat) == *self
    }

    pub(super) fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let (wire, _) = take::<Wire>(data, "EXPECT")?;
        let born = Timestamp { seconds: wire.seconds.get(), nanoseconds: wire.nanoseconds.get() };
        let device = (wire.major.get(), wire.minor.get());
        Ok(Self { file_type: wire.file_type.get(), device, ino: wire.ino.get(), born })
    }

    pub(super) fn emit(&self) -> Vec<u8> {
        let wire = Wire {
            major: U32::new(self.device.0),
            minor: U32::new(self.device.1),
            ino: U64::new(self.ino),
            seconds: I64::new(self.born.seconds),
            nanoseconds: U32::new(self.born.nanoseconds),
            file_type: U32::new(self.file_type),
        };
        wire.as_bytes().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::S_IFIFO;

    #[test]
    fn a_file_is_the_same_by_device_inode_and_birth() {
        let born = Timestamp { seconds: 9, nanoseconds: 1 };
        let mode = S_IFREG | 0o644;
        let meant = Stat { mode, dev: (8, 1), ino: 10, btime: born, flags: FLAG_BTIME, ..Stat::default() };
        let identity = Identity::of(&meant);
        assert!(identity.is_met_by(&Stat { size: 5, nlink: 0, ..meant }));
        for other in [
            Stat { dev: (8, 2), ..meant },
            Stat { ino: 11, ..meant },
            Stat { btime: Timestamp { seconds: 10, ..born }, ..meant },
        ] {
            assert!(!identity.is_met_by(&other));
            assert!(identity.is_met_by(&Stat { flags: FLAG_STREAM, ..other }));
        }
        assert!(!identity.is_met_by(&Stat { mode: S_IFIFO | 0o644, flags: FLAG_STREAM, ..meant }));
    }
}
