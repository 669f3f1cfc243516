//! Capture files as bytes: classic pcap and pcapng, read frame by frame from any `Read`.
//!
//! ```text
//!  a1b2c3d4 or a1b23c4d, in either byte order   classic pcap, micro- or nanoseconds
//!  0a0d0d0a                                     pcapng (read/pcapng.rs)
//! ```
//!
//! No length in the file makes the reader allocate more than [`LONGEST`]; every error names the offset at which the file
//! stopped making sense. Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.

mod pcapng;

use std::io::{self, Read};

use thiserror::Error;

use pcapng::Sections;

/// Longest frame of a capture: what tcpdump writes at most.
pub(crate) const LONGEST: u32 = 262_144;
/// Link type of Ethernet.
pub(crate) const ETHERNET: u16 = 1;

const MICRO: u32 = 0xa1b2_c3d4;
const NANO: u32 = 0xa1b2_3c4d;
const PCAPNG: u32 = 0x0a0d_0d0a;

/// What is wrong with a file.
#[derive(Debug, Error)]
pub(crate) enum CaptureError {
    /// The file could not be read.
    #[error("cannot be read at offset {offset}: {source}")]
    Io { offset: u64, source: io::Error },
    /// The first bytes are those of no capture.
    #[error("is neither pcap nor pcapng: it begins with {magic:08x}")]
    NotACapture { magic: u32 },
    /// The file is empty.
    #[error("is empty")]
    Empty,
    /// The file ends where there must be more.
    #[error("is cut off at offset {offset}: {missing} more bytes of {what} should follow")]
    Truncated { offset: u64, missing: usize, what: &'static str },
    /// A field holds what it must not.
    #[error("is damaged at offset {offset}: {what} is {value}")]
    Damaged { offset: u64, what: &'static str, value: u64 },
    /// Another kind of link.
    #[error("is a capture of link type {linktype} (at offset {offset}); only Ethernet (1) can be replayed")]
    LinkType { offset: u64, linktype: u16 },
}

/// A frame of a capture; its bytes are in [`Capture::frame`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// When it was captured, in nanoseconds since 1970; `None` when the file does not say.
    pub(crate) stamp: Option<u64>,
    /// Whether the capture holds all of it.
    pub(crate) whole: bool,
}

/// Byte order of a file or section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Little,
    Big,
}

impl Order {
    pub(crate) fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    pub(crate) fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }
}

#[derive(Debug)]
enum Format {
    Classic { order: Order, nanos: u64, fcs: usize },
    Next(Sections),
}

/// A capture that is being read.
#[derive(Debug)]
pub(crate) struct Capture<R> {
    input: Input<R>,
    format: Format,
    frame: Vec<u8>,
}

impl<R: Read> Capture<R> {
    /// Reads the head of a capture.
    pub(crate) fn open(input: R) -> Result<Self, CaptureError> {
        let mut input = Input { input, offset: 0 };
        let Some(first) = input.maybe::<4>("the file's first word")? else { return Err(CaptureError::Empty) };
        let magic = u32::from_be_bytes(first);
        let format = match (magic, magic.swap_bytes()) {
            (PCAPNG, _) => Format::Next(Sections::open(&mut input)?),
            (MICRO, _) => classic(&mut input, Order::Big, 1000)?,
            (_, MICRO) => classic(&mut input, Order::Little, 1000)?,
            (NANO, _) => classic(&mut input, Order::Big, 1)?,
            (_, NANO) => classic(&mut input, Order::Little, 1)?,
            _ => return Err(CaptureError::NotACapture { magic }),
        };
        Ok(Self { input, format, frame: Vec::new() })
    }

    /// The next frame; `None` at the end of the file.
    pub(crate) fn next(&mut self) -> Result<Option<Record>, CaptureError> {
        match &mut self.format {
            Format::Next(sections) => sections.next(&mut self.input, &mut self.frame),
            Format::Classic { order, nanos, fcs } => {
                let (order, nanos, fcs) = (*order, *nanos, *fcs);
                classic_record(&mut self.input, &mut self.frame, order, nanos, fcs)
            }
        }
    }

    /// The bytes of the last record, without a frame check sequence.
    pub(crate) fn frame(&self) -> &[u8] {
        &self.frame
    }
}

