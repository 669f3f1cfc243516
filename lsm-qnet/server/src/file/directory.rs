//! Entries of an open directory.

use nix::errno::Errno;
use nix::unistd::{Whence as SeekFrom, lseek};
use qnet_iomsg::filesys::EntryNames;
use qnet_iomsg::{Dirent, DirentWriter};

use super::{Cancel, OpenFile};
use crate::attributes::EntryAttributes;
use crate::resolve::Place;
use crate::{names, sys};

/// Bytes of directory records fetched from the kernel at once; a name has at most 255.
const DIRECTORY_CHUNK: usize = 32 * 1024;

/// What directory entries carry beside names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extras {
    /// Nothing.
    None,
    /// The type.
    Type,
    /// All attributes.
    Attributes,
}

impl OpenFile {
    /// Entries from the cookie `from` on; returns the cookie behind the last one that fitted.
    pub(super) fn read_directory(
        &self,
        out: &mut Vec<u8>,
        from: u64,
        max: usize,
        extras: Extras,
        cancel: &Cancel,
    ) -> Result<u64, Errno> {
        let mut cookie = i64::try_from(from).map_err(|_| Errno::EINVAL)?;
        lseek(self.fd(), cookie, SeekFrom::SeekSet)?;
        let mut writer = DirentWriter::new(max, extras != Extras::None);
        let attributes = if extras == Extras::Attributes { self.entry_attributes()? } else { None };
        let mut chunk = vec![0; DIRECTORY_CHUNK];
        let mut full = false;
        while !full {
            if cancel.is_set() {
                return Err(Errno::EINTR);
            }
            let len = cancel.retry(|| sys::getdents64(self.fd(), &mut chunk))?;
            if len == 0 {
                break;
            }
            for entry in KernelEntries(chunk.get(..len).unwrap_or_default()) {
                if self.is_hidden(entry.name) {
                    cookie = entry.next as i64;
                    continue;
                }
                let mut entry = self.presented(entry);
                if let Some(attributes) = &attributes {
                    // one look at a file less for each that would not fit
                    full = DirentWriter::room_for(entry.name.len()) > writer.left() && !writer.is_empty();
                    entry.stat = if full { None } else { attributes.of(self.fd(), entry.name) };
                }
                if full || !writer.push(&entry) {
                    full = true;
                    break;
                }
                cookie = entry.next as i64;
            }
        }
        if full && writer.is_empty() {
            return Err(Errno::EINVAL);
        }
        out.extend_from_slice(&writer.finish());
        Ok(cookie as u64)
    }

    /// What these names of this directory mean, as far as that can be told in `max` bytes.
    ///
    /// # Errors
    /// ENOTDIR. EOPNOTSUPP: a directory whose entries are not as they seem. EINTR: the caller has left.
    pub(crate) fn entries(
        &self,
        names: &EntryNames<'_>,
        max: usize,
        cancel: &Cancel,
    ) -> Result<Vec<u8>, Errno> {
        let attributes = self.entry_attributes()?.ok_or(Errno::EOPNOTSUPP)?;
        let mut writer = DirentWriter::new(max, true);
        for (name, place) in names.iter().zip(1..) {
            if cancel.is_set() {
                return Err(Errno::EINTR);
            }
            let Some(stat) = attributes.of(self.fd(), name) else { continue };
            let file_type = Some(stat.mode & libc::S_IFMT);
            let entry = Dirent { ino: stat.ino, next: place, name, file_type, stat: Some(stat) };
            if !writer.push(&entry) {
                break;
            }
        }
        Ok(writer.finish())
    }

    /// How the attributes of this directory's entries are found; `None` where they are not as they seem.
    fn entry_attributes(&self) -> Result<Option<EntryAttributes>, Errno> {
        if self.place == Place::Ordinary {
            EntryAttributes::of_directory(self.fd()).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Names that do not exist for remote callers; see [`crate::resolve`].
    fn is_hidden(&self, name: &[u8]) -> bool {
        if matches!(self.place, Place::Names | Place::NamesTop) {
            return !names::is_shown(self.fd(), self.place, name);
        }
        match &self.names {
            Some(names) => !matches!(name, b"." | b"..") && !names.iter().any(|known| known == name),
            None => self.place == Place::ProcRoot && matches!(name, b"self" | b"thread-self"),
        }
    }

    /// `/proc/net` and `/proc/mounts` are served as what they lead to.
    fn presented<'a>(&self, entry: Dirent<'a>) -> Dirent<'a> {
        let file_type = match (self.place, entry.name) {
            (Place::ProcRoot, b"net") => Some(libc::S_IFDIR),
            (Place::ProcRoot, b"mounts") => Some(libc::S_IFREG),
            _ => entry.file_type,
        };
        Dirent { file_type, ..entry }
    }
}

/// The records of `getdents64`: ino u64, next i64, reclen u16, type u8, name, NUL, padding.
struct KernelEntries<'a>(&'a [u8]);

impl<'a> Iterator for KernelEntries<'a> {
    type Item = Dirent<'a>;

    fn next(&mut self) -> Option<Dirent<'a>> {
        let (ino, rest) = self.0.split_first_chunk()?;
        let (next, rest) = rest.split_first_chunk()?;
        let (reclen, rest) = rest.split_first_chunk()?;
        let (kind, _) = rest.split_first()?;
        let (record, others) = self.0.split_at_checked(u16::from_ne_bytes(*reclen).into())?;
        let name = record.get(19..)?.split(|b| *b == 0).next()?;
        self.0 = others;
        // DT_* are the file type bits of a mode, shifted
        let file_type = (*kind != libc::DT_UNKNOWN).then_some(u32::from(*kind) << 12);
        let (ino, next) = (u64::from_ne_bytes(*ino), u64::from_ne_bytes(*next));
        Some(Dirent { ino, next, name, file_type, stat: None })
    }
}
