//! Learning Ethernet bridge between io-pkt interfaces
