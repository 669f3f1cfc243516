//! One who appends records to a file for as long as he is let, whatever goes wrong, and notes which of them were written.
//!
//! A record is 64 bytes: his letter, its number, dots, a newline. What he noted must be in the file in the end, once; what
//! ended with an error may be in it, once.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Between two tries while the file cannot be reached.
const PAUSE: Duration = Duration::from_millis(20);
const RECORD: usize = 64;

/// Appends to `file` until `stop` is there, `most` records at most; notes in `noted`, and errors in `errors`.
pub(crate) fn append(letter: &str, file: &Path, noted: &Path, errors: &Path, most: usize) -> Result<()> {
    let stop = Path::new("/tmp/stop");
    let mut noted = File::create(noted)?;
    let mut errors = File::create(errors)?;
    let mut open: Option<File> = None;
    for number in 0..most {
        if stop.exists() {
            break;
        }
        match record(&mut open, file, letter, number) {
            Ok(()) => writeln!(noted, "{number}")?,
            Err(error) => {
                open = None;
                writeln!(errors, "{}", error.raw_os_error().unwrap_or(0))?;
                thread::sleep(PAUSE);
            }
        }
    }
    Ok(())
}

fn record(open: &mut Option<File>, path: &Path, letter: &str, number: usize) -> std::io::Result<()> {
    let file = match open {
        Some(file) => file,
        None => open.insert(OpenOptions::new().append(true).create(true).open(path)?),
    };
    let text = format!("{:.<width$}\n", format!("{letter}{number}"), width = RECORD - 1);
    // One write: a part of a record must not be.
    let written = file.write(text.as_bytes())?;
    if written == RECORD { Ok(()) } else { Err(std::io::ErrorKind::WriteZero.into()) }
}

/// Holds the file against the notes of all who wrote: each with his letter and the text of his notes.
pub(crate) fn judge(file: &str, writers: &[(&str, &str)]) -> Result<usize> {
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for line in file.lines() {
        ensure!(line.len() == RECORD - 1, "a torn record: {line:?}");
        *found.entry(line.trim_end_matches('.').to_owned()).or_default() += 1;
    }
    let twice = found.iter().find(|(_, times)| **times > 1);
    ensure!(twice.is_none(), "a record was written more than once: {twice:?}");
    let mut count = 0;
    for (letter, notes) in writers {
        for number in notes.lines() {
            let number: usize = number.parse().context("a note")?;
            ensure!(found.contains_key(&format!("{letter}{number}")), "record {letter}{number} is lost");
            count += 1;
        }
    }
    Ok(count)
}
