//! The bridge without a border: the same crate, linked, its methods called directly.
//!
//! Only its making goes through the table, because that is where a [`Host`] handle comes from; then the bridge is taken
//! out and called as any Rust value.

use std::cell::RefCell;

use anyhow::{Context, Result, ensure};
use io_pkt_abi::{Bytes, CreateArgs, TextBuf};
use io_pkt_sdk::{Args, Batch, Error, Host, InterfaceId, Protocol, Work, interface::Event, protocol_table};
use lsm_bridge::Bridge;

use crate::{FROM, TO, host};

thread_local! {
    static MADE: RefCell<Option<(Host, Bridge)>> = const { RefCell::new(None) };
}

/// Makes a bridge and leaves it, with its host handle, in [`MADE`].
struct Maker;

impl Maker {
    fn with<T>(body: impl FnOnce(&mut Bridge) -> Result<T, Error>) -> Result<T, Error> {
        MADE.with_borrow_mut(|made| match made {
            Some((_, bridge)) => body(bridge),
            None => Err(Error::new(19, "the bridge was taken out")),
        })
    }
}

impl Protocol for Maker {
    const PREFIX: &'static str = Bridge::PREFIX;

    fn create(host: Host, args: &Args<'_>) -> Result<Self, Error> {
        let bridge = Bridge::create(host.clone(), args)?;
        MADE.set(Some((host, bridge)));
        Ok(Self)
    }

    fn start(&mut self) -> Result<(), Error> {
        Self::with(Bridge::start)
    }

    fn poll(&mut self, work: &mut Work<'_>) -> Result<(), Error> {
        Self::with(|bridge| bridge.poll(work))
    }

    fn receive(&mut self, interface: InterfaceId, frames: &mut Batch) -> Result<(), Error> {
        Self::with(|bridge| bridge.receive(interface, frames))
    }

    fn interface_event(&mut self, event: &Event) -> Result<(), Error> {
        Self::with(|bridge| bridge.interface_event(event))
    }

    fn report(&mut self, topic: &str, out: &mut dyn std::fmt::Write) -> Result<(), Error> {
        Self::with(|bridge| bridge.report(topic, out))
    }
}

/// Forwards `rounds` times one batch in each direction; returns the frames that were sent.
///
/// # Errors
/// When the bridge cannot be made or a call fails.
pub fn run(rounds: usize) -> Result<u64> {
    let stand_in = host::Host::new();
    let table = protocol_table::<Maker>();
    let mut room = [0_u8; 256];
    let mut error = TextBuf { ptr: room.as_mut_ptr(), cap: room.len() as u64, len: 0 };
    let args = CreateArgs {
        size: size_of::<CreateArgs>() as u32,
        instance: 0,
        host: stand_in.table(),
        ctx: stand_in.ctx(),
        name: Bytes::from_static("bridge0"),
        root: Bytes::from_static("/nonexistent"),
        options: std::ptr::null(),
        n_options: 0,
        state: Bytes::EMPTY,
        error: &raw mut error,
        devices: Bytes::from_static("/nonexistent"),
        net: Bytes::from_static("/nonexistent"),
    };
    let mut made = std::ptr::null_mut();
    // SAFETY: all that the arguments point to lives until the end of this function.
    let code = unsafe { (table.create)(&raw const args, &raw mut made) };
    ensure!(code == 0, "the bridge cannot be made: {code}");
    // SAFETY: a use that was just made; no other call of it is running.
    let code = unsafe { (table.start)(made, &raw mut error) };
    ensure!(code == 0, "the bridge cannot be started: {code}");
    stand_in.arrivals(|event| {
        // SAFETY: as above; the event lives during the call.
        unsafe { (table.interface_event)(made, event) };
    });
    let (host, mut bridge) = MADE.take().context("the bridge was not made")?;
    forward(&stand_in, &host, &mut bridge, rounds)?;
    drop(bridge);
    // SAFETY: made above, destroyed once.
    unsafe { (table.destroy)(made) };
    Ok(stand_in.sent())
}

fn forward(stand_in: &host::Host, host: &Host, bridge: &mut Bridge, rounds: usize) -> Result<()> {
    let (there, back) = (stand_in.batch(false), stand_in.batch(true));
    for _ in 0..rounds {
        // SAFETY: the stand-in's chunks belong to nobody else while they are in this batch.
        let mut batch = unsafe { Batch::adopt(host.clone(), &there) };
        bridge.receive(InterfaceId(FROM), &mut batch)?;
        // SAFETY: the stand-in's chunks belong to nobody else while they are in this batch.
        let mut batch = unsafe { Batch::adopt(host.clone(), &back) };
        bridge.receive(InterfaceId(TO), &mut batch)?;
    }
    Ok(())
}
