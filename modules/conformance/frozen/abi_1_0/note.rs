//! The ELF note that every module carries, so that the host can judge a file before any of its code runs.
//!
//! ```text
//!  0        4        8        12           20       24        28
//!  | namesz | descsz | type   | "io-pkt\0\0"| magic  | major   minor | name, NUL padded to 40 bytes |
//!  |   7    |   48   | 0x6b70 |             | "IOPK" | u16     u16   |                              |
//! ```
//!
//! Numbers are in the file's byte order; the section is named [`SECTION`], which makes the linker mark it as a note.

/// Name of the section that holds the note.
pub const SECTION: &str = ".note.io-pkt";
/// Owner name in the note, with its NUL.
pub const OWNER: &[u8; 7] = b"io-pkt\0";
/// Note type.
pub const TYPE: u32 = 0x6b70;
/// First word of the description.
pub const MAGIC: u32 = u32::from_le_bytes(*b"IOPK");
/// Room for the module's name, the terminating NUL included.
pub const NAME_LEN: usize = 40;

/// The whole note as it stands in the file.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ModuleNote {
    /// Bytes of [`OWNER`].
    pub namesz: u32,
    /// Bytes from `magic` to the end.
    pub descsz: u32,
    /// [`TYPE`].
    pub kind: u32,
    /// [`OWNER`], padded to a multiple of 4.
    pub owner: [u8; 8],
    /// [`MAGIC`].
    pub magic: u32,
    /// ABI major version.
    pub abi_major: u16,
    /// ABI minor version.
    pub abi_minor: u16,
    /// Module name, NUL padded.
    pub name: [u8; NAME_LEN],
}

impl ModuleNote {
    /// The note of a module called `name`, for the present ABI version.
    ///
    /// # Panics
    /// At compile time, when the name does not fit.
    #[must_use]
    pub const fn new(name: &str) -> Self {
        Self::with_version(name, crate::ABI_MAJOR, crate::ABI_MINOR)
    }

    /// The same for a stated version; tests build foreign versions with it.
    ///
    /// # Panics
    /// At compile time, when the name does not fit.
    #[must_use]
    pub const fn with_version(name: &str, abi_major: u16, abi_minor: u16) -> Self {
        let text = name.as_bytes();
        assert!(!text.is_empty() && text.len() < NAME_LEN, "a module name has 1 to 39 bytes");
        let mut padded = [0; NAME_LEN];
        let mut at = 0;
        while at < text.len() {
            padded[at] = text[at];
            at += 1;
        }
        let descsz = (size_of::<Self>() - 20) as u32;
        Self {
            namesz: 7,
            descsz,
            kind: TYPE,
            owner: *b"io-pkt\0\0",
            magic: MAGIC,
            abi_major,
            abi_minor,
            name: padded,
        }
    }
}

const _: () = assert!(size_of::<ModuleNote>() == 68);
