//! What the benchmarks share.
//!
//! A benchmark is one program that starts itself again for every part: [`rig`] makes namespaces with veth pairs, [`part`]
//! is a process that reads a line and answers with a line, [`role`] are the parts that every benchmark may need.
//! Round trips are planned and counted in [`trips`], carried by others' means in [`pingpong`], and placed on CPUs by
//! [`placement`]. [`report`] makes the tables and the JSON.
//!
//! Everything that is compared runs in turn within each round, so that a machine that slows down slows all of them
//! down. The ratios of a round count, not the figures.

pub mod contestant;
pub mod daemon;
pub mod datagram;
pub mod frame;
pub mod install;
pub mod part;
pub mod pingpong;
pub mod placement;
pub mod report;
pub mod rig;
pub mod role;
pub mod shared;
pub mod spread;
pub mod stream;
pub mod sys;
pub mod trips;
