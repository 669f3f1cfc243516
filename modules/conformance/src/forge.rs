//! Copies of module files with something wrong in them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use io_pkt_abi::note;

/// Copies `module` to `name` in the same directory and lets `change` damage the bytes.
///
/// # Errors
/// As reading and writing files.
pub fn forge(module: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<PathBuf> {
    let mut bytes = fs::read(module)?;
    change(&mut bytes);
    let forged = module.with_file_name(name);
    fs::write(&forged, bytes)?;
    Ok(forged)
}

/// Where the description of the `io-pkt` note begins: magic, major, minor, name.
///
/// # Errors
/// `InvalidData` when the bytes hold no such note.
pub fn note_at(bytes: &[u8]) -> io::Result<usize> {
    let mut begin = b"io-pkt\0\0".to_vec();
    begin.extend(note::MAGIC.to_ne_bytes());
    let at = bytes.windows(begin.len()).position(|window| window == begin);
    at.map(|at| at + 8).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no io-pkt note"))
}
