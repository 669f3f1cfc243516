//! What is measured: each kind of work is done once on a fresh mount and gives one number.
//!
//! What is read is looked at: pages of the large file tell their numbers, small files their length. A file system that is
//! fast and wrong does not take part.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::data::{self, PAGE, SMALL};

/// Bytes of a read and a write of the large file: what `dd bs=1M` asks for.
const BLOCK: usize = 1 << 20;

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The large file from its beginning to its end: MB/s.
    Read,
    /// As much into a new file, until `fsync` and `close` have returned: MB/s.
    Write,
    /// Pages from anywhere in the large file, so many at a time: thousand a second.
    Random(usize),
    /// Every directory of the tree listed, every entry's attributes taken, as `find -ls` does: thousand files a second.
    Walk,
    /// The small files opened, read whole and closed, one after the other: thousand files a second.
    Small,
    /// An archive of a source tree unpacked with `tar`: files a second.
    Untar,
    /// The attributes of a file that was not asked for before: the middle of the times, µs.
    Stat,
}

impl Work {
    /// All, in the order of the tables.
    pub const ALL: [Self; 8] = [
        Self::Read,
        Self::Write,
        Self::Random(1),
        Self::Random(32),
        Self::Walk,
        Self::Small,
        Self::Untar,
        Self::Stat,
    ];

    /// For the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Random(1) => "random1",
            Self::Random(_) => "random32",
            Self::Walk => "walk",
            Self::Small => "small",
            Self::Untar => "untar",
            Self::Stat => "stat",
        }
    }

    /// For the tables: title, unit and digits behind the point.
    #[must_use]
    pub const fn about(self) -> (&'static str, &'static str, usize) {
        match self {
            Self::Read => ("sequential read", "MB/s", 0),
            Self::Write => ("sequential write with fsync", "MB/s", 0),
            Self::Random(1) => ("random reads of 4 KiB, one at a time", "thousand a second", 2),
            Self::Random(_) => ("random reads of 4 KiB, 32 at a time", "thousand a second", 2),
            Self::Walk => ("find -ls in 10,000 files", "thousand files a second", 2),
            Self::Small => ("open, read and close of small files", "thousand files a second", 2),
            Self::Untar => ("untar of a source tree", "files a second", 0),
            Self::Stat => ("one stat that is not cached", "µs", 1),
        }
    }

    /// Whether it moves the large file.
    #[must_use]
    pub const fn is_bulk(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }

    /// Whether it changes files.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Untar)
    }
}

impl FromStr for Work {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Self> {
        let known = || Self::ALL.map(Self::word).join(", ");
        Self::ALL
            .into_iter()
            .find(|work| work.word() == word)
            .with_context(|| format!("`{word}` is not known; there are {}", known()))
    }
}

/// How much is to be done.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// What.
    pub work: Work,
    /// Length of random reads.
    pub span: Duration,
    /// What is unpacked.
    pub archive: &'a Path,
}

/// Does it below `top`, where the served files are; the number in the unit of [`Work::about`].
///
/// # Errors
/// The file system fails, or gives something else than what is there.
pub fn run(top: &Path, plan: &Plan<'_>) -> Result<f64> {
    match plan.work {
        Work::Read => read(&top.join("big")),
        Work::Write => write(&top.join("big"), &top.join("out/written")),
        Work::Random(at_a_time) => random(&top.join("big"), at_a_time, plan.span),
        Work::Walk => walk(&top.join("tree")),
        Work::Small => small(&top.join("small")),
        Work::Untar => untar(plan.archive, &top.join("out/tree")),
        Work::Stat => stat(&top.join("names")),
    }
}

fn megabytes(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64()
}

/// Thousand a second.
fn thousands(count: usize, time: Duration) -> f64 {
    count as f64 / 1e3 / time.as_secs_f64()
}

fn read(path: &Path) -> Result<f64> {
    let mut block = vec![0; BLOCK];
    let begin = Instant::now();
    let mut file = File::open(path)?;
    let mut total = 0;
    loop {
        let got = file.read(&mut block)?;
        if got == 0 {
            break;
        }
        check_pages(&block[..got], total)?;
        total += got as u64;
    }
    drop(file);
    let time = begin.elapsed();
    let size = fs::metadata(path)?.len();
    ensure!(total == size, "{} bytes came of a file of {size}", total);
    Ok(megabytes(total, time))
}

/// Looks at the beginning of every page in what was read at `offset`.
fn check_pages(bytes: &[u8], offset: u64) -> Result<()> {
    let before = (offset.next_multiple_of(PAGE as u64) - offset) as usize;
    let first = offset.div_ceil(PAGE as u64);
    for (page, bytes) in (first..).zip(bytes.get(before..).unwrap_or_default().chunks(PAGE)) {
        if let Some(begin) = bytes.get(..8) {
            ensure!(begin == data::stamp(page), "page {page} has the content of another one");
        }
    }
    Ok(())
}

/// As many bytes as `like` has, into a new file, which is removed afterwards.
fn write(like: &Path, path: &Path) -> Result<f64> {
    let size = fs::metadata(like)?.len();
    let block = vec![0xa5; BLOCK];
    let begin = Instant::now();
    let mut file = File::create(path)?;
    let mut left = size;
    while left > 0 {
        let piece = left.min(BLOCK as u64);
        file.write_all(&block[..piece as usize])?;
        left -= piece;
    }
    file.sync_all()?;
    drop(file);
    let time = begin.elapsed();
    let written = fs::metadata(path)?.len();
    let mut last = [0; 1];
    let mut file = File::open(path)?;
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    drop(file);
    fs::remove_file(path)?;
    ensure!(written == size && last == [0xa5], "{written} bytes were written of {size}");
    Ok(megabytes(size, time))
}

