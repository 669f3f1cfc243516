//! The network manager: loads drivers and protocols and carries frames between them.

fn main() {}
