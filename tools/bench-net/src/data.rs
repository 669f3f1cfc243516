//! The files that are served: a tmpfs on `/mnt` in a mount namespace of its own, gone with the process that holds it.
//!
//! ```text
//! /mnt/ready            asked for by everybody before anything is measured
//! /mnt/big              one large file; each page begins with its number
//! /mnt/tree/00/00 …     a hundred directories with a hundred files each
//! /mnt/small/0000 …     a thousand files of 4 KiB
//! /mnt/names/0000 …     a thousand files to be asked for one by one
//! /mnt/out              empty, for what is written
//! ```

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

/// Where the tmpfs lies in the namespace of who holds it.
pub const SERVED: &str = "/mnt";
/// Bytes of a page of the large file.
pub const PAGE: usize = 4096;
/// Directories of the tree, and files in each of them.
pub const TREE: usize = 100;
/// Small files, and names.
pub const MANY: usize = 1000;
/// Bytes of a small file.
pub const SMALL: usize = 4096;

/// Bytes written at once while the large file is made.
const PIECE: usize = 1 << 20;

/// The number of a page, as it stands at its beginning.
#[must_use]
pub fn stamp(page: u64) -> [u8; 8] {
    page.to_le_bytes()
}

/// Mounts the tmpfs, fills it with a large file of `size` bytes and everything else, and holds it until standard input
/// ends. The mount is seen by this process and by those that join its mount namespace.
///
/// # Errors
/// Without root, or without memory.
pub fn hold(size: u64) -> Result<()> {
    mount_empty(SERVED)?;
    // Servers write their locks and sockets below /run, which are nobody else's business.
    mount_empty("/run")?;
    fill(Path::new(SERVED), size)?;
    println!("ready");
    io::stdout().flush()?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

fn mount_empty(at: &str) -> Result<()> {
    let options = Some("mode=755");
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::MS_NOSUID, options)
        .with_context(|| format!("a tmpfs on {at}"))
}

fn fill(top: &Path, size: u64) -> Result<()> {
    fs::write(top.join("ready"), "ready\n")?;
    big(&top.join("big"), size)?;
    let numbered = |directory: PathBuf, count: usize, content: &[u8]| -> Result<()> {
        fs::create_dir_all(&directory)?;
        (0..count).try_for_each(|index| Ok(fs::write(directory.join(number(index)), content)?))
    };
    for index in 0..TREE {
        numbered(top.join("tree").join(number(index)), TREE, b"a leaf\n")?;
    }
    numbered(top.join("small"), MANY, &[0x5a; SMALL])?;
    numbered(top.join("names"), MANY, b"")?;
    let out = top.join("out");
    fs::create_dir(&out)?;
    Ok(fs::set_permissions(&out, Permissions::from_mode(0o777))?)
}

/// The name of a numbered file or directory.
#[must_use]
pub fn number(index: usize) -> String {
    format!("{index:04}")
}

fn big(path: &Path, size: u64) -> Result<()> {
    let mut file = File::create(path)?;
    let mut piece = vec![0x5a; PIECE];
    let mut page = 0;
    while page * (PAGE as u64) < size {
        for at in piece.chunks_mut(PAGE) {
            at[..8].copy_from_slice(&stamp(page));
            page += 1;
        }
        file.write_all(&piece).with_context(|| format!("{}", path.display()))?;
    }
    Ok(file.set_len(size)?)
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::fs::FileExt};

    use super::*;

    #[test]
    fn every_page_of_the_large_file_begins_with_its_number() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("big");
        let size = (PIECE + 3 * PAGE) as u64;
        big(&path, size).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(file.metadata().unwrap().len(), size);
        for page in [0, 1, 255, 256, 258] {
            let mut start = [0; 8];
            file.read_exact_at(&mut start, page * PAGE as u64).unwrap();
            assert_eq!(start, stamp(page));
        }
    }

    #[test]
    fn all_files_are_there() {
        let directory = tempfile::tempdir().unwrap();
        fill(directory.path(), PAGE as u64).unwrap();
        let mut content = Vec::new();
        File::open(directory.path().join("small/0999")).unwrap().read_to_end(&mut content).unwrap();
        assert_eq!(content.len(), SMALL);
        assert!(directory.path().join("tree/0099/0099").exists());
        assert!(directory.path().join("names/0999").exists());
        assert_eq!(fs::read_dir(directory.path().join("out")).unwrap().count(), 0);
    }
}
