//! The golden frames, shared by the wire tests.
//!
//! They were made by an independent generator and checked with stock tshark; the code under test had
//! no part in them.

/// One golden frame.
pub(crate) struct Golden {
    /// Its label in `golden/frames.txt`.
    pub(crate) label: &'static str,
    /// Everything behind the Ethernet header, padding included.
    pub(crate) frame: Vec<u8>,
}

/// All golden frames.
pub(crate) fn golden() -> Vec<Golden> {
    include_str!("../golden/frames.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (label, hex) = line.split_once(' ').unwrap();
            let bytes: Vec<u8> =
                (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
            assert_eq!(bytes[12..14], [0x82, 0x04], "{label}");
            Golden { label, frame: bytes[14..].to_vec() }
        })
        .collect()
}
