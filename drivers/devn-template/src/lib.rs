//! The smallest complete io-pkt driver: a loop-back interface, to copy from.
//!
//! Every frame that is sent comes back as a received one; with `period=MS` the driver also produces a broadcast frame of
//! its own every so many milliseconds. There is no device behind it, so nothing here talks to the system: a real driver
//! has a `sys.rs` for that and watches its descriptor with `Host::watch` (see `devn-tap`). Try it:
//!
//! ```text
//! io-pkt -d template period=1000 -p bridge      then: nicinfo en0
//! ```

// Drivers are safe Rust; the few lines of the export macro that cannot be are fenced off by the macro itself.
#![deny(unsafe_code)]

use io_pkt_sdk::{
    Args, Batch, Driver, DriverStats, Error, Host, Interface, Mac, Opt, Stock, TxBatch, Work, export_driver,
};

/// One use of the driver, that is, one mounted interface. It is made by `create` and dropped after `stop`.
#[derive(Debug)]
pub struct Template {
    /// The host: time, packet pool, interface, deadlines. Clones are cheap.
    host: Host,
    /// What we tell of our interface.
    interface: Interface,
    /// Nanoseconds between two frames of our own; `None` without `period=`.
    period: Option<u64>,
    /// When the next one is due, on the host's clock.
    due: u64,
    /// Frames on their way back. The batch owns their chunks; dropping it would give them back to the pool.
    looped: Batch,
    /// Fresh chunks for frames of our own, fetched 64 at a time.
    stock: Stock,
    /// Counters. `unknown()` says of each one that the device does not count it.
    stats: DriverStats,
}

impl Driver for Template {
    // The host checks what the operator typed against this list, so the code below sees only values that make sense.
    // `mac`, `mtu`, `promiscuous` and `nomulticast` are known for every driver.
    const OPTIONS: &'static [Opt] =
        &[Opt::number("period", "milliseconds between frames of its own (default: none)", 1, 3_600_000)];

    // Looks at the options and makes the use. Nothing outside is touched yet: that is `start`'s work.
    fn create(host: Host, args: &Args<'_>) -> Result<Self, Error> {
        let generic = args.generic();
        // A made-up address, different for each instance and use; a real driver asks its device.
        let number = args.name().bytes().fold(0, |sum: u8, byte| sum.wrapping_mul(10).wrapping_add(byte));
        let own = Mac::local([0, 0x4c, 0x4f, 0x4f, args.instance() as u8, number]);
        Ok(Self {
            interface: Interface {
                mac: generic.mac.unwrap_or(own),
                permanent_mac: own,
                mtu: generic.mtu.unwrap_or(1500),
                promiscuous: generic.promiscuous,
                multicast: generic.multicast,
                system_name: "loop".to_owned(),
                description: "loop-back template driver".to_owned(),
                media: "virtual".to_owned(),
                ..Interface::default()
            },
            period: args.number("period").map(|ms| ms * 1_000_000),
            due: 0,
            looped: host.batch(),
            stock: Stock::new(&host),
            stats: DriverStats {
                tx_packets: 0,
                tx_bytes: 0,
                rx_packets: 0,
                rx_bytes: 0,
                rx_no_memory: 0,
                ..DriverStats::unknown()
            },
            host,
        })
    }

    // Opens the device, makes the interface known, asks for the first call of `poll`.
    fn start(&mut self) -> Result<(), Error> {
        self.host.interface(&self.interface)?;
        if let Some(period) = self.period {
            self.due = self.host.now() + period;
            self.host.set_deadline(Some(self.due));
        }
        Ok(())
    }

    // Called when something happened: a watched descriptor, a deadline, `wake`. Hands what was received to the host.
    fn poll(&mut self, work: &mut Work<'_>) -> Result<(), Error> {
        if let Some(period) = self.period.filter(|_| work.now() >= self.due) {
            let mac = self.interface.mac.0;
            // Destination, source, an ethertype for experiments, and a few words; short frames are padded to 60 bytes.
            let parts: [&[u8]; 4] = [&Mac::BROADCAST.0, &mac, &[0x88, 0xb5], &[b'.'; 46]];
            if self.stock.push(&mut self.looped, &parts).is_err() {
                self.stats.rx_no_memory += 1;
            }
            self.due = work.now() + period;
            self.host.set_deadline(Some(self.due));
        }
        let (frames, bytes) = self.looped.frames().fold((0, 0), |(n, sum), frame| (n + 1, sum + frame.len()));
        self.stats.rx_packets += frames as u64;
        self.stats.rx_bytes += bytes as u64;
        // Counting work tells the loop that spinning pays. The batch is empty after this line and used again.
        work.handled(frames, bytes);
        self.host.deliver(&mut self.looped);
        Ok(())
    }

    // Takes frames to send. What does not fit stays with the host, which offers it again after our next `poll`.
    fn transmit(&mut self, frames: &mut TxBatch<'_>) -> Result<(), Error> {
        let before = self.looped.frames().count();
        frames.move_to(&mut self.looped);
        for frame in self.looped.frames().skip(before) {
            self.stats.tx_packets += 1;
            self.stats.tx_bytes += frame.len() as u64;
        }
        // We must not deliver from here; `poll` does, soon.
        self.host.wake();
        Ok(())
    }

    // For `nicinfo`.
    fn stats(&mut self) -> DriverStats {
        self.stats
    }

    // Nothing was changed outside, so nothing is restored here. Dropping `self` gives the chunks back.
}

// Makes the crate a module: ELF note, handshake, tables.
export_driver!("devn-template", Template);

#[cfg(test)]
mod tests;
