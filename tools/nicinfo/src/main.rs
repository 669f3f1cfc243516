//! Shows what io-pkt knows of its network interfaces

fn main() {}
