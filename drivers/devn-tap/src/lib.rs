//! `devn-tap`: a virtual Linux interface whose cable ends in io-pkt.
//!
//! ```text
//!  io-pkt -d tap dev=tap0 -p qnet          then, for example: ip addr add 10.0.0.1/24 dev tap0
//!
//!   Linux stack ── tap0 ──[ the TAP ]── en0 ── io-pkt
//! ```
//!
//! `dev=tap0` makes the interface or attaches to one that is there (`ip tuntap add`); without `dev=` the kernel chooses
//! a name. It vanishes at umount unless `persist` is given or it was there before. Both ends are stations: Linux gives
//! `tap0` an address of its own, `mac=` is that of io-pkt's end (made up if not given). `mtu=` sets the payload size of
//! both. Needs CAP_NET_ADMIN, except for a TAP that was made for the user who starts io-pkt.
//!
//! | File | What |
//! |---|---|
//! | `device.rs` | frames between TAP and pool (over a trait) |
//! | `linux.rs` | that trait on the real thing: options, making, setting up |
//! | `stats.rs` | counters |
//! | `sys.rs` | system calls |

#![deny(unsafe_code)]

mod device;
mod linux;
mod stats;
#[expect(unsafe_code, reason = "system calls")]
mod sys;

use io_pkt_sdk::{Args, Driver, DriverStats, Error, Host, Opt, TxBatch, Work};

use crate::{
    device::Device,
    linux::{Config, LinuxTap},
};

/// One mounted TAP.
#[derive(Debug)]
pub struct TapDriver {
    host: Host,
    config: Config,
    device: Option<Device<LinuxTap>>,
}

impl Driver for TapDriver {
    const OPTIONS: &'static [Opt] = &[
        Opt::text("dev", "Linux interface to make or attach to (default: the kernel chooses tap0, tap1, …)"),
        Opt::flag("persist", "leave the interface behind at umount"),
    ];

    fn create(host: Host, args: &Args<'_>) -> Result<Self, Error> {
        Ok(Self { host, config: Config::from_args(args)?, device: None })
    }

    fn start(&mut self) -> Result<(), Error> {
        let tap = LinuxTap::open(&self.config)?;
        let interface = tap.describe(&self.config);
        self.device.insert(Device::new(self.host.clone(), tap, interface)).start()
    }

    fn poll(&mut self, work: &mut Work<'_>) -> Result<(), Error> {
        self.device.as_mut().map_or(Ok(()), |device| device.poll(work))
    }

    fn transmit(&mut self, frames: &mut TxBatch<'_>) -> Result<(), Error> {
        if let Some(device) = &mut self.device {
            device.transmit(frames);
        }
        Ok(())
    }

    fn stats(&mut self) -> DriverStats {
        self.device.as_ref().map_or_else(DriverStats::unknown, |device| device.counters.report())
    }

    fn stop(&mut self) {
        if let Some(mut device) = self.device.take() {
            device.stop();
        }
    }
}

io_pkt_sdk::export_driver!("devn-tap", TapDriver);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_every_option() {
        let manual = include_str!("../../../docs/drivers.md");
        for option in TapDriver::OPTIONS {
            let row = format!("| `{}` | {} |\n", option.name(), option.help());
            assert!(manual.contains(&row), "docs/drivers.md lacks: {row}");
        }
    }
}