/// The rest of the head: version 2+2, two unused words, snap length, link type.
fn classic<R: Read>(input: &mut Input<R>, order: Order, nanos: u64) -> Result<Format, CaptureError> {
    const HEAD: &str = "the file's head";
    let at = input.offset;
    let major = order.u16(input.exactly(HEAD)?);
    input.exactly::<2>(HEAD)?;
    if major != 2 {
        return Err(CaptureError::Damaged { offset: at, what: "the version", value: major.into() });
    }
    input.exactly::<12>(HEAD)?;
    let at = input.offset;
    let word = order.u32(input.exactly(HEAD)?);
    let linktype = (word & 0xffff) as u16;
    if linktype != ETHERNET {
        return Err(CaptureError::LinkType { offset: at, linktype });
    }
    // Bit 26 says that the top four bits count the 16-bit words of a frame check sequence.
    let fcs = if word & 1 << 26 != 0 { 2 * (word >> 28) as usize } else { 0 };
    Ok(Format::Classic { order, nanos, fcs })
}

/// Seconds, fraction, captured length, length, bytes.
fn classic_record<R: Read>(
    input: &mut Input<R>,
    frame: &mut Vec<u8>,
    order: Order,
    nanos: u64,
    fcs: usize,
) -> Result<Option<Record>, CaptureError> {
    const HEAD: &str = "a record's head";
    let Some(seconds) = input.maybe::<4>(HEAD)? else { return Ok(None) };
    let fraction = order.u32(input.exactly(HEAD)?);
    let at = input.offset;
    let captured = order.u32(input.exactly(HEAD)?);
    let length = order.u32(input.exactly(HEAD)?);
    check_length(at, captured, length)?;
    input.fill(frame, captured, "a frame")?;
    let whole = strip(frame, length, fcs);
    let stamp = u64::from(order.u32(seconds)) * 1_000_000_000 + u64::from(fraction) * nanos;
    Ok(Some(Record { stamp: Some(stamp), whole }))
}

/// Refuses lengths that no frame has, before anything of that length is read.
fn check_length(offset: u64, captured: u32, length: u32) -> Result<(), CaptureError> {
    if captured > LONGEST {
        return Err(CaptureError::Damaged { offset, what: "the length of a frame", value: captured.into() });
    }
    if captured > length && length != 0 {
        let what = "the captured length of a frame, longer than the frame,";
        return Err(CaptureError::Damaged { offset, what, value: captured.into() });
    }
    Ok(())
}

/// Takes the frame check sequence off; tells whether the frame is all there. Some programs leave the length of whole frames
/// out.
fn strip(frame: &mut Vec<u8>, length: u32, fcs: usize) -> bool {
    let length = if length == 0 { frame.len() } else { length as usize };
    let length = length.saturating_sub(fcs);
    frame.truncate(length);
    frame.len() == length
}

/// Bytes that know where they are in the file.
#[derive(Debug)]
pub(crate) struct Input<R> {
    input: R,
    offset: u64,
}

impl<R: Read> Input<R> {
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes, or `None` when the file ends exactly here.
    pub(crate) fn maybe<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<Option<[u8; N]>, CaptureError> {
        let mut bytes = [0; N];
        match self.read(&mut bytes)? {
            0 => Ok(None),
            got if got == N => Ok(Some(bytes)),
            got => Err(CaptureError::Truncated { offset: self.offset, missing: N - got, what }),
        }
    }

    /// The next bytes, which must be there.
    pub(crate) fn exactly<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], CaptureError> {
        let missing = CaptureError::Truncated { offset: self.offset, missing: N, what };
        self.maybe(what)?.ok_or(missing)
    }

    /// The next `len` bytes, as the whole of `to`.
    pub(crate) fn fill(
        &mut self,
        to: &mut Vec<u8>,
        len: u32,
        what: &'static str,
    ) -> Result<(), CaptureError> {
        to.clear();
        to.resize(len as usize, 0);
        let got = self.read(to)?;
        if got < to.len() {
            return Err(CaptureError::Truncated { offset: self.offset, missing: to.len() - got, what });
        }
        Ok(())
    }

    /// Passes over `len` bytes.
    pub(crate) fn skip(&mut self, mut len: u64, what: &'static str) -> Result<(), CaptureError> {
        let mut rubbish = [0; 512];
        while len > 0 {
            let count = len.min(rubbish.len() as u64) as usize;
            let got = self.read(&mut rubbish[..count])?;
            if got < count {
                let missing = usize::try_from(len - got as u64).unwrap_or(usize::MAX);
                return Err(CaptureError::Truncated { offset: self.offset, missing, what });
            }
            len -= count as u64;
        }
        Ok(())
    }

    /// Reads until the buffer is full or the file ends.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, CaptureError> {
        let mut got = 0;
        while got < buffer.len() {
            match self.input.read(&mut buffer[got..]) {
                Ok(0) => break,
                Ok(count) => {
                    got += count;
                    self.offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(CaptureError::Io { offset: self.offset, source }),
            }
        }
        Ok(got)
    }
}

#[cfg(test)]
mod tests;
