//! Scattered buffers as one run of bytes.

use std::io::{IoSlice, IoSliceMut};

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

/// Spreads `bytes` over the buffers; returns how many found room.
pub(crate) fn scatter(bytes: &[u8], parts: &mut [IoSliceMut<'_>]) -> usize {
    let mut done = 0;
    for part in parts {
        let n = part.len().min(bytes.len() - done);
        part[..n].copy_from_slice(&bytes[done..done + n]);
        done += n;
    }
    done
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
        assert_eq!(scatter(b"wxyz123", &mut parts), 5);
        assert_eq!((&a, &b), (b"wx", b"yz1"));
    }
}
