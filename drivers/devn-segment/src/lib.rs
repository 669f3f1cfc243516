//! `devn-segment`: a virtual Ethernet segment between processes of one machine, without any privilege.
//!
//! ```text
//!  io-pkt -d segment path=/tmp/seg -p qnet          any number of io-pkts, each with one or more such lines
//!
//!   port A ──┐        ┌── port B         a connection between every two ports; a frame is sent to those that want it,
//!            ├──┬─────┤                  as a card would: its own address, broadcast, multicast unless nomulticast,
//!   port C ──┘  │     └── port D         everything with promiscuous (which a bridge needs)
//! ```
//!
//! The segment is the directory `path=`: made by the first port (mode 0700: one user's processes), removed by the last.
//! No port is special; any of them may die at any time, and the others go on. A frame is lost only to a port that has
//! read nothing for half a second, and that is counted; a port that reads slowly slows the senders down instead.
//! `mac=` is the port's address (without it one that is the same at every start), `mtu=` its longest frame.
//!
//! | File | What |
//! |---|---|
//! | `address.rs` | the address without `mac=` |
//! | `device.rs` | sending to all, receiving from all |
//! | `peer.rs` | one connection: room, waiting, stalled |
//! | `greeting.rs` | the first packet of a connection (bytes) |
//! | `meeting.rs` | the directory: entering, leaving, dead sockets |
//! | `stats.rs` | counters |
//! | `sys.rs` | system calls |

#![deny(unsafe_code)]

mod address;
mod device;
mod greeting;
mod meeting;
mod peer;
mod stats;
#[expect(unsafe_code, reason = "system calls")]
mod sys;

use std::path::Path;

use io_pkt_sdk::{Args, Driver, DriverStats, Error, Host, Interface, Mac, Opt, TxBatch, Work};

use crate::{address::Origin, device::Port};

/// One port of a segment.
#[derive(Debug)]
pub struct Segment {
    host: Host,
    path: String,
    /// Without an address as long as the port has not entered the segment, unless `mac=` gave it one.
    interface: Interface,
    /// Where the address comes from; `None` with `mac=`.
    origin: Option<Origin>,
    port: Option<Port>,
}

impl Driver for Segment {
    const OPTIONS: &'static [Opt] =
        &[Opt::text("path", "directory where the ports of the segment meet, as in path=/tmp/seg (required)")];

    fn create(host: Host, args: &Args<'_>) -> Result<Self, Error> {
        let Some(path) = args.text("path") else {
            return Err(Error::new(
                libc::EINVAL,
                "path= is missing: the directory where the ports meet, as in path=/tmp/seg",
            ));
        };
        if !Path::new(path).is_absolute() {
            return Err(Error::new(
                libc::EINVAL,
                format!("path={path} does not begin with /; io-pkt has no working directory of yours"),
            ));
        }
        let generic = args.generic();
        if let Some(mac) = generic.mac.filter(|mac| mac.is_group() || *mac == Mac::default()) {
            return Err(Error::new(libc::EINVAL, format!("mac={mac} is not the address of one station")));
        }
        let origin = generic.mac.is_none().then(|| Origin::here(args.root(), args.name(), path));
        let mac = generic.mac.unwrap_or_default();
        let interface = Interface {
            promiscuous: generic.promiscuous,
            multicast: generic.multicast,
            mac,
            permanent_mac: mac,
            mtu: generic.mtu.unwrap_or(1500),
            system_name: path.to_owned(),
            description: "virtual Ethernet segment".to_owned(),
            media: "virtual".to_owned(),
            ..Interface::default()
        };
        Ok(Self { host, path: path.to_owned(), interface, origin, port: None })
    }

    fn start(&mut self) -> Result<(), Error> {
        self.port =
            Some(Port::open(self.host.clone(), &self.path, &mut self.interface, self.origin.as_ref())?);
        Ok(())
    }

    fn poll(&mut self, work: &mut Work<'_>) -> Result<(), Error> {
        if let Some(port) = &mut self.port {
            port.poll(work);
        }
        Ok(())
    }

    fn transmit(&mut self, frames: &mut TxBatch<'_>) -> Result<(), Error> {
        if let Some(port) = &mut self.port {
            port.transmit(frames);
        }
        Ok(())
    }

    fn stats(&mut self) -> DriverStats {
        self.port.as_ref().map_or_else(DriverStats::unknown, |port| port.counters.report())
    }

    fn stop(&mut self) {
        self.port = None;
    }
}

io_pkt_sdk::export_driver!("devn-segment", Segment);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_every_option() {
        let manual = include_str!("../../../docs/drivers.md");
        for option in Segment::OPTIONS {
            let row = format!("| `{}` | {} |\n", option.name(), option.help());
            assert!(manual.contains(&row), "docs/drivers.md lacks: {row}");
        }
    }
}
