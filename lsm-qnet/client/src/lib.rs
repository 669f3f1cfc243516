//! libqnet: QNX message passing for Rust programs
