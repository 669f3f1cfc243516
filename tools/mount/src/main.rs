//! QNX's mount for io-pkt

fn main() {}
