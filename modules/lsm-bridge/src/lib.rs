//! `lsm-bridge`: joins interfaces of io-pkt as a learning Ethernet bridge does.
//!
//! ```text
//!  io-pkt -d packet dev=eth1,promiscuous -d packet dev=eth2,promiscuous -p bridge
//!  io-pkt … -p bridge ports=en0:en1,age=60
//! ```
//!
//! It asks the switchboard for all frames (Qnet's own ethertype still goes to `lsm-qnet`), learns where stations are from
//! the frames they send, and forwards by reference: no frame is copied. It makes no frames of its own and takes no part
//! in a spanning tree, so a loop in the cabling stays a loop. `/dev/io-net/bridge0` stands for it and can be unmounted.
//!
//! | File | What |
//! |---|---|
//! | `switch.rs` | what to do with one frame (pure) |
//! | `table.rs` | which station is behind which port (pure) |
//! | `shares.rs` | which bridge has which interfaces |
//! | `bridge.rs` | batches, ports that come and go, reports |

#![deny(unsafe_code)]

mod bridge;
mod shares;
mod switch;
mod table;

pub use bridge::Bridge;
pub use switch::{Counters, Mac, PortId, Reason, Switch, Verdict};
pub use table::{Learned, Row, Table};

io_pkt_sdk::export_protocol!("lsm-bridge", Bridge);
