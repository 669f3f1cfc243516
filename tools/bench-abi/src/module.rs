//! The bridge behind the border: `lsm-bridge.so`, loaded and called as `io-pkt` does.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use io_pkt_host::{Kind, LoadMode, Loader, ProtocolUse, UseSpec};

use crate::{FROM, TO, host::Host};

/// Forwards `rounds` times one batch in each direction; returns the frames that were sent.
///
/// # Errors
/// When the module cannot be loaded or a call fails.
pub fn run(path: &Path, rounds: usize) -> Result<u64> {
    let host = Host::new();
    let mut loader = Loader::new(LoadMode::Memfd);
    let build = loader.load(Kind::Protocol, path)?;
    let spec = UseSpec {
        name: "bridge0",
        instance: 0,
        host: host.table(),
        ctx: host.ctx(),
        root: "/nonexistent",
        devices: "/nonexistent",
        net: "/nonexistent",
        options: &[],
        state: &[],
    };
    // SAFETY: the host stands until the end of this function, longer than the use.
    let mut bridge = unsafe { ProtocolUse::create(&build, &spec) }?;
    bridge.start()?;
    let mut told = Ok(());
    host.arrivals(|event| {
        // SAFETY: the event's texts are static and its data lives during the call.
        let result = unsafe { bridge.interface_event(event) };
        told = std::mem::replace(&mut told, Ok(())).and(result);
    });
    told.context("the bridge did not take its interfaces")?;
    let (there, back) = (host.batch(false), host.batch(true));
    for _ in 0..rounds {
        bridge.receive(FROM, &there)?;
        bridge.receive(TO, &back)?;
    }
    ensure!(host.log().is_empty(), "the bridge says: {}", host.log());
    Ok(host.sent())
}
