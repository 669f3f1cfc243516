//! The checksum against what it could cost: a table-driven one in safe code, and a plain copy of the same bytes.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use qnet_proto::wire::crc::Crc;

/// Who works on the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worker {
    /// The checksum that packets carry.
    Packets,
    /// The same polynomial with sixteen tables of 256 words, bytes sixteen at a time.
    Tables,
    /// A copy: what memory allows.
    Copy,
}

impl Worker {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 3] = [Self::Packets, Self::Tables, Self::Copy];

    /// Name in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Packets => "qnet-proto (crc-fast)",
            Self::Tables => "sixteen tables",
            Self::Copy => "copy",
        }
    }
}

/// What the workers work with.
#[derive(Debug)]
pub struct Bench {
    crc: Crc,
    tables: Tables,
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Bench {
    /// With packets of at most `longest` bytes.
    #[must_use]
    pub fn new(longest: usize) -> Self {
        let from = (0..longest as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
        Self { crc: Crc::new(), tables: Tables::new(), from, to: vec![0; longest] }
    }

    /// Bytes a second of one worker with packets of `len` bytes, for about `span`.
    pub fn rate(&mut self, worker: Worker, len: usize, span: Duration) -> f64 {
        let (start, mut packets) = (Instant::now(), 0_u64);
        loop {
            for _ in 0..64 {
                self.once(worker, len);
            }
            packets += 64;
            let elapsed = start.elapsed();
            if elapsed >= span {
                return packets as f64 * len as f64 / elapsed.as_secs_f64();
            }
        }
    }

    fn once(&mut self, worker: Worker, len: usize) {
        let bytes = black_box(&self.from[..len]);
        match worker {
            Worker::Packets => drop(black_box(self.crc.of(&[bytes]))),
            Worker::Tables => drop(black_box(self.tables.of(bytes))),
            Worker::Copy => {
                self.to[..len].copy_from_slice(bytes);
                black_box(&self.to);
            }
        }
    }
}

/// The yardstick: table `n` holds what a byte becomes `n` bytes later.
#[derive(Debug)]
struct Tables(Box<[[u32; 256]; 16]>);

impl Tables {
    fn new() -> Self {
        const POLYNOMIAL: u32 = 0x04c1_1db7;
        let mut tables = Box::new([[0; 256]; 16]);
        for byte in 0..256_u32 {
            let mut register = byte << 24;
            for _ in 0..8 {
                register = register << 1 ^ if register >> 31 == 0 { 0 } else { POLYNOMIAL };
            }
            tables[0][byte as usize] = register;
        }
        for later in 1..16 {
            for byte in 0..256 {
                let before = tables[later - 1][byte];
                tables[later][byte] = before << 8 ^ tables[0][(before >> 24) as usize];
            }
        }
        Self(tables)
    }

    fn of(&self, bytes: &[u8]) -> u32 {
        let (blocks, rest) = bytes.as_chunks::<16>();
        let mut register = 0_u32;
        for block in blocks {
            let mut block = *block;
            for (byte, carried) in block.iter_mut().zip(register.to_be_bytes()) {
                *byte ^= carried;
            }
            register =
                block.iter().zip(self.0.iter().rev()).fold(0, |sum, (&b, table)| sum ^ table[usize::from(b)]);
        }
        rest.iter().fold(register, |register, &byte| {
            register << 8 ^ self.0[0][usize::from((register >> 24) as u8 ^ byte)]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_compute_the_same_checksum() {
        let bench = Bench::new(300);
        for len in 0..300 {
            assert_eq!(
                bench.tables.of(&bench.from[..len]),
                bench.crc.of(&[&bench.from[..len]]),
                "{len} bytes"
            );
        }
    }
}
