//! A message on its way out, in the memory it came in.
//!
//! What a program writes comes from the kernel in one buffer: header, arguments, data. The head of the `_IO_WRITE` takes the
//! place of the arguments, so the data are sent from where the kernel has put them. Short data are copied instead: a whole
//! buffer is not kept for them.

use std::ops::Deref;

use qnet_iomsg::Io;

use crate::fuse::{READ_BUFFER, WRITE_DATA};

/// Data from this length on stay in the kernel's buffer.
const KEEP: usize = 64 * 1024;

/// The bytes of a message.
#[derive(Debug, Default)]
pub struct Message {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Message {
    /// A WRITE of the `len` bytes of data in a request of the kernel, with the bits in `xtype`. `buffer` is taken, and
    /// left empty, when it is worth it.
    ///
    /// # Panics
    /// The request has fewer bytes.
    pub fn write(buffer: &mut Vec<u8>, len: usize, xtype: u32, offset: Option<u64>) -> Self {
        let nbytes = u32::try_from(len).expect("a request is never longer than MAX_TRANSFER");
        let mut bytes = Io::Write { nbytes, xtype, offset, data: &[] }.to_bytes();
        let end = WRITE_DATA + len;
        if len < KEEP {
            bytes.extend_from_slice(&buffer[WRITE_DATA..end]);
            return Self::from(bytes);
        }
        let start = WRITE_DATA - bytes.len();
        buffer[start..WRITE_DATA].copy_from_slice(&bytes);
        Self { bytes: std::mem::take(buffer), start, end }
    }

    /// The buffer, to be read into again, if it is one.
    pub(super) fn into_spare(self) -> Option<Vec<u8>> {
        Some(self.bytes).filter(|bytes| bytes.len() == READ_BUFFER)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        let end = bytes.len();
        Self { bytes, start: 0, end }
    }
}

impl Deref for Message {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use qnet_iomsg::chain;

    use super::*;

    #[track_caller]
    fn expect(message: &Message, data: &[u8], offset: Option<u64>) {
        let (io, _) = chain(message).next().unwrap().unwrap();
        assert_eq!(io, Io::Write { nbytes: data.len() as u32, xtype: 0, offset, data });
    }

    #[test]
    fn long_data_stay_where_they_are() {
        let data: Vec<u8> = (0..KEEP).map(|at| at as u8).collect();
        for offset in [None, Some(1 << 40)] {
            let mut buffer = vec![0; READ_BUFFER];
            buffer[WRITE_DATA..WRITE_DATA + KEEP].copy_from_slice(&data);
            let place = buffer.as_ptr();
            let message = Message::write(&mut buffer, KEEP, 0, offset);
            expect(&message, &data, offset);
            assert!(buffer.is_empty());
            let spare = message.into_spare().unwrap();
            assert_eq!((spare.as_ptr(), spare.len()), (place, READ_BUFFER));
        }
    }

    #[test]
    fn short_data_leave_the_buffer_alone() {
        let mut buffer = vec![7; READ_BUFFER];
        let message = Message::write(&mut buffer, 5, 0, Some(3));
        expect(&message, &[7; 5], Some(3));
        assert_eq!(buffer.len(), READ_BUFFER);
        assert!(message.into_spare().is_none());
    }
}
