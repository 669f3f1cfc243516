//! Several Qnet nodes on one machine, as a library; the program `qnet-lab` is its face.
//!
//! Each node has its own network, mount, UTS, IPC and PID namespaces, without root also a user
//! namespace, and a private root, so that `/etc/hostname`, `/net`, `/dev/io-net`, `/run` and
//! `/tmp` are its own. All nodes are plugged into one switch in a namespace of its own. The
//! machine's interfaces, `/net` and `/dev/io-net` are never touched.
//!
//! ```no_run
//! use qnet_lab::{Lab, Options};
//!
//! let lab = Lab::temporary()?;
//! let nodes = lab.up(2, &Options::default())?;
//! let output = nodes[0].command("ls").arg("/net").output().expect("ls runs");
//! assert!(String::from_utf8_lossy(&output.stdout).contains("joseph"));
//! # Ok::<(), qnet_lab::LabError>(())
//! ```
//!
//! Namespaces are joined by processes with one thread only, so the library starts the program
//! `qnet-lab` for that, which must lie in the same folder (or one above, for tests).

mod abilities;
mod daemon;
mod enter;
mod error;
mod holder;
mod lab;
pub mod names;
mod net;
mod node;
mod programs;
mod root;
pub mod service;
mod state;
mod sys;
pub mod wait;

pub use abilities::{Abilities, Lack};
pub use daemon::Start;
pub use error::LabError;
pub use lab::{Lab, Options};
pub use node::Node;
pub use state::{Isolation, LabRecord, NodeRecord, Process, State, Wire};
