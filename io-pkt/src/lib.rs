//! The network manager: loads drivers and protocols and carries frames between them.

pub mod cli;
pub mod drops;
pub mod logging;
pub mod names;
pub mod pool;
pub mod switchboard;
