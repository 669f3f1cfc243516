//! `devn-packet`: a Linux network interface as an io-pkt interface, through AF_PACKET sockets.
//!
//! ```text
//!  io-pkt -d packet dev=eth1
//!  mount -T io-pkt -o dev=eth1,promiscuous devn-packet.so
//! ```
//!
//! Linux keeps using the interface beside io-pkt: both receive everything, and io-pkt does not see what Linux sends.
//! The interface is switched on if it was off; its offloads are switched off (`offload=off`), because they make frames
//! that are not what is on a wire. Both are put back when the driver is unmounted, or by the next start after a crash.
//! Whatever super-frames and unfinished checksums still arrive (a veth's other end has offloads of its own) are cut and
//! completed here, so frames in io-pkt are always whole. `mac=` adds a second station address to the interface
//! and leaves Linux its own; `mtu=` sets the interface's payload size. Needs CAP_NET_RAW, and CAP_NET_ADMIN for settings.
//!
//! | File | What |
//! |---|---|
//! | `device.rs` | the interface comes, goes, has a carrier or not (over a trait) |
//! | `linux.rs` | that trait on the real kernel: options, settings, sockets |
//! | `port.rs` | receiving by ring or messages, sending |
//! | `intake.rs` | received frames into the packet pool |
//! | `offload.rs`, `checksum.rs` | super-frames cut, checksums completed (pure) |
//! | `settings.rs` | what is changed on the interface, and the way back |
//! | `stats.rs` | counters |
//! | `sys.rs`, `sys/` | system calls |

#![deny(unsafe_code)]

mod checksum;
mod device;
mod intake;
mod linux;
mod offload;
mod port;
mod settings;
mod stats;
#[expect(unsafe_code, reason = "system calls")]
mod sys;

use io_pkt_sdk::{Args, Driver, DriverStats, Error, Host, Opt, TxBatch, Work};

use crate::{
    device::Device,
    linux::{Config, Linux},
};

/// One mounted interface.
#[derive(Debug)]
pub struct Packet(Device<Linux>);

impl Driver for Packet {
    const OPTIONS: &'static [Opt] = &[
        Opt::text("dev", "Linux interface, by any of its names (required)"),
        Opt::choice(
            "mode",
            "how to receive: ring, memory shared with the kernel; mmsg, batches of messages; mixed, short frames by the \
             ring and others by messages (default ring)",
            "ring|mmsg|mixed",
        ),
        Opt::choice(
            "send",
            "how to send: mmsg, batches of messages; xdp, through AF_XDP, past the interface's queueing discipline (default mmsg)",
            "mmsg|xdp",
        ),
        Opt::choice(
            "offload",
            "off: switch the interface's offloads off while mounted; keep: leave them (default off)",
            "off|keep",
        ),
        Opt::number("receive", "slots of the receive ring (default 2048; with mode=mixed 8192)", 64, 65536),
    ];

    fn create(host: Host, args: &Args<'_>) -> Result<Self, Error> {
        let config = Config::from_args(args)?;
        let multicast = config.multicast();
        Ok(Self(Device::new(host, Linux::new(config)?, multicast)))
    }

    fn start(&mut self) -> Result<(), Error> {
        self.0.start()
    }

    fn poll(&mut self, work: &mut Work<'_>) -> Result<(), Error> {
        self.0.poll(work)
    }

    fn transmit(&mut self, frames: &mut TxBatch<'_>) -> Result<(), Error> {
        self.0.transmit(frames)
    }

    fn stats(&mut self) -> DriverStats {
        let (counters, link) = self.0.stats();
        counters.report(link.as_ref())
    }

    fn stop(&mut self) {
        self.0.stop();
    }
}

io_pkt_sdk::export_driver!("devn-packet", Packet);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_every_option() {
        let manual = include_str!("../../../docs/drivers.md");
        for option in Packet::OPTIONS {
            let row = format!("| `{}` | {} |\n", option.name(), option.help());
            assert!(manual.contains(&row), "docs/drivers.md lacks: {row}");
        }
    }
}
