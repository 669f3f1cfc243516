//! Scattered buffers as one run of bytes.

use std::{
    borrow::Cow,
    io::{IoSlice, IoSliceMut},
    sync::{Mutex, OnceLock},
};

use qnet_ipc::Loan;

use crate::process::lock;

/// Bytes in all.
pub(crate) fn len(parts: &[IoSlice<'_>]) -> usize {
    parts.iter().map(|part| part.len()).sum()
}

/// Bytes `offset` to `offset + nbytes` of the run, cut at its end.
pub(crate) fn gather(parts: &[IoSlice<'_>], offset: usize, nbytes: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut skip = offset;
    for part in parts {
        let rest = part.get(skip..).unwrap_or_default();
        skip = skip.saturating_sub(part.len());
        bytes.extend_from_slice(&rest[..rest.len().min(nbytes - bytes.len())]);
        if bytes.len() == nbytes {
            break;
        }
    }
    bytes
}

/// Bytes `offset` to `offset + nbytes` of the run, borrowed when they lie in one part.
pub(crate) fn piece<'a>(parts: &'a [IoSlice<'_>], offset: usize, nbytes: usize) -> Cow<'a, [u8]> {
    let mut skip = offset;
    for part in parts {
        if skip < part.len() || (part.is_empty() && nbytes == 0) {
            if let Some(bytes) = part.get(skip..skip.saturating_add(nbytes)) {
                return Cow::Borrowed(bytes);
            }
            return Cow::Owned(gather(parts, offset, nbytes));
        }
        skip -= part.len();
    }
    Cow::Borrowed(&[])
}

/// Spreads `bytes` over the run of buffers from `offset` on; returns how many found room.
pub(crate) fn scatter_at(bytes: &[u8], parts: &mut [IoSliceMut<'_>], offset: usize) -> usize {
    let (mut done, mut skip) = (0, offset);
    for part in parts {
        if done == bytes.len() {
            break;
        }
        let at = skip.min(part.len());
        skip -= at;
        let n = (part.len() - at).min(bytes.len() - done);
        part[at..at + n].copy_from_slice(&bytes[done..done + n]);
        done += n;
    }
    done
}

/// Data that was taken in, or still lies where its sender put it.
#[derive(Debug)]
pub(crate) enum Payload {
    Bytes(Vec<u8>),
    Lent(Loan),
}

impl Payload {
    pub(crate) fn chunk(&self) -> Chunk<'_> {
        match self {
            Self::Bytes(bytes) => Chunk::Here(bytes),
            Self::Lent(loan) => Chunk::Lent(loan),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.chunk().len()
    }
}

/// What came along with a received message. Lent data stays where its sender put it until somebody wants it as a slice: the
/// sender can write there, so a slice must be a copy. Read in pieces, it goes straight into the reader's buffers.
#[derive(Debug)]
pub(crate) struct Body {
    bytes: OnceLock<Vec<u8>>,
    loan: Mutex<Option<Loan>>,
    len: usize,
}

impl Body {
    pub(crate) fn new(payload: Payload) -> Self {
        let len = payload.len();
        match payload {
            Payload::Bytes(bytes) => Self { bytes: bytes.into(), loan: Mutex::new(None), len },
            Payload::Lent(loan) => Self { bytes: OnceLock::new(), loan: Mutex::new(Some(loan)), len },
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All of it. What was lent is given back.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get_or_init(|| {
            let loan = lock(&self.loan).take();
            loan.map_or_else(Vec::new, |loan| Chunk::Lent(&loan).to_vec(loan.len()))
        })
    }

    /// Spreads what there is from `offset` on over `parts`; returns how many bytes found room.
    pub(crate) fn read_at(&self, offset: usize, parts: &mut [IoSliceMut<'_>]) -> usize {
        if self.bytes.get().is_none()
            && let Some(loan) = &*lock(&self.loan)
        {
            let mut done = 0;
            for part in parts {
                done += loan.copy(offset + done, part);
            }
            return done;
        }
        scatter_at(self.bytes().get(offset..).unwrap_or_default(), parts, 0)
    }

    /// Gives back what was lent; it is not there any more.
    pub(crate) fn release(&self) {
        drop(lock(&self.loan).take());
    }

    #[cfg(test)]
    pub(crate) fn is_lent(&self) -> bool {
        lock(&self.loan).is_some()
    }
}

/// Data of a packet: in the receive buffer, or where the sender left it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Chunk<'a> {
    Here(&'a [u8]),
    Lent(&'a Loan),
}

impl<'a> Chunk<'a> {
    /// The data of a packet that came with or without a loan.
    pub(crate) fn of(data: &'a [u8], loan: Option<&'a Loan>) -> Self {
        loan.map_or(Self::Here(data), Self::Lent)
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Here(data) => data.len(),
            Self::Lent(loan) => loan.len(),
        }
    }

    /// Its first `n` bytes.
    pub(crate) fn to_vec(self, n: usize) -> Vec<u8> {
        match self {
            Self::Here(data) => data[..n.min(data.len())].to_vec(),
            Self::Lent(loan) => {
                let mut bytes = vec![0; n.min(loan.len())];
                loan.copy(0, &mut bytes);
                bytes
            }
        }
    }

    /// Spreads its first `n` bytes over the run of buffers from `offset` on; returns how many found room.
    pub(crate) fn scatter_at(self, n: usize, parts: &mut [IoSliceMut<'_>], offset: usize) -> usize {
        let loan = match self {
            Self::Here(data) => return scatter_at(&data[..n.min(data.len())], parts, offset),
            Self::Lent(loan) => loan,
        };
        let (n, mut done, mut skip) = (n.min(loan.len()), 0, offset);
        for part in parts {
            let at = skip.min(part.len());
            skip -= at;
            let end = part.len().min(at + (n - done));
            done += loan.copy(done, &mut part[at..end]);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathering_crosses_the_borders_of_parts() {
        let parts = [IoSlice::new(b"abc"), IoSlice::new(b""), IoSlice::new(b"defg")];
        assert_eq!(len(&parts), 7);
        assert_eq!(gather(&parts, 0, 7), b"abcdefg");
        assert_eq!(gather(&parts, 2, 3), b"cde");
        assert_eq!(gather(&parts, 5, 100), b"fg");
        assert_eq!(gather(&parts, 9, 1), b"");
    }

    #[test]
    fn scattering_stops_at_the_end_of_the_room() {
        let (mut a, mut b) = ([0; 2], [0; 3]);
        let mut parts = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
        assert_eq!(scatter_at(b"wxyz123", &mut parts, 0), 5);
        assert_eq!((&a, &b), (b"wx", b"yz1"));
    }

    #[test]
    fn scattering_begins_anywhere() {
        let (mut a, mut b) = ([0; 2], [0; 3]);
        let mut parts = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
        assert_eq!(scatter_at(b"xy", &mut parts, 1), 2);
        assert_eq!(scatter_at(b"zzz", &mut parts, 4), 1);
        assert_eq!(scatter_at(b"z", &mut parts, 5), 0);
        assert_eq!((&a, &b), (&[0, b'x'], &[b'y', 0, b'z']));
    }

    #[test]
    fn a_piece_of_one_part_is_not_copied() {
        let parts = [IoSlice::new(b"abc"), IoSlice::new(b"defg")];
        assert!(matches!(piece(&parts, 4, 2), Cow::Borrowed(b"ef")));
        assert!(matches!(piece(&parts, 2, 2), Cow::Owned(bytes) if bytes == b"cd"));
        assert!(matches!(piece(&parts, 7, 5), Cow::Borrowed(b"")));
        assert!(matches!(piece(&[], 0, 0), Cow::Borrowed(b"")));
    }
}
