//! The file that is written: pcap with nanoseconds, or pcapng. Little-endian, whatever this machine is.
//!
//! ```text
//!  pcap     a1b23c4d 2.4 0 0 snaplen 1              then for each frame: seconds, nanoseconds, captured, length, bytes
//!  pcapng   section, one interface (time in ns)     then for each frame: a packet block marked as outbound
//! ```
//!
//! What is written is kept for [`PATIENCE`] at most before the file has it, so that a file that grows can be watched.

use std::io::{self, BufWriter, Write};

/// Most bytes of a frame that are recorded.
pub(crate) const LONGEST: u32 = 262_144;
/// How long recorded frames may wait for company. Nanoseconds.
pub(crate) const PATIENCE: u64 = 200_000_000;
/// Room for frames that wait.
const ROOM: usize = 256 * 1024;

/// A file's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Pcap,
    Pcapng,
}

impl Format {
    /// The format that a file of this name gets.
    pub(crate) fn of(path: &str) -> Self {
        if path.ends_with(".pcapng") { Self::Pcapng } else { Self::Pcap }
    }
}

/// A capture that is being written.
#[derive(Debug)]
pub(crate) struct Recorder<W: Write> {
    out: BufWriter<W>,
    format: Format,
    snaplen: u32,
    head: Vec<u8>,
}

impl<W: Write> Recorder<W> {
    /// Writes the head of a capture.
    pub(crate) fn new(out: W, format: Format, snaplen: u32) -> io::Result<Self> {
        let mut this =
            Self { out: BufWriter::with_capacity(ROOM, out), format, snaplen, head: Vec::with_capacity(64) };
        match format {
            Format::Pcap => {
                this.words(&[0xa1b2_3c4d, 4 << 16 | 2, 0, 0, snaplen, 1]);
                this.out.write_all(&this.head)?;
            }
            Format::Pcapng => {
                // The section's length is not known before its end: all ones.
                this.words(&[0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28]);
                this.out.write_all(&this.head)?;
                // Link type 1; option 9, a byte: times in 10^-9 s; no more options.
                this.words(&[1, 32, 1, snaplen, 1 << 16 | 9, 9, 0, 32]);
                this.out.write_all(&this.head)?;
            }
        }
        this.out.flush()?;
        Ok(this)
    }

    /// Records a frame that is in `pieces`, of `length` bytes in all; `stamp` is nanoseconds since 1970.
    pub(crate) fn record<'p>(
        &mut self,
        stamp: u64,
        length: usize,
        pieces: impl Iterator<Item = &'p [u8]>,
    ) -> io::Result<()> {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let captured = length.min(self.snaplen);
        // Type, flags (option 2: outbound), end of options, length again: 32 and 16 bytes around the padded frame.
        let block = 28 + captured.next_multiple_of(4) + 16;
        match self.format {
            Format::Pcap => {
                let (seconds, rest) = (stamp / 1_000_000_000, stamp % 1_000_000_000);
                self.words(&[seconds as u32, rest as u32, captured, length]);
            }
            Format::Pcapng => {
                self.words(&[6, block, 0, (stamp >> 32) as u32, stamp as u32, captured, length]);
            }
        }
        self.out.write_all(&self.head)?;
        let mut left = captured as usize;
        for piece in pieces {
            let piece = &piece[..piece.len().min(left)];
            self.out.write_all(piece)?;
            left -= piece.len();
        }
        if self.format == Format::Pcapng {
            let padding = [0; 3];
            self.out.write_all(&padding[..(captured.wrapping_neg() & 3) as usize])?;
            self.words(&[4 << 16 | 2, 2, 0, block]);
            self.out.write_all(&self.head)?;
        }
        Ok(())
    }

    /// Hands everything to the file.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn words(&mut self, words: &[u32]) {
        self.head.clear();
        words.iter().for_each(|word| self.head.extend_from_slice(&word.to_le_bytes()));
    }
}
