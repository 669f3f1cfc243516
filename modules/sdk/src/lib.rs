//! Write io-pkt drivers and protocols in safe Rust
