//! What the benchmarks share.
//!
//! A benchmark is one program that starts itself again for every part ([`stage`]): [`rig`] makes namespaces with veth pairs,
//! [`part`] is a process that reads a line and answers with a line, [`role`] are the parts that every benchmark may need.
//! Namespaces and files live as long as the benchmark and not a moment longer, whichever way it ends ([`space`]).
//! Round trips are planned and counted in [`trips`], carried by others' means in [`pingpong`] and by messages to a [`server`], and placed on CPUs by
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
pub mod server;
pub mod shared;
pub mod space;
pub mod spread;
pub mod stage;
pub mod stream;
pub mod sys;
pub mod trips;

/// True when a program of that name is in the path, or where Debian keeps the administrator's.
#[must_use]
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    places.into_iter().any(|directory| directory.join(program).is_file())
}
