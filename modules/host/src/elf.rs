//! Judges a file by its bytes, before any of its code can run.
//!
//! `dlopen` of a truncated file ends in SIGBUS, and constructors run before anybody is asked. So the host reads the ELF
//! header, the program headers and the `io-pkt` note itself and refuses whatever is not a whole module for this machine and
//! this ABI major version. What the dynamic linker checks as well (relocations, symbols) is left to it.

use io_pkt_abi::{ABI_MAJOR, note};
use object::{
    Endianness,
    elf::{self, FileHeader64, ProgramHeader64},
    read::elf::{FileHeader, ProgramHeader},
};

/// Bytes of a note's description that the host reads: magic, version, name. Later versions may append.
const NOTE_DESC: usize = 8 + note::NAME_LEN;

/// `e_machine` of the machine this host was built for.
const MACHINE: u16 = if cfg!(target_arch = "x86_64") {
    elf::EM_X86_64
} else if cfg!(target_arch = "aarch64") {
    elf::EM_AARCH64
} else if cfg!(target_arch = "riscv64") {
    elf::EM_RISCV
} else {
    elf::EM_NONE
};

/// What is wrong with the bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// No ELF magic.
    #[error("expected an ELF shared object, found {0}")]
    NotElf(&'static str),
    /// Class or byte order of another machine.
    #[error("expected a 64-bit ELF in this machine's byte order, found {0}")]
    Class(&'static str),
    /// Another machine.
    #[error("expected a module for machine {expected} ({name}), found machine {found}", name = std::env::consts::ARCH)]
    Machine {
        /// This machine's `e_machine`.
        expected: u16,
        /// The file's.
        found: u16,
    },
    /// A program, an object file, a core file.
    #[error("expected a shared object, found {0}")]
    Type(&'static str),
    /// A table or a segment reaches beyond the end of the file.
    #[error("expected {what} up to byte {end}, found a file of {len} bytes: it is truncated")]
    Truncated {
        /// What lies outside.
        what: String,
        /// Where it should end.
        end: u64,
        /// Where the file ends.
        len: u64,
    },
    /// The headers contradict themselves.
    #[error("expected a sound ELF, found {0}")]
    Broken(String),
    /// An ordinary shared object.
    #[error("expected a shared object with an io-pkt note, found one without: it is not an io-pkt module")]
    NoNote,
    /// The note does not make sense.
    #[error("expected a sound io-pkt note, found {0}")]
    BadNote(String),
    /// A module for another major version of the ABI.
    #[error(
        "expected module ABI major version {ABI_MAJOR}, found {found_major}.{found_minor} (module {name})"
    )]
    Major {
        /// The note's major version.
        found_major: u16,
        /// The note's minor version.
        found_minor: u16,
        /// The module's name.
        name: String,
    },
}

/// What the bytes tell of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElfFacts {
    /// Module name from the note.
    pub name: String,
    /// ABI minor version from the note; the major one is ours.
    pub abi_minor: u16,
    /// GNU build id as hexadecimal digits, empty when the file has none.
    pub build_id: String,
    /// Smallest address of a loaded segment, counted from the file's base.
    pub start: u64,
    /// End of the last loaded segment.
    pub end: u64,
    /// Bytes of executable segments.
    pub code: u64,
    /// Bytes of writable segments, zero-filled ones included.
    pub data: u64,
}

/// Where the last segment ends, as the first bytes of a file tell; `None` when they are not those of a module. What
/// follows are symbols and debugging information, most of the file, which nothing of a running module needs.
pub(crate) fn loaded_part(start: &[u8]) -> Option<u64> {
    let header = check_header(start).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, start).ok()?;
    segments.iter().map(|segment| segment.p_offset(endian).saturating_add(segment.p_filesz(endian))).max()
}

