//! `devn-pcap`: an interface whose wire is a file. It replays a capture as received frames and records what is sent.
//!
//! ```text
//!  read=in.pcap  ──► original timing, rate=N a second, or as fast as it goes ──► received frames      loop=N times
//!  sent frames   ──► write=out.pcapng                                            (also: tcpdump -r, tshark -r)
//! ```
//!
//! Both classic pcap (either byte order, micro- and nanoseconds) and pcapng are read; which one a file is, its first bytes
//! tell. The format written is pcapng when the name ends in `.pcapng`, else pcap with nanoseconds. All frames of the file are
//! delivered, whatever address they are for, VLAN tags included; those that the capture cut short are skipped and counted,
//! because the frame that was on the wire is not known. A damaged file gives one sentence that names the offset: at the mount
//! when its head is wrong, otherwise in the log when the replay reaches it, and the replay ends there.
//!
//! | File | What |
//! |---|---|
//! | `read.rs`, `read/` | capture files as bytes: pure, over any `Read` |
//! | `write.rs` | the file that is written |
//! | `replay.rs` | when the next frame is due |
//! | `device.rs` | frames between the files and the packet pool |

#![deny(unsafe_code)]

mod device;
mod file;
mod read;
mod replay;
mod write;

use io_pkt_sdk::{Args, Driver, DriverStats, Error, Host, Interface, Mac, Opt, TxBatch, Work};

use crate::{device::Files, replay::Pace};

/// One interface that is a file.
#[derive(Debug)]
pub struct Pcap {
    interface: Interface,
    wanted: device::Wanted,
    host: Host,
    files: Option<Files>,
}

impl Driver for Pcap {
    const OPTIONS: &'static [Opt] = &[
        Opt::text("read", "capture file, pcap or pcapng, to replay as received frames"),
        Opt::text("write", "file to record sent frames in; pcapng when its name ends so, else pcap"),
        Opt::text("rate", "frames a second, or original for the capture's timing (default), or max"),
        Opt::number("loop", "how often to replay the file; 0 for ever (default 1)", 0, u32::MAX as u64),
        Opt::number("snaplen", "bytes to record of each frame (default 262144)", 14, 262_144),
    ];

    fn create(host: Host, args: &Args<'_>) -> Result<Self, Error> {
        let wanted = device::Wanted {
            read: absolute("read", args.text("read"))?,
            write: absolute("write", args.text("write"))?,
            pace: Pace::parse(args.text("rate").unwrap_or("original"))?,
            rounds: args.number("loop").unwrap_or(1),
            snaplen: args.number("snaplen").map_or(write::LONGEST, |bytes| bytes as u32),
        };
        if wanted.read.is_none() && wanted.write.is_none() {
            return Err(invalid("read= and write= are missing: one of them says which file"));
        }
        for (name, given) in [("rate", args.text("rate").is_some()), ("loop", args.number("loop").is_some())]
        {
            if given && wanted.read.is_none() {
                return Err(invalid(&format!("{name}= goes with read=, which is missing")));
            }
        }
        if args.number("snaplen").is_some() && wanted.write.is_none() {
            return Err(invalid("snaplen= goes with write=, which is missing"));
        }
        let generic = args.generic();
        let number = args.name().bytes().fold(0, |sum: u8, byte| sum.wrapping_mul(10).wrapping_add(byte));
        let own = Mac::local([0, 0x50, 0x43, 0x41, args.instance() as u8, number]);
        let interface = Interface {
            mac: generic.mac.unwrap_or(own),
            permanent_mac: own,
            mtu: generic.mtu.unwrap_or(1500),
            promiscuous: generic.promiscuous,
            multicast: generic.multicast,
            system_name: wanted.name(),
            description: "capture file".to_owned(),
            media: "file".to_owned(),
            ..Interface::default()
        };
        Ok(Self { interface, wanted, host, files: None })
    }

    fn start(&mut self) -> Result<(), Error> {
        let files = Files::open(&self.host, &self.wanted)?;
        self.host.interface(&self.interface)?;
        self.files = Some(files);
        self.host.wake();
        Ok(())
    }

    fn poll(&mut self, work: &mut Work<'_>) -> Result<(), Error> {
        if let Some(files) = &mut self.files {
            files.poll(work);
        }
        Ok(())
    }

    fn transmit(&mut self, frames: &mut TxBatch<'_>) -> Result<(), Error> {
        match &mut self.files {
            Some(files) => files.transmit(frames),
            None => frames.finish(frames.len()),
        }
        Ok(())
    }

    fn stats(&mut self) -> DriverStats {
        self.files.as_ref().map_or_else(DriverStats::unknown, |files| files.counters.report())
    }

    fn stop(&mut self) {
        if let Some(mut files) = self.files.take() {
            files.close();
        }
    }
}

fn absolute(option: &str, path: Option<&str>) -> Result<Option<String>, Error> {
    match path {
        Some(path) if !path.starts_with('/') => Err(invalid(&format!(
            "{option}={path} does not begin with /; io-pkt has no working directory of yours"
        ))),
        path => Ok(path.map(str::to_owned)),
    }
}

fn invalid(text: &str) -> Error {
    Error::new(libc::EINVAL, text.to_owned())
}

io_pkt_sdk::export_driver!("devn-pcap", Pcap);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_every_option() {
        let manual = include_str!("../../../docs/drivers.md");
        for option in Pcap::OPTIONS {
            let row = format!("| `{}` | {} |\n", option.name(), option.help());
            assert!(manual.contains(&row), "docs/drivers.md lacks: {row}");
        }
    }
}
