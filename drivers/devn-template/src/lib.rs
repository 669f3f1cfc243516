//! The smallest complete io-pkt driver, to copy from
