//! Workshop of the conformance suite: builds the modules that the tests load, and damages copies of them.
//!
//! The suite itself is in `tests/`. System tests use the same modules: [`workshop::Workshop`] makes the C driver, the driver
//! that misbehaves on demand, the one of frozen ABI 1.0 and one of a later minor version; [`forge`] makes files that must
//! be refused.

pub mod forge;
pub mod layout;
pub mod workshop;

pub use workshop::{Workshop, WorkshopError};