/// Reads pages in an order that nobody can guess, no page twice, until the time is over or there is no further page.
fn random(path: &Path, at_a_time: usize, span: Duration) -> Result<f64> {
    let file = File::open(path)?;
    let pages = file.metadata()?.len() / PAGE as u64;
    ensure!(pages > 0, "the large file has no page");
    // Reading ahead would fetch what is never asked for.
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM)?;
    let begin = Instant::now();
    let reader = |first: u64| {
        let mut page = [0; PAGE];
        let mut count = 0;
        for index in (first..pages).step_by(at_a_time).take_while(|_| begin.elapsed() < span) {
            let number = shuffled(index, pages);
            file.read_exact_at(&mut page, number * PAGE as u64)?;
            ensure!(page[..8] == data::stamp(number), "page {number} has the content of another one");
            count += 1;
        }
        Ok(count)
    };
    let counts: Vec<Result<usize>> = thread::scope(|scope| {
        let reader = &reader;
        let threads: Vec<_> = (0..at_a_time as u64).map(|first| scope.spawn(move || reader(first))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a reader ended"))).collect()
    });
    let time = begin.elapsed();
    Ok(thousands(counts.into_iter().sum::<Result<usize>>()?, time))
}

/// A permutation of `0..count`: steps of an odd prime that does not divide `count` reach every number once.
fn shuffled(index: u64, count: u64) -> u64 {
    const STEP: u64 = 2_654_435_761;
    (u128::from(index) * u128::from(STEP) % u128::from(count)) as u64
}

fn walk(top: &Path) -> Result<f64> {
    let begin = Instant::now();
    let mut files = 0;
    let mut directories = vec![top.to_owned()];
    while let Some(directory) = directories.pop() {
        // As find: all names first, then the attributes of each, a symbolic link's own.
        let entries: Vec<_> = fs::read_dir(&directory)?.collect::<std::io::Result<_>>()?;
        for entry in entries {
            if entry.metadata()?.is_dir() {
                directories.push(entry.path());
            } else {
                files += 1;
            }
        }
    }
    let time = begin.elapsed();
    ensure!(files == data::TREE * data::TREE, "{files} files in the tree");
    Ok(thousands(files, time))
}

fn small(directory: &Path) -> Result<f64> {
    let mut content = Vec::with_capacity(2 * SMALL);
    let begin = Instant::now();
    for index in 0..data::MANY {
        content.clear();
        File::open(directory.join(data::number(index)))?.read_to_end(&mut content)?;
        ensure!(content.len() == SMALL, "a small file of {} bytes", content.len());
    }
    Ok(thousands(data::MANY, begin.elapsed()))
}

fn untar(archive: &Path, to: &Path) -> Result<f64> {
    fs::create_dir(to)?;
    let begin = Instant::now();
    let status = Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(to).status().context("tar")?;
    let time = begin.elapsed();
    ensure!(status.success(), "tar failed");
    let files = count_files(to)?;
    fs::remove_dir_all(to)?;
    ensure!(files > 0, "the archive is empty");
    Ok(files as f64 / time.as_secs_f64())
}

fn count_files(directory: &Path) -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { count_files(&entry.path())? } else { 1 };
    }
    Ok(count)
}

/// Each name once. The directory itself is known before.
fn stat(directory: &Path) -> Result<f64> {
    fs::symlink_metadata(directory)?;
    let mut times = Vec::with_capacity(data::MANY);
    for index in 0..data::MANY {
        let path = directory.join(data::number(index));
        let begin = Instant::now();
        let found = fs::symlink_metadata(&path)?;
        times.push(begin.elapsed());
        ensure!(found.is_file(), "{} is no file", path.display());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2].as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn words_name_their_work() {
        for work in Work::ALL {
            assert_eq!(work.word().parse::<Work>().unwrap(), work);
        }
        assert!("nothing".parse::<Work>().unwrap_err().to_string().contains("random32"));
    }

    #[test]
    fn no_page_comes_twice() {
        for count in [1, 2, 1000, 4096, 262_144] {
            let seen: HashSet<u64> = (0..count).map(|index| shuffled(index, count)).collect();
            assert_eq!(seen.len() as u64, count);
        }
    }

    #[test]
    fn a_wrong_page_is_noticed() {
        let mut page = vec![0; PAGE];
        page[..8].copy_from_slice(&data::stamp(3));
        assert!(check_pages(&page, 3 * PAGE as u64).is_ok());
        assert!(check_pages(&page, 4 * PAGE as u64).is_err());
        let mut pages = vec![0; 3 * PAGE];
        pages
            .chunks_mut(PAGE)
            .zip(4..)
            .for_each(|(page, number)| page[..8].copy_from_slice(&data::stamp(number)));
        assert!(check_pages(&pages, 4 * PAGE as u64).is_ok());
        assert!(check_pages(&pages[100..], 4 * PAGE as u64 + 100).is_ok());
        pages[2 * PAGE] += 1;
        assert!(check_pages(&pages, 4 * PAGE as u64).is_err(), "not only the first page is looked at");
        assert!(check_pages(&pages[..2 * PAGE + 7], 4 * PAGE as u64).is_ok(), "half a number says nothing");
    }

    #[test]
    fn writing_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let like = directory.path().join("big");
        fs::write(&like, vec![0; BLOCK + 5]).unwrap();
        assert!(write(&like, &directory.path().join("written")).unwrap() > 0.0);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
