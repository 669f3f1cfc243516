//! The network manager: loads drivers and protocols and carries frames between them.
//!
//! ```text
//!  main ─ cli ─ start ─ event_loop ─┬─ registry ─ uses ─ (modules, through io-pkt-host)
//!                                   └─ control            │ host functions
//!                       core: pool, switchboard, sources, helpers ◄─ border
//! ```
//!
//! `start` lists the steps from the command line to the loop. `registry::carry` is the frame path. The crate is a
//! library so that its parts can be tested; the only user of the whole is the program `io-pkt`.

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
pub mod threads;
pub mod token;
pub mod uses;
