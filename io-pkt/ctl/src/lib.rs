//! Control messages of io-pkt and a client for them
