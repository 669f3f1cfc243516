//! Parts of Qnet's benchmarks: `cargo xtask bench crc`.

pub mod crc;
pub mod spread;
