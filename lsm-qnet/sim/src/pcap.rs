//! A minimal writer of the classic pcap format, so that stock tools can judge simulated frames.
//!
//! Nanosecond times, Ethernet frames with made-up headers, padded as a wire would pad them.

use std::time::Duration;

/// Frames of a capture, as the bytes of a pcap file with nanosecond times and Ethernet frames.
#[derive(Clone, Debug)]
pub struct Pcap {
    bytes: Vec<u8>,
    frames: usize,
}

impl Default for Pcap {
    fn default() -> Pcap {
        Pcap::new()
    }
}

impl Pcap {
    /// An empty capture.
    #[must_use]
    pub fn new() -> Pcap {
        let mut bytes = Vec::new();
        bytes.extend(0xa1b2_3c4d_u32.to_le_bytes()); // nanosecond variant
        bytes.extend(2u16.to_le_bytes());
        bytes.extend(4u16.to_le_bytes());
        bytes.extend([0; 8]); // time zone, accuracy
        bytes.extend(65_535u32.to_le_bytes());
        bytes.extend(1u32.to_le_bytes()); // Ethernet
        Pcap { bytes, frames: 0 }
    }

    /// Appends an Ethernet frame, padded to the 60 bytes a wire would carry.
    pub fn add(&mut self, at: Duration, dst: [u8; 6], src: [u8; 6], ethertype: u16, payload: &[u8]) {
        let len = (14 + payload.len()).max(60);
        self.bytes.extend((at.as_secs() as u32).to_le_bytes());
        self.bytes.extend(at.subsec_nanos().to_le_bytes());
        self.bytes.extend((len as u32).to_le_bytes());
        self.bytes.extend((len as u32).to_le_bytes());
        let end = self.bytes.len() + len;
        self.bytes.extend(dst);
        self.bytes.extend(src);
        self.bytes.extend(ethertype.to_be_bytes());
        self.bytes.extend(payload);
        self.bytes.resize(end, 0);
        self.frames += 1;
    }

    /// How many frames it holds.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// The file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