/// Reads the facts, or says what is wrong. `bytes` are the whole file of `len` bytes, or its loaded part.
///
/// # Errors
/// [`ElfError`].
pub fn inspect(bytes: &[u8], len: u64) -> Result<ElfFacts, ElfError> {
    let header = check_header(bytes)?;
    let endian = header.endian().map_err(|error| ElfError::Broken(error.to_string()))?;
    let segments = check_extent(header, endian, bytes, len)?;
    let (name, abi_minor) = read_note(segments, endian, bytes)?;
    let loaded = || segments.iter().filter(|segment| segment.p_type(endian) == elf::PT_LOAD);
    let sum = |flag: u32| -> u64 {
        let flagged = loaded().filter(|segment| segment.p_flags(endian) & flag != 0);
        flagged.fold(0, |sum: u64, segment| sum.saturating_add(segment.p_memsz(endian)))
    };
    Ok(ElfFacts {
        name,
        abi_minor,
        build_id: build_id(segments, endian, bytes),
        start: loaded().map(|segment| segment.p_vaddr(endian)).min().unwrap_or(0),
        end: loaded()
            .map(|segment| segment.p_vaddr(endian).saturating_add(segment.p_memsz(endian)))
            .max()
            .unwrap_or(0),
        code: sum(elf::PF_X),
        data: sum(elf::PF_W),
    })
}

type Header = FileHeader64<Endianness>;
type Segment = ProgramHeader64<Endianness>;

/// The header of a shared object for this machine.
fn check_header(bytes: &[u8]) -> Result<&Header, ElfError> {
    if bytes.is_empty() {
        return Err(ElfError::NotElf("an empty file"));
    }
    if !bytes.starts_with(&elf::ELFMAG) {
        let text = bytes.iter().take(256).all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
        return Err(ElfError::NotElf(if text { "a text file" } else { "other data" }));
    }
    match bytes.get(4) {
        Some(&elf::ELFCLASS64) => {}
        Some(_) => return Err(ElfError::Class("a 32-bit one")),
        None => return Err(truncated("the ELF header", 64, bytes)),
    }
    let ours = if cfg!(target_endian = "little") { elf::ELFDATA2LSB } else { elf::ELFDATA2MSB };
    if bytes.get(5).is_some_and(|data| *data != ours) {
        return Err(ElfError::Class("the other byte order"));
    }
    if bytes.len() < size_of::<Header>() {
        return Err(truncated("the ELF header", size_of::<Header>() as u64, bytes));
    }
    let header = Header::parse(bytes).map_err(|error| ElfError::Broken(error.to_string()))?;
    let endian = header.endian().map_err(|error| ElfError::Broken(error.to_string()))?;
    let machine = header.e_machine(endian);
    if machine != MACHINE {
        return Err(ElfError::Machine { expected: MACHINE, found: machine });
    }
    match header.e_type(endian) {
        elf::ET_DYN => Ok(header),
        elf::ET_EXEC => Err(ElfError::Type("a program")),
        elf::ET_REL => Err(ElfError::Type("an object file (not linked)")),
        elf::ET_CORE => Err(ElfError::Type("a core file")),
        _ => Err(ElfError::Type("an ELF file of unknown type")),
    }
}

/// Checks that tables and segments lie inside the file, and returns the segments.
fn check_extent<'f>(
    header: &'f Header,
    endian: Endianness,
    bytes: &'f [u8],
    len: u64,
) -> Result<&'f [Segment], ElfError> {
    let inside = |what: &dyn Fn() -> String, offset: u64, size: u64| match offset.checked_add(size) {
        Some(end) if end <= len => Ok(()),
        end => Err(ElfError::Truncated { what: what(), end: end.unwrap_or(u64::MAX), len }),
    };
    let (count, entry) = (header.e_phnum(endian), header.e_phentsize(endian));
    if count == 0 || usize::from(entry) != size_of::<Segment>() {
        return Err(ElfError::Broken(format!("{count} program headers of {entry} bytes")));
    }
    inside(&|| "program headers".to_owned(), header.e_phoff(endian), u64::from(count) * u64::from(entry))?;
    let segments =
        header.program_headers(endian, bytes).map_err(|error| ElfError::Broken(error.to_string()))?;
    let mut loaded = 0;
    for (index, segment) in segments.iter().enumerate() {
        let (in_file, in_memory) = (segment.p_filesz(endian), segment.p_memsz(endian));
        inside(&|| format!("segment {index}"), segment.p_offset(endian), in_file)?;
        if segment.p_type(endian) == elf::PT_LOAD {
            loaded += 1;
            if in_file > in_memory || segment.p_vaddr(endian).checked_add(in_memory).is_none() {
                return Err(ElfError::Broken(format!("segment {index} larger in the file than in memory")));
            }
        }
    }
    if loaded == 0 {
        return Err(ElfError::Broken("no segment to load".to_owned()));
    }
    // Nothing of a running module needs the section headers; they lie last, so they tell a file that was cut short.
    let sections = u64::from(header.e_shnum(endian)) * size_of_section();
    inside(&|| "section headers".to_owned(), header.e_shoff(endian), sections)?;
    Ok(segments)
}

