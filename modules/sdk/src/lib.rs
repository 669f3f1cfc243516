//! Write io-pkt drivers and protocols in safe Rust.
//!
//! A driver implements [`Driver`], a protocol implements [`Protocol`]; [`export_driver!`] or [`export_protocol!`] turns the
//! crate (a `cdylib`) into a module that `io-pkt` loads. `drivers/devn-template` is a complete example, line by line.
//!
//! ```text
//!  your crate          this crate                                    io-pkt
//!  impl Driver ──► driver.rs: table of entries ── fence.rs ── ABI ──► modules/host
//!     Host ◄────── host.rs: time, pool, deliver, watch, spawn ◄────── io-pkt
//!     Batch ◄───── batch.rs, frame.rs, tx.rs, stock.rs: frames in the pool
//! ```
//!
//! What the SDK takes care of: panics become a failed use (`fence.rs`); `tracing` events reach the daemon's log
//! (`log.rs`); chunks go back to the pool when a [`Batch`] is dropped; handles go dead when the use is destroyed. On the
//! frame path nothing is allocated or locked, and a batch costs one call across the border.

mod args;
mod batch;
mod driver;
mod entry;
mod error;
pub mod export;
mod fence;
mod frame;
mod helper;
mod host;
pub mod interface;
pub mod linux;
mod log;
mod mac;
mod options;
mod protocol;
mod raw;
mod resolver;
mod stock;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod tx;
mod work;

pub use args::{Args, Generic};
pub use batch::{BATCH, Batch, Cursor, CursorFrame};
pub use driver::{Driver, driver_table};
pub use error::Error;
pub use frame::{ETHERNET_HEADER, Frame, Frames};
pub use helper::{Helper, HelperSpec};
pub use host::{Host, Interest, PollHandle, PoolView, Waker};
pub use interface::{Interface, InterfaceId};
/// The border itself, for those who need its constants and plain data.
pub use io_pkt_abi as abi;
pub use io_pkt_abi::{DriverStats, FrameDesc, info::UNKNOWN};
pub use mac::{Mac, ParseMacError};
pub use options::Opt;
pub use protocol::{Protocol, protocol_table};
pub use resolver::{Log, NodeAddress, OpenResolver, Resolver, resolver_table};
pub use stock::{PushError, Stock};
pub use tx::TxBatch;
pub use work::{Ready, Work};
