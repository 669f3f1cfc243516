//! Linux interfaces through AF_PACKET
