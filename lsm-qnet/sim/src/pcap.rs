//! A minimal writer of the classic pcap format, so that stock tools can judge simulated frames.
//!
//! Nanosecond times, Ethernet frames with made-up headers, padded as a wire would pad them.

use std::time::Duration;

/// Frames of a capture, as the bytes of a pcap file with nanosecond times and Ethernet frames.
#[derive(Clone, Debug)]
pub struct Pcap {
    /// Records before those of `newer`.
    older: Vec<u8>,
    newer: Vec<u8>,
    /// Bytes of `newer` beyond which it becomes `older`, and what was that is forgotten.
    half: usize,
    frames: usize,
    forgotten: usize,
    /// Of the frames, those in `older`.
    in_older: usize,
}

impl Default for Pcap {
    fn default() -> Pcap {
        Pcap::new()
    }
}

impl Pcap {
    /// An empty capture that keeps everything.
    #[must_use]
    pub fn new() -> Pcap {
        Pcap::of_the_last(usize::MAX)
    }

    /// An empty capture of at most about `bytes`: it forgets its oldest frames, and has at least half as many bytes of
    /// the last ones.
    #[must_use]
    pub fn of_the_last(bytes: usize) -> Pcap {
        let half = bytes / 2;
        Pcap { older: Vec::new(), newer: Vec::new(), half, frames: 0, forgotten: 0, in_older: 0 }
    }

    /// Appends an Ethernet frame, padded to the 60 bytes a wire would carry.
    pub fn add(&mut self, at: Duration, dst: [u8; 6], src: [u8; 6], ethertype: u16, payload: &[u8]) {
        let len = (14 + payload.len()).max(60);
        if self.newer.len() + len > self.half {
            self.older = std::mem::take(&mut self.newer);
            self.forgotten += self.in_older;
            self.in_older = self.frames - self.forgotten;
        }
        let bytes = &mut self.newer;
        bytes.extend((at.as_secs() as u32).to_le_bytes());
        bytes.extend(at.subsec_nanos().to_le_bytes());
        bytes.extend((len as u32).to_le_bytes());
        bytes.extend((len as u32).to_le_bytes());
        let end = bytes.len() + len;
        bytes.extend(dst);
        bytes.extend(src);
        bytes.extend(ethertype.to_be_bytes());
        bytes.extend(payload);
        bytes.resize(end, 0);
        self.frames += 1;
    }

    /// How many frames it holds.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames - self.forgotten
    }

    /// How many frames it held once, before those.
    #[must_use]
    pub fn forgotten(&self) -> usize {
        self.forgotten
    }

    /// The file.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(24 + self.older.len() + self.newer.len());
        bytes.extend(0xa1b2_3c4d_u32.to_le_bytes()); // nanosecond variant
        bytes.extend(2u16.to_le_bytes());
        bytes.extend(4u16.to_le_bytes());
        bytes.extend([0; 8]); // time zone, accuracy
        bytes.extend(65_535u32.to_le_bytes());
        bytes.extend(1u32.to_le_bytes()); // Ethernet
        bytes.extend(&self.older);
        bytes.extend(&self.newer);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(mut pcap: Pcap, frames: u32) -> Pcap {
        for second in 0..frames {
            pcap.add(Duration::from_secs(second.into()), [1; 6], [2; 6], 0x8204, &[0; 986]);
        }
        pcap
    }

    /// Seconds of the frames in a file of frames of 1,000 bytes.
    fn seconds(pcap: &Pcap) -> Vec<u32> {
        let bytes = pcap.bytes();
        let second = |record: &[u8]| u32::from_le_bytes(record[..4].try_into().unwrap());
        bytes[24..].chunks(1016).map(second).collect()
    }

    #[test]
    fn a_bounded_capture_has_the_last_frames_and_says_how_many_it_forgot() {
        let pcap = capture(Pcap::of_the_last(10_500), 100);
        assert!((5_000..=10_600).contains(&pcap.bytes().len()), "{}", pcap.bytes().len());
        let kept: Vec<u32> = (pcap.forgotten() as u32..100).collect();
        assert_eq!((seconds(&pcap), pcap.frames()), (kept.clone(), kept.len()));
    }

    #[test]
    fn another_capture_has_everything() {
        let pcap = capture(Pcap::new(), 100);
        assert_eq!((seconds(&pcap), pcap.frames(), pcap.forgotten()), ((0..100).collect(), 100, 0));
    }
}
