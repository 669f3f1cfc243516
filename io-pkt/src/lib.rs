//! The network manager: loads drivers and protocols and carries frames between them.

pub mod border;
pub mod check;
pub mod cli;
pub mod clock;
pub mod control;
pub mod core;
pub mod drops;
pub mod event_loop;
pub mod helpers;
pub mod interface;
pub mod logging;
pub mod names;
pub mod pool;
pub mod process;
pub mod registry;
pub mod sources;
pub mod start;
pub mod switchboard;
pub mod token;
pub mod uses;
