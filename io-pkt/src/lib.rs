//! The network manager: loads drivers and protocols and carries frames between them.

pub mod border;
pub mod cli;
pub mod clock;
pub mod core;
pub mod drops;
pub mod helpers;
pub mod interface;
pub mod logging;
pub mod names;
pub mod pool;
pub mod sources;
pub mod switchboard;
pub mod token;
pub mod uses;
