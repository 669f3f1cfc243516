//! QNX's umount for io-pkt

fn main() {}
