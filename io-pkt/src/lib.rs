//! The network manager: loads drivers and protocols and carries frames between them.

pub mod drops;
pub mod pool;
pub mod switchboard;