/// Name and minor version from the one `io-pkt` note.
fn read_note(segments: &[Segment], endian: Endianness, bytes: &[u8]) -> Result<(String, u16), ElfError> {
    let mut found: Option<(String, u16)> = None;
    for_each_note(segments, endian, bytes, |owner, kind, desc| {
        if owner != &note::OWNER[..6] || kind != note::TYPE {
            return Ok(());
        }
        if found.is_some() {
            return Err(ElfError::BadNote("two of them".to_owned()));
        }
        found = Some(parse_note(desc)?);
        Ok(())
    })?;
    found.ok_or(ElfError::NoNote)
}

fn parse_note(desc: &[u8]) -> Result<(String, u16), ElfError> {
    if desc.len() < NOTE_DESC {
        return Err(ElfError::BadNote(format!("{} bytes instead of {NOTE_DESC}", desc.len())));
    }
    let word = |at: usize| u16::from_ne_bytes([desc[at], desc[at + 1]]);
    let magic = u32::from_ne_bytes([desc[0], desc[1], desc[2], desc[3]]);
    if magic != note::MAGIC {
        return Err(ElfError::BadNote(format!("magic 0x{magic:08x} instead of 0x{:08x}", note::MAGIC)));
    }
    let (major, minor) = (word(4), word(6));
    let name = desc[8..NOTE_DESC].split(|byte| *byte == 0).next().unwrap_or_default();
    // The name becomes part of a file's and a log line's name.
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(byte);
    if name.is_empty() || name.len() == note::NAME_LEN || !name.iter().all(plain) {
        return Err(ElfError::BadNote("a module name that is no word of at most 39 letters".to_owned()));
    }
    let name = String::from_utf8_lossy(name).into_owned();
    if major != ABI_MAJOR {
        return Err(ElfError::Major { found_major: major, found_minor: minor, name });
    }
    Ok((name, minor))
}

fn build_id(segments: &[Segment], endian: Endianness, bytes: &[u8]) -> String {
    let mut id = String::new();
    // An odd note elsewhere in the file is no reason to refuse it.
    let _ = for_each_note(segments, endian, bytes, |owner, kind, desc| {
        if owner == b"GNU" && kind == elf::NT_GNU_BUILD_ID {
            id = desc.iter().map(|byte| format!("{byte:02x}")).collect();
        }
        Ok(())
    });
    id
}

fn for_each_note(
    segments: &[Segment],
    endian: Endianness,
    bytes: &[u8],
    mut visit: impl FnMut(&[u8], u32, &[u8]) -> Result<(), ElfError>,
) -> Result<(), ElfError> {
    let broken = |error: object::Error| ElfError::Broken(error.to_string());
    for segment in segments {
        let Some(mut notes) = segment.notes(endian, bytes).map_err(broken)? else { continue };
        while let Some(note) = notes.next().map_err(broken)? {
            visit(note.name(), note.n_type(endian), note.desc())?;
        }
    }
    Ok(())
}

const fn size_of_section() -> u64 {
    size_of::<<Header as FileHeader>::SectionHeader>() as u64
}

fn truncated(what: impl Into<String>, end: u64, bytes: &[u8]) -> ElfError {
    ElfError::Truncated { what: what.into(), end, len: bytes.len() as u64 }
}

#[cfg(test)]
mod tests;
